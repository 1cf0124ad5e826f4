"""Slices in the order that people count them, wherever they lie."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.errors import UnreadableImage
from foveal.read.slices import find_slices, gap_of, natural
from pictures import ALPHA, GREY, RGB, WIDE, pil, tiff

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


IN_COLOUR = {
    "rgb.png": (pil(RGB, "PNG"), RGB),
    "alpha.png": (pil(ALPHA, "PNG"), RGB),
    "rgb.bmp": (pil(RGB, "BMP"), RGB),
    "rgb.tif": (tiff(RGB, photometric="rgb"), RGB),
    "planes.tif": (
        tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"),
        RGB,
    ),
    "wide.tif": (tiff(WIDE[3], photometric="rgb"), WIDE[3]),
}


@pytest.mark.parametrize("name", IN_COLOUR)
def test_a_picture_in_colour_is_three_slices(tmp_path: Path, name: str) -> None:
    data, wanted = IN_COLOUR[name]
    (tmp_path / name).write_bytes(data)
    stack = find_slices(str(tmp_path / name))
    assert stack.is_colour
    assert len(set(stack.names)) == 3
    np.testing.assert_array_equal(read(tmp_path / name), np.moveaxis(wanted, 2, 0))


def test_a_grey_picture_saved_in_colour_is_one_slice(tmp_path: Path) -> None:
    (tmp_path / "g.png").write_bytes(pil(np.repeat(GREY, 3, axis=2), "PNG"))
    assert not find_slices(str(tmp_path / "g.png")).is_colour
    np.testing.assert_array_equal(read(tmp_path / "g.png"), GREY[None, :, :, 0])


def test_pictures_in_colour_among_others_are_refused_with_the_cure(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(pil(RGB, "PNG"))
    with pytest.raises(UnreadableImage, match=r"0\.png: 3 channels.*; cure: .* a row of its own"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["z0", "z1", "z3", "z4"], "z1 is followed by z3"),
        (["a/z08", "a/z09", "a/z11"], ""),  # as many jumps as not
        (["z0", "z5", "z10", "z20"], ""),
        (["s1 z0", "s1 z1", "s1 z2", "s2 z0"], "s1 z2 is followed by s2 z0"),
        (["0", "1", "2"], ""),
        (["a", "b"], ""),
        ([], ""),
    ],
)
def test_a_number_that_is_left_out_is_told_of(names: list[str], gap: str) -> None:
    assert gap_of(names) == gap


def test_a_link_to_a_slice_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path / "z0.png", PLANES[0])
    (tmp_path / "z1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage, match=r"z1\.png"):
        read(tmp_path)


def test_signs_that_are_no_plain_digits_are_letters() -> None:
    assert sorted(["z10", "z1²", "z9"], key=natural) == ["z1²", "z9", "z10"]


def test_slices_in_two_formats_are_refused_and_companions_left_out(tmp_path: Path) -> None:
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"z{k}.tif"), np.full((8, 9), k, np.uint8))
        (tmp_path / f"._z{k}.tif").write_bytes(b"of macOS")
    assert len(find_slices(str(tmp_path))) == 3
    cv2.imwrite(str(tmp_path / "z1.png"), np.full((8, 9), 1, np.uint8))
    with pytest.raises(UnreadableImage, match=r"z1\.png and z1\.tif would be two slices; cure"):
        find_slices(str(tmp_path))
    assert len(find_slices(str(tmp_path / "*.tif"))) == 3
