"""A picture that claims to be larger than any is refused before anything is made of it."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.read import image as images
from foveal.read import slices
from foveal.read.image import decode, decode_mask
from foveal.read.slices import find_slices
from pictures import GREY, PALETTE, RGB, picture, pil, planes, read, tiff


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_made(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = bytearray(pil(RGB, "PNG"))
    png[16:29], png[29:33] = header, struct.pack(">I", zlib.crc32(b"IHDR" + header))
    big = tiff(GREY[:, :, 0], metadata=None)
    big = big.replace(struct.pack("<HHII", 256, 4, 1, 31), struct.pack("<HHII", 256, 4, 1, 60_000))
    big = big.replace(struct.pack("<HHII", 257, 4, 1, 23), struct.pack("<HHII", 257, 4, 1, 60_000))
    for data in (bytes(png), big):
        with pytest.raises(UnreadableImage, match="more than 178956970"):
            read(tmp_path, data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
def test_the_largest_size_is_what_who_reads_says(tmp_path, form):
    (tmp_path / "file").write_bytes(pil(GREY[:, :, 0], form))
    pixels = GREY.shape[0] * GREY.shape[1]
    assert decode(str(tmp_path / "file"), limit=pixels).shape[:2] == GREY.shape[:2]
    with pytest.raises(UnreadableImage, match=f"is more than {pixels - 1} pixels; cure"):
        decode(str(tmp_path / "file"), limit=pixels - 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_planes_may_be_larger_than_photographs(tmp_path, monkeypatch, form):
    """Pillow's own limit, and that of photographs, made to lie below the size of this one."""
    path = str(tmp_path / f"file.{form.lower()}")
    Path(path).write_bytes(pil(GREY[:, :, 0], form))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(images, "PIXEL_LIMIT", 100)
    assert decode_mask(path).shape == GREY.shape[:2]
    assert find_slices(path).read(0).shape == GREY.shape[:2]
    monkeypatch.setattr(images, "PLANE_LIMIT", 100)
    monkeypatch.setattr(slices, "PLANE_LIMIT", 100)
    for read_plane in (decode_mask, lambda p: find_slices(p).read(0)):
        with pytest.raises(UnreadableImage, match="is more than 100 pixels; cure"):
            read_plane(path)


PIXELS = GREY.shape[0] * GREY.shape[1]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_picture_in_colour_may_have_as_many_pixels_as_a_grey_one(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "file").write_bytes(pil(RGB, form))
    assert decode(str(tmp_path / "file"), limit=PIXELS).shape == RGB.shape
    with pytest.raises(UnreadableImage, match=f"31 x 23 is more than {PIXELS - 1} pixels; cure"):
        decode(str(tmp_path / "file"), limit=PIXELS - 1)


@pytest.mark.parametrize("kind", ["planes", "samples"])
@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 8), (np.uint16, 4)])
def test_all_planes_of_a_tiff_have_a_bound_of_their_own(
    tmp_path: Path, kind: str, dtype: type, most: int
) -> None:
    for channels in (most, most + 1):
        image = picture(channels, dtype)
        data = tiff(image, planarconfig="contig") if kind == "samples" else tiff(planes(image))
        (tmp_path / str(channels)).write_bytes(data)
    assert decode(str(tmp_path / str(most)), limit=PIXELS).shape[2] == most
    taken = PIXELS * (most + 1) * np.dtype(dtype).itemsize
    words = f"its planes take {taken} bytes, and no more than {8 * PIXELS} are read; cure: "
    with pytest.raises(UnreadableImage, match=re.escape(words)):
        decode(str(tmp_path / str(most + 1)), limit=PIXELS)


def test_of_a_palette_the_colours_count(tmp_path: Path) -> None:
    """Of 16 bit: 6 bytes a pixel, and two planes of them are too many."""
    colours = np.zeros((3, 256), np.uint16)
    for count in (1, 2):
        pages = np.repeat(planes(GREY), count, axis=0).squeeze()
        data = tiff(pages, photometric="palette", colormap=colours)
        (tmp_path / str(count)).write_bytes(data)
    assert decode(str(tmp_path / "1"), limit=PIXELS).shape == RGB.shape
    with pytest.raises(UnreadableImage, match=f"take {12 * PIXELS} bytes"):
        decode(str(tmp_path / "2"), limit=PIXELS)
    (tmp_path / "pil").write_bytes(pil(PALETTE, "TIFF"))
    assert decode(str(tmp_path / "pil"), limit=PIXELS).shape == RGB.shape
