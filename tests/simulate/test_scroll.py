import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.read import find_slices
from foveal.simulate.scroll import SHARE, Faults, Fragment, draw_fragment, simulate_scroll

SMALL = {"fragments": 2, "height": 96, "width": 128}


def drawn(seed: int, **changes: float) -> Fragment:
    rng = np.random.default_rng(seed)
    return draw_fragment(rng, height=128, width=160, depth=16, **changes)


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def plane(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_data_set_is_repeatable(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_scroll(tmp_path / name, **SMALL, seed=seed)
    one, same, other = (contents(tmp_path / name) for name in "abc")
    assert one == same
    assert set(one) == set(other)
    assert {name for name in one if one[name] == other[name]} == {"volumes.csv"}


def test_the_table_names_every_file(tmp_path: Path) -> None:
    told = simulate_scroll(tmp_path, **SMALL, depth=11)
    assert told == {"table": str(tmp_path / "volumes.csv"), "target": "mask", "columns": {}}
    with (tmp_path / "volumes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "slices", "mask", "region"]
    assert [row["id"] for row in rows] == ["fragment1", "fragment2"]
    assert len(contents(tmp_path)) == 1 + 2 * (11 + 2)
    for row in rows:
        stack = find_slices(str(tmp_path / row["slices"]))
        assert [Path(name).stem for name in stack.names] == [f"{z:02d}" for z in range(11)]
        for name in stack.names:
            assert plane(Path(name)).shape == (96, 128)
            assert plane(Path(name)).dtype == np.uint16
        for mask in (plane(tmp_path / row["mask"]), plane(tmp_path / row["region"])):
            assert mask.shape == (96, 128)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("seed", range(4))
def test_ink_is_a_small_part_of_one_piece(seed: int) -> None:
    fragment = drawn(seed)
    assert not (fragment.ink & ~fragment.region).any()
    assert 0.1 <= fragment.ink.sum() / fragment.region.sum() <= SHARE[1]
    assert 0.7 <= fragment.region.mean() <= 0.85
    assert cv2.connectedComponents(fragment.region.astype(np.uint8), connectivity=4)[0] == 2
    air = fragment.slices[:, ~fragment.region].mean()
    assert air < 0.8 * fragment.slices.mean(axis=0)[fragment.region].mean()


def test_ink_follows_the_surface_faintly() -> None:
    fragment, bare = drawn(3), drawn(3, ink=0.0)
    assert np.array_equal(fragment.ink, bare.ink)
    added = fragment.slices.astype(float) - bare.slices
    assert not added[:, ~fragment.ink].any()
    where = (added > 0).any(axis=0)
    assert where.sum() > 0.95 * fragment.ink.sum()
    assert (added != 0).sum(axis=0).max() <= 3
    found = added.argmax(axis=0)[where]
    assert len(np.unique(found)) >= 4
    assert np.abs(found - fragment.surface[where]).max() < 1.5
    below = np.minimum(np.round(fragment.surface + 1).astype(int), 15)
    texture = np.take_along_axis(bare.slices, below[None], 0)[0][fragment.region].std()
    assert 0.2 * texture < added.max(axis=0)[where].mean() < 0.8 * texture


def test_the_surface_wanders_over_the_middle_third() -> None:
    surface = drawn(5).surface
    assert 4.5 < surface.min() < 6
    assert 10 < surface.max() < 11.5


def test_fragments_differ_in_contrast() -> None:
    spread = [float(drawn(seed).slices.std()) for seed in range(4)]
    assert max(spread) > 1.15 * min(spread)
    assert len(set(spread)) == 4


def test_the_last_fragment_is_turned_with_its_masks(tmp_path: Path) -> None:
    simulate_scroll(tmp_path / "plain", **SMALL)
    simulate_scroll(tmp_path / "turned", **SMALL, faults=Faults(rotate=True))
    plain, turned = contents(tmp_path / "plain"), contents(tmp_path / "turned")
    changed = {name for name in plain if plain[name] != turned[name]}
    assert changed == {name for name in plain if name.startswith("fragment2/")}
    for name in changed:
        before, after = plane(tmp_path / "plain" / name), plane(tmp_path / "turned" / name)
        assert np.array_equal(np.rot90(before), after)


def test_only_the_masks_of_the_ink_are_shifted(tmp_path: Path) -> None:
    simulate_scroll(tmp_path / "plain", **SMALL)
    simulate_scroll(tmp_path / "moved", **SMALL, faults=Faults(label_shift=5))
    plain, moved = contents(tmp_path / "plain"), contents(tmp_path / "moved")
    changed = {name for name in plain if plain[name] != moved[name]}
    assert changed == {"fragment1/ink.png", "fragment2/ink.png"}
    for name in changed:
        before, after = plane(tmp_path / "plain" / name), plane(tmp_path / "moved" / name)
        assert np.array_equal(before[:, :-5], after[:, 5:])
        assert not after[:, :5].any()
