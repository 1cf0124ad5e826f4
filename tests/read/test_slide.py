"""All of a slide from its smallest level, and whatever is no slide says so."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.read.slide import level_for, open_slide, overview, scene
from pyramids import ODD, TILE, noise, refused, shrunk, whole, write_levels


class Watched:
    """A slide that remembers what is asked of it."""

    def __init__(self, slide: Any) -> None:
        self.path, self.levels, self.channels = slide.path, slide.levels, slide.channels
        self.bits, self.spacing_um, self.fingerprint = (
            slide.bits,
            slide.spacing_um,
            slide.fingerprint,
        )
        self.slide, self.asked = slide, []

    def fill(self, out: np.ndarray, level: int, corners: np.ndarray) -> None:
        self.slide.fill(out, level, corners)

    def read(self, level: int, *, top: int, left: int, height: int, width: int) -> np.ndarray:
        self.asked.append((level, top, left, height, width))
        return self.slide.read(level, top=top, left=left, height=height, width=width)


FORMS: dict[str, dict] = {
    "deflate": {"compression": "deflate"},
    "strips": {"tile": None, "rowsperstrip": 7, "compression": "lzw"},
    "white is 0": {"channels": (), "photometric": "miniswhite", "compression": "lzw"},
    "16 bit": {"dtype": np.uint16, "compression": "deflate", "predictor": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("side", "factor"), [(500, 1), (203, 1), (202, 2), (70, 4), (50, 8), (29, 8), (10, 32)]
)
def test_an_overview_is_the_mean_of_areas(
    tmp_path: Path, form: str, side: int, factor: int
) -> None:
    more = dict(FORMS[form])
    pixels = noise(*ODD, *more.pop("channels", (3,)), dtype=more.pop("dtype", np.uint8))
    path = write_levels(tmp_path / "a.tiff", [pixels], **more)
    edge = [(0, -length % factor) for length in ODD]
    full = np.pad(whole(path, 0).astype(np.float64), (*edge, (0, 0)), mode="edge")
    cells = full.reshape(full.shape[0] // factor, factor, full.shape[1] // factor, factor, -1)
    with open_slide(str(path)) as slide:
        got = overview(slide, side)
    assert max(got.shape[:2]) <= side
    assert np.abs(got - cells.mean(axis=(1, 3))).max() <= 0.501


@pytest.mark.parametrize("tile", [16, 240, 1008])
@pytest.mark.parametrize("side", [700, 100, 40])
def test_pieces_of_an_overview_are_whole_tiles_unless_these_would_be_large(
    tmp_path: Path, tile: int, side: int
) -> None:
    height, width = 1300, 1100
    path = write_levels(tmp_path / "a.tiff", [noise(height, width, 3)], tile=(tile, tile))
    with open_slide(str(path)) as slide:
        watched = Watched(slide)
        overview(watched, side)
    seen = np.zeros((height, width), np.uint8)
    for _, top, left, high, wide in watched.asked:
        seen[top : top + high, left : left + wide] += 1
        assert max(high, wide) <= 1024
        assert (tile == 1008) or top % tile == left % tile == 0
    assert (seen == 1).all()


def test_an_overview_is_from_the_smallest_level_that_shows_enough(tmp_path: Path) -> None:
    pixels = noise(400, 640, 3)
    path = write_levels(tmp_path / "a.tiff", [pixels, shrunk(pixels, 4), shrunk(pixels, 16)])
    with open_slide(str(path)) as slide:
        np.testing.assert_array_equal(overview(slide, 512), shrunk(pixels, 4))  # 160 wide, not 40
        watched = Watched(slide)
        assert overview(watched, 80).shape == (50, 80, 3)
        assert {asked[0] for asked in watched.asked} == {1}
    tiny = write_levels(tmp_path / "b.tiff", [pixels[:60, :80], pixels[:60:4, :80:4]])
    with open_slide(str(tiny)) as slide:
        np.testing.assert_array_equal(overview(slide, 512), pixels[:60, :80])


def test_the_level_for_a_resolution_is_the_coarsest_that_shows_it() -> None:
    levels = [SimpleNamespace(downsample=d) for d in (1.0, 4.001, 16.02, 63.0)]
    other = {"path": "", "channels": 3, "bits": 8, "spacing_um": None, "fingerprint": str}
    slide = Watched(SimpleNamespace(levels=levels, **other))
    wanted = {0.3: 0, 1: 0, 3.9: 0, 3.98: 1, 4: 1, 15: 1, 16: 2, 62: 2, 62.9: 3, 500: 3}
    assert {d: level_for(slide, float(d)) for d in wanted} == wanted


def test_a_scene_is_a_picture_or_the_overview_of_a_slide(tmp_path: Path) -> None:
    pixels = noise(400, 640)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    np.testing.assert_array_equal(scene(str(tmp_path / "m.png"), 100)[:, :, 0], pixels)
    more = {"photometric": "minisblack", "compression": "lzw"}
    path = write_levels(tmp_path / "m.tiff", [pixels, shrunk(pixels, 4)], **more)
    np.testing.assert_array_equal(scene(str(path), 200)[:, :, 0], shrunk(pixels, 4))
    assert scene(str(path), 80).shape == (50, 80, 1)
    (tmp_path / "n.png").write_bytes(b"no picture")
    for name in ("n.png", "none.tiff"):
        with pytest.raises(UnreadableImage, match=name):
            scene(str(tmp_path / name), 80)


def test_labels_of_16_bit_are_not_lost(tmp_path: Path) -> None:
    labels = noise(400, 640) % 6
    more = {"photometric": "minisblack", "compression": "lzw"}
    path = write_levels(tmp_path / "m.tiff", [labels.astype(np.uint16)], **more)
    assert len(np.unique(scene(str(path), 640))) == 6


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "directory"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("id,grade\na,1\n"), "no TIFF; cure.*openslide-python"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_is_an_error_that_names_the_file(tmp_path: Path, harm: str) -> None:
    act, words = HARMS[harm]
    path = write_levels(tmp_path / "slide.tiff", [noise(*ODD, 3)])
    act(path)
    refused(path, words)


def test_a_name_that_is_none_is_an_error() -> None:
    refused("a\0b.tiff", "null")


def test_where_a_mask_leaves_tiles_out_nothing_is_marked(tmp_path: Path) -> None:
    marked = np.full(TILE, 2, np.uint8)
    with tifffile.TiffWriter(tmp_path / "mask.tiff") as file:
        for side, tiles in ((16, 256), (8, 64)):
            shape = (side * TILE[0], side * TILE[1])
            said = {"shape": shape, "dtype": np.uint8, "tile": TILE, "metadata": None}
            only = iter([marked, *[None] * (tiles - 1)])
            file.write(only, photometric="minisblack", subfiletype=int(side < 16), **said)
    seen = scene(str(tmp_path / "mask.tiff"), 512)
    assert set(np.unique(seen)) == {0, 2}
    assert seen.mean() == pytest.approx(2 / 64, rel=0.01)
