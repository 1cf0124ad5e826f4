"""Folds over volumes: whole ones where there are enough, else the same places of all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import SplitError
from foveal.manifest import Case, Manifest
from foveal.split import Split
from foveal.split.volumes import VolumeFolds

SIZE = (64, 96)


def manifest(
    sizes: list[tuple[int, int]],
    *,
    physical: list[int] | None = None,
    same: tuple[int, ...] = (),
    **roles: list[str],
) -> Manifest:
    n = len(sizes)
    sha = [f"s{min(same)}" if k in same else f"s{k}" for k in range(n)]
    return Manifest(
        ids=tuple(f"v{k}" for k in range(n)),
        paths=tuple((f"/v{k}",) for k in range(n)),
        id_column="id",
        target=np.array([[f"/m{k}.png"] for k in range(n)], dtype=np.str_),
        target_columns=("mask",),
        roles={k: np.array(v, dtype=np.str_) for k, v in roles.items()},
        measured={
            "image_size": np.array([f"{h}x{w}" for h, w in sizes]),
            "sha256": np.array(sha),
            "physical": np.array([f"volume {k}" for k in physical or range(n)]),
        },
    )


def regions(sizes: list[tuple[int, int]], seed: int | None = None) -> list[np.ndarray]:
    """Where volumes count: everywhere, or in one random rectangle each."""
    found = []
    rng = np.random.default_rng(seed)
    for height, width in sizes:
        region = np.ones((height, width), dtype=bool)
        if seed is not None:
            region[:] = False
            top, left = rng.integers(0, height // 3), rng.integers(0, width // 3)
            region[top : top + height // 2, left : left + width // 2] = True
        found.append(region)
    return found


def folds(number: int, of: list[np.ndarray], lattice: int = 4, seed: int = 0) -> VolumeFolds:
    def profile(case: Case, axis: int) -> np.ndarray:
        return of[int(case.id.removeprefix("v"))].sum(axis=1 - axis).astype(np.float64)

    return VolumeFolds(number, lattice, profile, seed)


def split(sizes: list[tuple[int, int]], number: int, **more: object) -> Split:
    return folds(number, regions(sizes))(manifest(sizes, **more))


# --- whole volumes --------------------------------------------------------------------------------


@pytest.mark.parametrize(("volumes", "number"), [(2, 2), (5, 5), (7, 3), (12, 5)])
def test_where_there_are_enough_volumes_stay_whole(volumes: int, number: int) -> None:
    made = split([SIZE] * volumes, number)
    assert made.window is None
    assert made.row is None
    assert made.folds == number
    counts = np.bincount(made.fold)
    assert counts.max() - counts.min() <= 1
    assert len(set(made.group.tolist())) == volumes
    assert sum("volumes that it has not seen" in note for note in made.notes) == 1
    assert not any("parts" in note for note in made.notes)
    assert any("intervals draw blocks" in note for note in made.notes) == (volumes < 4)


def test_masks_of_other_names_are_no_classes() -> None:
    made = split([SIZE] * 8, 4)
    assert made.imbalance == 0
    assert len(set(made.kind.tolist())) == 1


def test_volumes_that_share_files_or_bytes_are_one() -> None:
    by_file = split([SIZE] * 6, 3, physical=[0, 0, 2, 3, 3, 3])
    assert by_file.fold[0] == by_file.fold[1]
    assert len(set(by_file.fold[3:].tolist())) == 1
    by_bytes = split([SIZE] * 4, 3, same=(1, 3))
    assert by_bytes.fold[1] == by_bytes.fold[3]
    for made in (by_file, by_bytes):
        assert made.window is None
        assert made.folds == 3


def test_volumes_that_are_one_are_too_few_together() -> None:
    made = split([SIZE] * 3, 3, physical=[0, 0, 2])
    assert made.window is not None
    assert "2 volumes for 3 folds" in made.notes[0]
    assert split([SIZE] * 3, 3, same=(0, 2)).window is not None


def test_a_group_column_is_kept_whatever_was_asked() -> None:
    made = split([SIZE] * 5, 5, group=["x", "x", "y", "y", "z"])
    assert made.window is None
    assert made.folds == 3
    assert made.fold[0] == made.fold[1]
    assert made.fold[2] == made.fold[3]
    assert any("3 folds instead of 5" in note for note in made.notes)
    with pytest.raises(SplitError, match="one group"):
        split([SIZE] * 2, 2, group=["x", "x"])


def test_ones_own_folds_are_kept() -> None:
    made = split([SIZE] * 4, 5, fold=["p", "q", "q", "p"])
    assert made.window is None
    assert made.fold.tolist() == [0, 1, 1, 0]


def test_the_seed_chooses_among_folds_as_good() -> None:
    sizes = [SIZE] * 9
    of = regions(sizes)
    found = {tuple(folds(3, of, seed=s)(manifest(sizes)).fold.tolist()) for s in range(6)}
    assert len(found) > 1


# --- parts ----------------------------------------------------------------------------------------

SIDES = st.tuples(st.integers(50, 130), st.integers(50, 130))


@given(
    sizes=st.lists(SIDES, min_size=1, max_size=3),
    more=st.integers(1, 3),
    lattice=st.sampled_from([1, 4, 8]),
    seed=st.none() | st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None, database=None)
def test_parts_tile_every_plane_between_cells(
    sizes: list[tuple[int, int]], more: int, lattice: int, seed: int | None
) -> None:
    number = len(sizes) + more
    of = regions(sizes, seed)
    try:
        made = folds(number, of, lattice)(manifest(sizes))
    except SplitError:
        if seed is None and lattice * number <= 40:
            raise
        return
    assert made.folds == number
    assert made.row.tolist() == [k for k in range(len(sizes)) for _ in range(number)]
    for k, size in enumerate(sizes):
        seen = np.zeros(size, dtype=int)
        for row in np.flatnonzero(made.row == k):
            w = made.window[row]
            assert w.top % lattice == w.left % lattice == 0
            assert min(w.height, w.width) > 0
            assert w.top + w.height <= size[0]
            assert w.left + w.width <= size[1]
            seen[w.top : w.top + w.height, w.left : w.left + w.width] += 1
        assert (seen == 1).all()


@given(
    sizes=st.lists(SIDES, min_size=1, max_size=3),
    more=st.integers(1, 2),
    seed=st.none() | st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None, database=None)
def test_parts_hold_the_same_area_of_all_regions_together(
    sizes: list[tuple[int, int]], more: int, seed: int | None
) -> None:
    number, lattice = len(sizes) + more, 4
    of = regions(sizes, seed)
    try:
        made = folds(number, of, lattice)(manifest(sizes))
    except SplitError:
        return
    held = np.zeros(number)
    for row, part, w in zip(made.row.tolist(), made.fold.tolist(), made.window, strict=True):
        inside = of[row][w.top : w.top + w.height, w.left : w.left + w.width]
        held[part] += inside.sum()
    line = sum((lattice / 2 + 1) * max(size) for size in sizes)  # both ends are off by half a cell
    assert np.abs(held - sum(r.sum() for r in of) / number).max() <= 2 * line


@pytest.mark.parametrize(
    ("sizes", "axis"), [([(64, 96)], 1), ([(96, 64)], 0), ([(64, 96), (200, 70)], 0)]
)
def test_the_longer_side_is_cut_at_the_same_lines_in_all(
    sizes: list[tuple[int, int]], axis: int
) -> None:
    made = split(sizes, 4)
    for row, part, w in zip(made.row.tolist(), made.fold.tolist(), made.window, strict=True):
        height, width = sizes[row]
        start, side = (w.left, width) if axis else (w.top, height)
        assert abs(start / side - part / 4) <= 2 / side + 1e-9
        assert (w.height, w.top) == (height, 0) if axis else (w.width, w.left) == (width, 0)


def test_parts_of_one_place_share_a_fold_and_a_group() -> None:
    made = split([(64, 96), (64, 96)], 3)
    assert made.fold.tolist() == [0, 1, 2] * 2
    assert made.group.tolist() == made.fold.tolist()
    assert made.window[:3] == made.window[3:]
    for fold in range(3):
        assert made.learns(fold).tolist() == [k % 3 != fold for k in range(6)]


@pytest.mark.parametrize(("number", "words"), [(1, "1 volume for"), (2, "2 volumes for")])
def test_notes_say_that_volumes_were_cut(number: int, words: str) -> None:
    (note,) = split([SIZE] * number, 3).notes
    assert words in note
    assert "cut into 3 parts along its columns" in note
    assert "no unseen volumes" in note
    (tall,) = split([(96, 64)] * number, 3).notes
    assert "along its rows" in tall


def test_a_plane_too_narrow_is_an_error() -> None:
    assert split([(6, 12)], 3).folds == 3
    with pytest.raises(SplitError, match="cannot be cut into 4 parts of whole") as error:
        split([(6, 12)], 4)
    assert "12 pixels" in error.value.culprits[0]
    with pytest.raises(SplitError, match="1 volumes cannot be cut") as error:
        split([(64, 96), (3, 5)], 3)
    assert "a side of 5 pixels" in error.value.culprits[0]


def test_regions_that_are_empty_are_an_error() -> None:
    of = [np.zeros(SIZE, dtype=bool)]
    with pytest.raises(SplitError, match="empty"):
        folds(2, of)(manifest([SIZE]))


@pytest.mark.parametrize("volumes", [1, 5])
def test_one_fold_is_an_error(volumes: int) -> None:
    with pytest.raises(SplitError, match="at least 2"):
        split([SIZE] * volumes, 1)


@pytest.mark.parametrize("sizes", [[SIZE] * 2, [(64, 96), (130, 33)], [SIZE] * 5])
def test_folds_come_back_from_their_file(sizes: list[tuple[int, int]]) -> None:
    table = manifest(sizes)
    made = folds(4, regions(sizes))(table)
    again = Split.from_csv(made.to_csv(table.ids), table.ids)
    for name in ("fold", "hidden", "group", "kind"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    assert again.window == made.window
    assert (again.row is None) == (made.row is None)
    if made.row is not None:
        np.testing.assert_array_equal(again.row, made.row)
    assert Split.from_csv(made.to_csv(table.ids), ("other", *table.ids[1:])) is None


def test_units_are_named_after_their_volume_and_keep_what_is_known_of_it() -> None:
    table = manifest([SIZE, (64, 64)], site=["p", "q"])
    made = folds(3, regions([SIZE, (64, 64)]))(table)
    units = made.units(table)
    assert units.ids == ("v0/0", "v0/1", "v0/2", "v1/0", "v1/1", "v1/2")
    for k, case in enumerate(units.cases()):
        assert case == replace(table.case(int(made.row[k])), id=units.ids[k], window=made.window[k])
    assert units.target[:, 0].tolist() == ["/m0.png"] * 3 + ["/m1.png"] * 3
    whole = manifest([SIZE] * 5)
    assert folds(5, regions([SIZE] * 5))(whole).units(whole) is whole
