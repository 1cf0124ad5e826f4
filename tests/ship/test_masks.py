"""Masks as files and as runs: as large as the slices, inside the region, one of each volume."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.lattice import Planes
from foveal.manifest import Case, Truth
from foveal.members.volumes import as_predictions
from foveal.ship.masks import MaskFolder, run_lengths
from foveal.task import Asked, Given


def asked(folder: Path, *ids: str, region: np.ndarray | None = None) -> Asked:
    """Volumes of one slice of 13 x 18 pixels."""
    cv2.imwrite(str(folder / "slice.png"), np.full((13, 18), 90, np.uint8))
    paths = [str(folder / "slice.png")]
    if region is not None:
        cv2.imwrite(str(folder / "region.png"), region.astype(np.uint8))
        paths.append(str(folder / "region.png"))
    cases = tuple(Case(id=name, paths=tuple(paths)) for name in ids)
    return Asked(ids=ids, cases=cases, id_column="id", target_columns=("m",), scores=True)


def told(names: tuple[str, ...], plane: np.ndarray, label: np.ndarray) -> Given:
    cases = [Case(id=name, paths=()) for name in names]
    said = as_predictions(cases, [plane] * len(names), seconds=[0.0] * len(names), peak_bytes=0)
    return Given(ids=names, labels=[label] * len(names), predictions=said)


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@given(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(max_examples=40, deadline=None, database=None)
def test_runs_are_the_mask(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < share
    numbers = [int(n) for n in run_lengths(mask).split()]
    drawn = np.zeros(mask.size, dtype=bool)
    ends = [0]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert start > ends[-1] + 1 or len(ends) == 1
        drawn[start - 1 : start - 1 + length] = True
        ends.append(start - 1 + length)
    np.testing.assert_array_equal(drawn.reshape(mask.shape), mask)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_middles_of_cells_are_marked_as_they_were_decided(tmp_path: Path, threshold: float) -> None:
    plane = np.random.default_rng(0).random((5, 6)).astype(np.float32)  # cells of 3 pixels
    label = plane >= threshold
    MaskFolder(3).write(tmp_path / "o", asked(tmp_path, "a"), told(("a",), plane, label))
    mask = read(tmp_path / "o/a.png")
    assert mask.shape == (13, 18)
    assert set(np.unique(mask).tolist()) == {0, 255}
    np.testing.assert_array_equal(mask[1::3, 1::3] > 0, label[:4])
    deep = read(tmp_path / "o/probability/a.png")
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep[1::3, 1::3] / 65535, plane[:4], atol=1e-4)


@pytest.mark.parametrize("lattice", [2, 4, 8])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_small_object_is_about_as_large_as_its_cells(
    tmp_path: Path, side: int, lattice: int
) -> None:
    plane = np.full((9, 9), 0.1, dtype=np.float32)
    plane[3 : 3 + side, 4 : 4 + side] = 0.9
    cv2.imwrite(str(tmp_path / "large.png"), np.full((9 * lattice, 9 * lattice), 90, np.uint8))
    form = asked(tmp_path, "a")
    case = Case(id="a", paths=(str(tmp_path / "large.png"),))
    form = replace(form, cases=(case,))
    MaskFolder(lattice).write(tmp_path / "o", form, told(("a",), plane, plane > 0.5))
    found = (read(tmp_path / "o/a.png") > 0).sum() / lattice**2
    assert 0.6 * side**2 <= found <= 1.4 * side**2


def test_nothing_is_marked_outside_the_region_and_all_that_was_decided_inside(
    tmp_path: Path,
) -> None:
    region = np.zeros((13, 18), dtype=bool)
    region[2:11, 3:10] = True  # cells of 4 pixels that are partly outside
    plane = np.zeros((4, 5), dtype=np.float32)
    plane[:3, :3] = 0.9
    form = asked(tmp_path, "a", region=region)
    MaskFolder(4).write(tmp_path / "o", form, told(("a",), plane, plane > 0))
    np.testing.assert_array_equal(read(tmp_path / "o/a.png") > 0, region)


def test_what_is_not_known_is_empty_and_as_large(tmp_path: Path) -> None:
    plane = np.full((4, 5), 0.9, dtype=np.float32)
    form = asked(tmp_path, "a", "b")
    MaskFolder(4).write(tmp_path / "o", form, told(("b",), plane, plane > 0))
    assert not read(tmp_path / "o/a.png").any()
    assert read(tmp_path / "o/b.png").all()
    assert read(tmp_path / "o/a.png").shape == (13, 18)
    rows = (tmp_path / "o/masks.csv").read_text().splitlines()
    assert rows == ["id,rle", "a,", f"b,1 {13 * 18}"]


def test_every_volume_has_a_file_of_its_own(tmp_path: Path) -> None:
    form = asked(tmp_path, "a/b", "a_b")
    plane = np.full((4, 5), 0.9, dtype=np.float32)
    MaskFolder(4).write(tmp_path / "o", form, told(("a_b",), plane, plane > 0))
    assert len(list((tmp_path / "o").glob("*.png"))) == 2


def test_out_of_fold_says_pixels_without_their_weight() -> None:
    area = np.full((1, 2), 16, dtype=np.float32)
    positive = np.array([[12, 4]], dtype=np.float32)
    truth = Truth(
        target=Planes((positive,), (area,)),
        weight=np.array([0.25]),
        group=np.zeros(1, dtype=np.int64),
        fold=np.zeros(1, dtype=np.int64),
    )
    label = np.array([[True, False]])
    said = told(("a",), np.array([[0.9, 0.1]], dtype=np.float32), label).predictions
    got = MaskFolder(4).out_of_fold([label], said, truth)
    assert (got["hit"], got["given"], got["true"]) == (["12"], ["16"], ["16"])
    assert got["dice"] == got["f_0.5"] == ["0.75"]


def test_the_files_of_an_answer_are_those_that_it_writes(tmp_path: Path) -> None:
    plane = np.full((4, 5), 0.9, dtype=np.float32)
    form, out = asked(tmp_path, "a/b", "c%"), tmp_path / "o"
    MaskFolder(4).write(out, form, told(("c%",), plane, plane > 0))
    assert {p for p in out.rglob("*") if p.is_file()} == {*MaskFolder(4).files(out, form)}
