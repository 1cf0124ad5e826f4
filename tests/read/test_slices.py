"""Slices in the order that people count them, wherever they lie."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.read.slices import find_slices

PLANES = np.random.default_rng(0).integers(0, 255, (11, 6, 8), np.uint8)


def write(path: Path, plane: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), plane)


def read(place: Path | str) -> np.ndarray:
    stack = find_slices(str(place))
    return np.stack([stack.read(k) for k in range(len(stack.names))])


def test_a_pattern_of_folders_is_in_their_natural_order(tmp_path: Path) -> None:
    for k, plane in enumerate(PLANES):
        write(tmp_path / f"scan/z{k}/s.png", plane)
    np.testing.assert_array_equal(read(tmp_path / "scan/*/s.png"), PLANES)


def test_names_that_count_alike_have_one_order(tmp_path: Path) -> None:
    for name, plane in zip(("01.png", "1.png", "001.png"), PLANES, strict=False):
        write(tmp_path / name, plane)
    assert [Path(n).name for n in find_slices(str(tmp_path)).names] == [
        "001.png",
        "01.png",
        "1.png",
    ]


@pytest.mark.parametrize("folder", ["run[1]", "what?", "a*b"])
def test_a_folder_that_is_there_is_meant_as_it_is_written(tmp_path: Path, folder: str) -> None:
    for k, plane in enumerate(PLANES):
        write(tmp_path / folder / f"z{k}.png", plane)
    write(tmp_path / "run1/z0.png", PLANES[3])
    np.testing.assert_array_equal(read(tmp_path / folder / "*.png"), PLANES)
    np.testing.assert_array_equal(read(tmp_path / folder / "z[3-5].png"), PLANES[3:6])
