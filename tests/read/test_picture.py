"""A PNG or JPEG as a slide of one level, told by its content."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.read.slide import open_slide, overview
from pyramids import ODD, crop, fingerprint, noise, refused


@pytest.mark.parametrize("kind", ["grey", "colour", "16 bit"])
@pytest.mark.parametrize("name", ["s.png", "s.tiff"])
def test_a_picture_is_a_slide_of_one_level(tmp_path: Path, name: str, kind: str) -> None:
    pixels = noise(*ODD, 1 if kind == "grey" else 3)
    values = pixels.astype(np.uint16) * 257 if kind == "16 bit" else pixels
    data = cv2.imencode(".png", values[:, :, ::-1] if values.shape[2] == 3 else values)[1]
    (tmp_path / name).write_bytes(data.tobytes())
    with open_slide(str(tmp_path / name)) as slide:
        whole = slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])
        np.testing.assert_array_equal(whole, pixels)
        assert [(one.height, one.width, one.downsample) for one in slide.levels] == [(*ODD, 1.0)]
        assert (slide.bits, slide.spacing_um) == (16 if kind == "16 bit" else 8, None)
        corners = np.array([(-5, -7), (3, 4), (ODD[0] - 6, ODD[1] - 3), (-50, 2), (9, ODD[1] + 50)])
        out = np.empty((len(corners), 20, 30, slide.channels), np.uint8)
        slide.fill(out, 0, corners)
        for region, (top, left) in zip(out, corners.tolist(), strict=True):
            np.testing.assert_array_equal(region, crop(pixels, top, left, 20, 30))
        assert max(overview(slide, 40).shape[:2]) <= 40


def test_a_jpeg_is_one_too_unless_it_stands_for_a_slide_of_mirax(tmp_path: Path) -> None:
    for name in ("s.jpg", "s.mrxs"):
        Image.fromarray(noise(*ODD, 3)).save(tmp_path / name, "JPEG")
    with open_slide(str(tmp_path / "s.jpg")) as slide:
        assert (slide.levels[0].height, slide.levels[0].width, slide.channels) == (*ODD, 3)
    refused(tmp_path / "s.mrxs", r"no TIFF; cure .*: pip install openslide-python")


def test_a_picture_is_known_by_its_pixels(tmp_path: Path) -> None:
    pixels = noise(*ODD, 3)
    for name, level in (("a.png", 1), ("b.png", 9)):
        Image.fromarray(pixels).save(tmp_path / name, compress_level=level)
    Image.fromarray(255 - pixels).save(tmp_path / "c.png")
    assert fingerprint(tmp_path / "a.png") == fingerprint(tmp_path / "b.png")
    assert fingerprint(tmp_path / "a.png") != fingerprint(tmp_path / "c.png")


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    Image.fromarray(noise(*ODD, 3)).save(tmp_path / "s.png")
    (tmp_path / "s.png").write_bytes((tmp_path / "s.png").read_bytes()[:90])
    refused(tmp_path / "s.png", "truncated")


def test_values_of_fewer_bits_than_16_fill_the_8_that_are_read(tmp_path: Path) -> None:
    plain = noise(40, 50, 3)
    plain[0, 0] = 255
    cv2.imwrite(str(tmp_path / "deep.png"), plain[:, :, ::-1].astype(np.uint16) << 4)
    with open_slide(str(tmp_path / "deep.png")) as slide:
        np.testing.assert_array_equal(slide.read(0, top=0, left=0, height=40, width=50), plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_transparent_shows_glass(tmp_path: Path, dtype: type) -> None:
    full = np.iinfo(dtype).max
    pixels = np.zeros((*ODD, 4), dtype)
    pixels[:, :, 3] = full
    pixels[:9, :9, 3] = 0
    pixels[-1, -1, :3] = full  # white, so that all bits are used
    cv2.imwrite(str(tmp_path / "s.png"), pixels)
    with open_slide(str(tmp_path / "s.png")) as slide:
        seen = slide.read(0, top=0, left=0, height=12, width=12)
    assert (seen[:9, :9] == 255).all()
    assert (seen[9:] == 0).all()
