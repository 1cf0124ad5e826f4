"""Any region of any level is what decoding all of it gives; whatever cannot be read says so."""

import base64
import gc
import os
import shutil
import sys
import tomllib
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from foveal.read import slide as slides
from foveal.read.image import UnreadableImage
from foveal.read.slide import level_for, open_slide, overview, scene
from pyramids import TILE, noise, shrunk, write_levels

ODD = (203, 157)
"""Height and width that neither tiles nor levels divide."""


def whole(path: Path, level: int) -> np.ndarray:
    """A whole level as tifffile decodes it, 8 bit, without alpha, light as light."""
    with tifffile.TiffFile(path) as file:
        pages = [page.aspage() for page in file.pages]
        pages += [sub.aspage() for page in pages for sub in page.pages or ()]
        page = sorted(pages, key=lambda page: -page.imagelength)[level]
        pixels = page.asarray()
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    pixels = pixels[:, :, : pixels.shape[2] - len(page.extrasamples)]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels if pixels.dtype == np.uint8 else (pixels // 256).astype(np.uint8)


def crop(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A region, white where it lies outside."""
    far = 400
    around = np.pad(pixels, ((far, far), (far, far), (0, 0)), constant_values=255)
    return around[far + top : far + top + height, far + left : far + left + width]


def pieces(pixels: np.ndarray, tile: tuple[int, int] = TILE) -> list[np.ndarray]:
    """The tiles of a picture in the order of a file, white beyond its edges."""
    (high, wide), (rows, columns) = (
        tile,
        (-(-n // t) for n, t in zip(pixels.shape, tile, strict=False)),
    )
    places = [(high * row, wide * column) for row in range(rows) for column in range(columns)]
    return [np.ascontiguousarray(crop(pixels, *place, high, wide)) for place in places]


def write_tiles(path: Path, pixels: np.ndarray, tiles: list, **more: object) -> Path:
    """A slide of one level from its tiles, or the bytes of each; None is left out."""
    said = {"tile": TILE, "photometric": "rgb", "metadata": None, **more}
    tifffile.imwrite(path, iter(tiles), shape=pixels.shape, dtype=pixels.dtype, **said)
    return path


# --- regions --------------------------------------------------------------------------------------

JPEG = {"compression": "jpeg", "compressionargs": {"level": 80}}

FORMS: dict[str, dict] = {
    "not compressed": {},
    "jpeg": JPEG,
    "jpeg with half the colours": {**JPEG, "subsampling": (2, 2)},
    "jpeg of red, green and blue": {
        "compression": "jpeg",
        "compressionargs": {"outcolorspace": "rgb"},
    },
    "jpeg 2000": {"compression": "jpeg2000"},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd", "predictor": True},
    "strips": {"tile": None, "rowsperstrip": 7, "compression": "lzw"},
    "strips of jpeg": {"tile": None, "rowsperstrip": 16, **JPEG},
    "big": {"bigtiff": True, "compression": "deflate"},
    "other bytes first": {"byteorder": ">", "dtype": np.uint16, "compression": "lzw"},
    "sub-files": {"is_sub": True, **JPEG},
    "big with sub-files": {"is_sub": True, "bigtiff": True, "compression": "deflate"},
    "16 bit": {"dtype": np.uint16, "compression": "deflate", "predictor": True},
    "grey": {"channels": (), "photometric": "minisblack", **JPEG},
    "grey, 16 bit": {"channels": (), "photometric": "minisblack", "dtype": np.uint16},
    "white is 0": {"channels": (), "photometric": "miniswhite", "compression": "lzw"},
    "white is 0, 16 bit": {"channels": (), "photometric": "miniswhite", "dtype": np.uint16},
    "with alpha": {"channels": (4,), "extrasamples": ["unassalpha"], "compression": "deflate"},
    "grey with alpha": {
        "channels": (2,),
        "photometric": "minisblack",
        "planarconfig": "contig",
        "extrasamples": ["unassalpha"],
    },
    "one row of tiles": {"tile": (208, 16)},
    "a tile larger than all": {"tile": (256, 320), **JPEG},
}


def write_form(path: Path, form: str) -> Path:
    """Three levels, of sizes that do not divide."""
    more = dict(FORMS[form])
    pixels = noise(*ODD, *more.pop("channels", (3,)), dtype=more.pop("dtype", np.uint8))
    return write_levels(path, [pixels, shrunk(pixels, 4), shrunk(pixels, 16)], **more)


@pytest.mark.parametrize("form", FORMS)
def test_any_region_of_any_level_is_that_of_the_whole(tmp_path: Path, form: str) -> None:
    path, rng = write_form(tmp_path / "a.tiff", form), np.random.default_rng(1)
    with open_slide(str(path)) as slide:
        sizes = [(level.height, level.width) for level in slide.levels]
        assert sizes == [ODD, (51, 40), (13, 10)]
        for k, (height, width) in enumerate(sizes):
            full = whole(path, k)
            assert slide.channels == full.shape[2]
            regions = [(0, 0, height, width), (-9, -7, height + 20, width + 30)]
            corners = rng.integers((-90, -90), (height, width), (12, 2)).tolist()
            lengths = rng.integers(1, 100, (12, 2)).tolist()
            regions += [(*at, *size) for at, size in zip(corners, lengths, strict=True)]
            for top, left, high, wide in regions:
                got = slide.read(k, top=top, left=left, height=high, width=wide)
                assert got.dtype == np.uint8
                np.testing.assert_array_equal(got, crop(full, top, left, high, wide))


@pytest.mark.parametrize("place", [(-50, 0), (0, -50), (-31, 400), (240, 0), (0, 200)])
def test_what_lies_outside_by_far_is_glass(tmp_path: Path, place: tuple[int, int]) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)])
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=place[0], left=place[1], height=30, width=40)
    assert (got == 255).all()


@pytest.mark.parametrize("place", [(208, 0), (0, 160), (205, 158)])
def test_what_lies_outside_but_in_the_last_tile_is_glass(
    tmp_path: Path, place: tuple[int, int]
) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)])
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=place[0], left=place[1], height=30, width=40)
    assert (got == 255).all()


def with_shared_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """The tables of a JPEG as a stream of their own, and what is left of it."""
    tables, rest, place = b"\xff\xd8", b"\xff\xd8", 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4])
        if jpeg[place + 1] in (0xDB, 0xC4):
            tables += jpeg[place:end]
        else:
            rest += jpeg[place:end]
        place = end
    return tables + b"\xff\xd9", rest + jpeg[place:]


@pytest.mark.parametrize(("words", "sampling"), [("444", (1, 1)), ("422", (2, 1)), ("420", (2, 2))])
def test_tiles_of_jpeg_may_share_their_tables(
    tmp_path: Path, words: str, sampling: tuple[int, int]
) -> None:
    pixels = np.asarray(Image.fromarray(noise(9, 7, 3)).resize(ODD[::-1]))
    parts = [
        with_shared_tables(
            imagecodecs.jpeg8_encode(
                tile, level=90, colorspace="rgb", outcolorspace="ycbcr", subsampling=words
            )
        )
        for tile in pieces(pixels)
    ]
    (tables,) = {tables for tables, _ in parts}
    path = write_tiles(
        tmp_path / "a.tiff",
        pixels,
        [rest for _, rest in parts],
        compression="jpeg",
        subsampling=sampling,
        extratags=[(347, 7, len(tables), tables, True)],
    )
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].jpegtables == tables
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    full = whole(path, 0)
    assert np.abs(full.astype(int) - pixels).mean() < 3
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=20, left=30, height=99, width=200)
    np.testing.assert_array_equal(got, crop(full, 20, 30, 99, 200))


HALVED = base64.b64decode(
    "/0//UQAvAAAAAAAwAAAAIAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAAADBwEBBwIBBwIB/1IADAAAAAEABgIC"
    "AAH/XAAWIEBISFBISFBISFBISFBISFBISFD/ZAARAAFMYXZjNjIuMjguMTAy/5AACgAAAAAALwAB/5PHzggF"
    "38fOCAHPz6gIAY8AAAAAAAAAAAAAAAAAAAAAAAD/2Q=="
)
"""A tile of JPEG 2000 of Y 106, Cb 153, Cr 181, the colours at half the width; by FFmpeg."""

PLUM = (180, 60, 150)
"""The same as red, green and blue."""


def j2k(colour: tuple[int, int, int]) -> bytes:
    """A tile of JPEG 2000 as it lies in a TIFF: without a head."""
    tile = np.full((*TILE, 3), colour, np.uint8)
    return imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", mct=False)


YCC = (106, 153, 181)

YCBCR: dict[str, tuple[bytes | None, int | str, str, tuple[int, int, int]]] = {
    "Aperio": (j2k(YCC), 33003, "rgb", PLUM),
    "Aperio, said twice": (j2k(YCC), 33003, "ycbcr", PLUM),
    "Aperio, colours halved": (HALVED, 33003, "rgb", PLUM),
    "Aperio of red, green and blue": (j2k(PLUM), 33005, "rgb", PLUM),
    "Aperio of red, green and blue, page wrong": (j2k(PLUM), 33005, "ycbcr", PLUM),
    "JPEG 2000": (j2k(YCC), 34712, "ycbcr", PLUM),
    "JPEG 2000, colours halved": (HALVED, 34712, "ycbcr", PLUM),
    "JPEG 2000 of red, green and blue": (j2k(PLUM), 34712, "rgb", PLUM),
    "deflate": (None, "deflate", "ycbcr", PLUM),
    "deflate of red, green and blue": (None, "deflate", "rgb", YCC),
}


@pytest.mark.parametrize("form", YCBCR)
def test_brightness_and_two_colours_become_red_green_and_blue(tmp_path: Path, form: str) -> None:
    data, compression, photometric, wanted = YCBCR[form]
    tile = np.full((*TILE, 3), YCC, np.uint8)
    tiles = [tile if data is None else data]
    more = {"compression": compression, "photometric": photometric}
    path = write_tiles(tmp_path / "a.tiff", tile, tiles, **more)
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=0, left=0, height=TILE[0], width=TILE[1])
    assert np.abs(got - np.array(wanted, np.float64)).max() <= 1


def test_ycbcr_of_16_bit_is_read(tmp_path: Path) -> None:
    tile = np.full((*TILE, 3), YCC, np.uint16) * 256
    path = write_tiles(tmp_path / "a.tiff", tile, [tile], photometric="ycbcr")
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=0, left=0, height=TILE[0], width=TILE[1])
    assert np.abs(got - np.array(PLUM, np.float64)).max() <= 1


@pytest.mark.parametrize("photometric", ["rgb", "miniswhite"])
def test_a_tile_that_was_left_out_is_glass(tmp_path: Path, photometric: str) -> None:
    pixels = noise(*ODD, *((3,) if photometric == "rgb" else ()))
    stack = pixels if pixels.ndim == 3 else pixels[:, :, None]
    tiles = [None if k == 5 else tile for k, tile in enumerate(pieces(stack))]
    more = {"compression": "deflate", "photometric": photometric}
    path = write_tiles(tmp_path / "a.tiff", pixels, tiles, **more)
    with tifffile.TiffFile(path) as file:
        assert [k for k, n in enumerate(file.pages[0].databytecounts) if n == 0] == [5]
    (high, wide), full = TILE, stack if photometric == "rgb" else 255 - stack
    full[high : 2 * high, wide : 2 * wide] = 255  # the second of four in the second row
    with open_slide(str(path)) as slide:
        got = slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])
        np.testing.assert_array_equal(got, full)
        assert (slide.read(0, top=40, left=60, height=9, width=9) == 255).all()


def test_only_tiles_that_are_touched_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)], compression="deflate")
    fetched, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *of: (fetched.append(of[2]), real(*of))[1])
    with open_slide(str(path)) as slide:
        slide.read(0, top=31, left=48, height=2, width=48)  # two rows of one column
        with tifffile.TiffFile(path) as file:
            assert fetched == [file.pages[0].dataoffsets[k] for k in (1, 5)]


def test_a_file_is_closed_when_nobody_needs_it(tmp_path: Path) -> None:
    path, held = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)]), Path("/proc/self/fd")
    before = len(list(held.iterdir()))
    with open_slide(str(path)), open_slide(str(path)):
        assert len(list(held.iterdir())) > before
    assert len(list(held.iterdir())) == before


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounded", [np.floor, np.ceil, np.round])
@pytest.mark.parametrize("size", [(1001, 777), (333, 1500)])
def test_sizes_of_levels_are_rounded_in_any_way(
    tmp_path: Path, size: tuple[int, int], rounded: Callable
) -> None:
    sizes = [tuple(int(rounded(n / step)) for n in size) for step in (1, 2, 8, 16, 64)]
    levels = [np.zeros((*one, 3), np.uint8) for one in sizes]
    path = write_levels(tmp_path / "a.tiff", levels, compression="deflate")
    with open_slide(str(path)) as slide:
        assert [(one.height, one.width) for one in slide.levels] == sizes
        got = [one.downsample for one in slide.levels]
        assert got[:4] == pytest.approx([1, 2, 8, 16], rel=0.05)
        assert {one.chunk for one in slide.levels} == {TILE}


def test_the_downsampling_of_a_low_slide_is_that_of_its_length(tmp_path: Path) -> None:
    levels = [np.zeros((*size, 3), np.uint8) for size in ((37, 4000), (3, 250))]
    path = write_levels(tmp_path / "a.tiff", levels, compression="deflate")
    with open_slide(str(path)) as slide:
        assert slide.levels[1].downsample == pytest.approx(16, rel=0.02)


def test_pages_of_another_shape_or_kind_are_no_levels(tmp_path: Path) -> None:
    pixels = noise(*ODD, 3)
    grey = {"photometric": "minisblack"}
    others = [
        (noise(60, 60, 3), {}),  # a label
        (noise(90, 240, 3), {"tile": None}),  # the whole glass
        (noise(*ODD, 3, dtype=np.uint16), {}),
        (noise(*ODD), grey),
        (255 - pixels, {}),  # of the same size: the first one counts
    ]
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as file:
        for page, more in (
            others[0],
            (shrunk(pixels, 4), {}),
            others[1],
            (pixels, {}),
            *others[2:],
        ):
            file.write(page, **{"tile": TILE, "photometric": "rgb", "metadata": None, **more})
    with open_slide(str(path)) as slide:
        assert [(one.height, one.width) for one in slide.levels] == [ODD, (51, 40)]
        for k, wanted in enumerate((pixels, shrunk(pixels, 4))):
            got = slide.read(k, top=0, left=0, height=wanted.shape[0], width=wanted.shape[1])
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("said", "kind"),
    [("Aperio Image\r\nlabel 60x60", 1), ("any", 9), ("Macro -offset=(0,0)-pixelsize=(0,0)", 0)],
)
def test_a_label_of_the_same_shape_is_no_level(tmp_path: Path, said: str, kind: int) -> None:
    path, pixels = tmp_path / "a.tiff", noise(240, 240, 3)
    with tifffile.TiffWriter(path) as file:
        more = {"tile": TILE, "photometric": "rgb", "metadata": None}
        file.write(pixels, **more)
        file.write(shrunk(pixels, 2), **more)
        file.write(noise(60, 60, 3, seed=1), description=said, subfiletype=kind, **more)
    with open_slide(str(path)) as slide:
        assert [one.height for one in slide.levels] == [240, 120]


def write_ome(path: Path, *images: tuple[str, list[np.ndarray]], **more: object) -> Path:
    """Pictures with names, each a page with its smaller levels as sub-files."""
    said = {"tile": TILE, "photometric": "rgb", **more}
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, (first, *smaller) in images:
            file.write(first, metadata={"Name": name}, subifds=len(smaller), **said)
            for level in smaller:
                file.write(level, subfiletype=1, **said)
    return path


SHEET, STICKER = noise(240, 240, 3), noise(60, 60, 3, seed=1)


@pytest.mark.parametrize(
    ("images", "heights"),
    [
        ([("a", [SHEET, shrunk(SHEET, 2)]), ("label image", [STICKER])], [240, 120]),
        ([("macro image", [STICKER]), ("a", [SHEET, shrunk(SHEET, 2)])], [240, 120]),
        ([("a", [SHEET]), ("macro image", [STICKER, shrunk(STICKER, 2)])], [240]),
        ([("a label-free scan", [SHEET]), ("Macro", [STICKER])], [240]),
        ([("a", [SHEET]), ("b", [STICKER])], [240, 60]),
    ],
)
def test_labels_that_ome_names_are_no_levels_and_hide_none(
    tmp_path: Path, images: list, heights: list[int]
) -> None:
    path = write_ome(tmp_path / "a.ome.tiff", *images)
    with open_slide(str(path)) as slide:
        assert [one.height for one in slide.levels] == heights
        got = slide.read(0, top=0, left=0, height=240, width=240)
    np.testing.assert_array_equal(got, SHEET)


def test_what_another_file_held_says_nothing_of_a_page(tmp_path: Path) -> None:
    """As `vips tiffsave --properties` writes it."""
    names = ("aperio.Comment", "openslide.associated.label.width", "openslide.associated.macro")
    held = "\n".join(
        f"<property><name>{name}</name><value>Aperio\nlabel 60x60\n</value></property>"
        for name in names
    )
    path = tmp_path / "a.tiff"
    write_levels(path, [SHEET, shrunk(SHEET, 2)], description=f"<?xml?>\n<image>{held}</image>")
    with open_slide(str(path)) as slide:
        assert [one.height for one in slide.levels] == [240, 120]


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


@pytest.mark.parametrize("form", ["deflate", "strips", "white is 0", "16 bit"])
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


# --- resolution -----------------------------------------------------------------------------------


def dots(each_um: float, unit: str, in_um: float) -> dict:
    return {"resolution": (in_um / each_um,) * 2, "resolutionunit": unit}


def ome(size: float, unit: str) -> dict:
    told = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    return {"ome": True, "metadata": told}


SPACINGS: dict[str, tuple[dict, float | None]] = {
    "centimetres": (dots(0.5, "CENTIMETER", 1e4), 0.5),
    "inches": (dots(0.25, "INCH", 25_400), 0.25),
    "Aperio": (
        {"description": "Aperio Image Library\r\n|AppMag = 20|MPP = 0.4990|Left = 9"},
        0.499,
    ),
    "Aperio beside dots": (
        {"description": "Aperio|MPP = 0.2525", **dots(9, "CENTIMETER", 1e4)},
        0.2525,
    ),
    "Aperio, packed": ({"description": "|MPP=1|"}, 1.0),
    "OME": (ome(0.23, "µm"), 0.23),
    "OME, no word on the unit": ({"ome": True, "metadata": {"PhysicalSizeX": 0.23}}, 0.23),
    "OME, nm": (ome(230, "nm"), 0.23),
    "OME, mm": (ome(0.00023, "mm"), 0.23),
    "OME, pixels": (ome(3, "pixel"), None),
    "72 dots an inch": ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    "a number without a unit": ({"resolution": (2e4, 2e4), "resolutionunit": "NONE"}, None),
    "no dots": ({"resolution": (0, 0), "resolutionunit": "INCH"}, None),
    "another word": ({"description": "NMPP = 0.5, MPP = unknown"}, None),
    "nonsense": ({"description": "MPP = 400"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("case", SPACINGS)
def test_the_resolution_is_what_the_file_says(tmp_path: Path, case: str) -> None:
    said, wanted = SPACINGS[case]
    pixels = noise(*ODD, 3)
    levels = [pixels] if "ome" in said else [pixels, shrunk(pixels, 4)]
    path = write_levels(tmp_path / "a.tiff", levels, **said)
    with open_slide(str(path)) as slide:
        assert slide.spacing_um == (None if wanted is None else pytest.approx(wanted, rel=1e-6))


@pytest.mark.parametrize("words", ["MPP = 0.25.", "MPP = ..."])
def test_a_full_stop_behind_the_resolution_is_no_trouble(tmp_path: Path, words: str) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)], description=words)
    with open_slide(str(path)) as slide:
        assert slide.spacing_um in (0.25, None)


# --- fingerprints ---------------------------------------------------------------------------------


def fingerprint(path: Path) -> str:
    with open_slide(str(path)) as slide:
        return slide.fingerprint()


@pytest.mark.parametrize("compression", ["jpeg", "deflate", None])
def test_a_fingerprint_is_that_of_the_content(tmp_path: Path, compression: str | None) -> None:
    pixels = noise(*ODD, 3)
    more = {"compression": compression}
    levels = {
        "same": [pixels, shrunk(pixels, 4)],
        "other": [255 - pixels, shrunk(255 - pixels, 4)],
        "one level": [pixels],
        "turned": [pixels[::-1], shrunk(pixels[::-1], 4)],
        "other small level": [pixels, shrunk(pixels, 4)[:, ::-1]],
        "smaller": [pixels[:-40], shrunk(pixels[:-40], 4)],
    }
    first = fingerprint(write_levels(tmp_path / "first.tiff", levels["same"], **more))
    shutil.copy(tmp_path / "first.tiff", tmp_path / "copy.tiff")
    assert fingerprint(tmp_path / "copy.tiff") == first
    found = {n: fingerprint(write_levels(tmp_path / n, of, **more)) for n, of in levels.items()}
    assert found["same"] == first
    assert len(set(found.values())) == len(levels)


# --- harm -----------------------------------------------------------------------------------------


def refused(path: Path | str, words: str) -> None:
    with pytest.raises(UnreadableImage, match=words) as error, open_slide(str(path)):
        pass
    assert str(error.value).startswith(f"{path}: ")


def cut(at: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:at])


def written(**more: object) -> Callable[[Path], object]:
    """Another slide in the place of a good one."""

    def harm(path: Path) -> None:
        pixels = more.pop("pixels", noise(*ODD, 3))
        write_levels(path, [pixels], **more)

    return harm


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "directory"),
    "empty": (cut(0), "no TIFF"),
    "text": (lambda path: path.write_text("id,grade\na,1\n"), "no TIFF; cure.*foveal.wsi"),
    "text in disguise": (lambda path: path.write_bytes(b"II*\0 is a slide"), "cannot be read"),
    "cut in the last tile": (cut(-1), "truncated"),
    "cut in the middle": (cut(20_000), "truncated"),
    "cut in the first page": (cut(150), "cannot be read|truncated"),
    "cut behind the head": (cut(8), "cannot be read|truncated"),
    "a palette": (
        written(
            pixels=noise(*ODD),
            photometric="palette",
            colormap=noise(3, 256, dtype=np.uint16),
        ),
        "palette",
    ),
    "channels kept apart": (
        written(pixels=np.moveaxis(noise(*ODD, 3), 2, 0), planarconfig="separate"),
        "channels kept apart",
    ),
    "fractions": (written(pixels=noise(*ODD, 3).astype(np.float32)), "float32 pixels; 8 or 16 bit"),
    "with sign": (written(pixels=noise(*ODD, 3, dtype=np.int16)), "int16 pixels"),
    "black and white": (
        written(pixels=noise(*ODD) > 99, photometric="minisblack", tile=None),
        "bool pixels",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_is_an_error_that_names_the_file(tmp_path: Path, harm: str) -> None:
    act, words = HARMS[harm]
    path = write_levels(tmp_path / "slide.tiff", [noise(*ODD, 3)])
    act(path)
    refused(path, words)


def test_a_name_that_is_none_is_an_error() -> None:
    refused("a\0b.tiff", "null")


def test_a_smaller_level_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    pixels = noise(*ODD, 3)
    path = write_levels(tmp_path / "a.tiff", [pixels, shrunk(pixels, 4)])
    cut(-1)(path)
    refused(path, "truncated")


@pytest.mark.parametrize("more", [{"tile": None, "rowsperstrip": 203}, {"tile": (208, 160)}])
def test_a_slide_in_one_piece_is_an_error_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict
) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)], **more)
    with open_slide(str(path)) as slide:
        assert slide.levels[0].chunk[0] >= ODD[0]
    monkeypatch.setattr(slides, "CHUNK_LIMIT", 30_000)
    refused(path, "203 x 157 .* in one piece.*cure: .*vips tiffsave --tile --pyramid")
    in_parts = write_levels(tmp_path / "b.tiff", [noise(*ODD, 3)], tile=None, rowsperstrip=190)
    with open_slide(str(in_parts)) as slide:
        assert slide.levels[0].chunk == (190, 157)


def spoiled(path: Path, tile: int, *, share: float = 1.0) -> None:
    """Overwrite the last part of the bytes of a tile."""
    with tifffile.TiffFile(path) as file:
        start, count = (
            of[tile] for of in (file.pages[0].dataoffsets, file.pages[0].databytecounts)
        )
    data, length = bytearray(path.read_bytes()), round(count * share)
    data[start + count - length : start + count] = b"\xaa" * length
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["jpeg", "jpeg 2000", "lzw", "deflate", "zstd", "strips of jpeg"])
def test_a_broken_tile_is_named_by_whoever_reads_it(tmp_path: Path, form: str) -> None:
    path = write_form(tmp_path / "a.tiff", form)
    spoiled(path, 5)
    with open_slide(str(path)) as slide:
        high = slide.levels[0].chunk[0]
        slide.read(0, top=0, left=0, height=high, width=ODD[1])
        slide.read(1, top=0, left=0, height=51, width=40)
        with pytest.raises(UnreadableImage, match="tile 5 of level 0 does not decode") as error:
            slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("form", ["deflate"])
def test_a_tile_whose_end_is_broken_is_an_error(tmp_path: Path, form: str) -> None:
    path = write_form(tmp_path / "a.tiff", form)
    spoiled(path, 5, share=0.5)
    with open_slide(str(path)) as slide, pytest.raises(UnreadableImage, match="tile 5 of level 0"):
        slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])


@pytest.mark.parametrize("form", ["jpeg", "jpeg 2000"])
def test_a_tile_of_jpeg_whose_end_is_missing_is_an_error(tmp_path: Path, form: str) -> None:
    test_a_tile_whose_end_is_broken_is_an_error(tmp_path, form)


def test_a_tile_of_too_few_pixels_is_an_error(tmp_path: Path) -> None:
    pixels = noise(*ODD, 3)
    tiles = [zlib.compress(tile.tobytes()) for tile in pieces(pixels)]
    tiles[2] = zlib.compress(b"\0" * 999)
    path = write_tiles(tmp_path / "a.tiff", pixels, tiles, compression="deflate")
    with open_slide(str(path)) as slide, pytest.raises(UnreadableImage, match="tile 2 of level 0"):
        slide.read(0, top=0, left=0, height=9, width=ODD[1])


def test_a_list_of_too_few_tiles_is_an_error(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "a.tiff", [noise(*ODD, 3)], compression="deflate")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[name]
            data[tag.offset + 4 : tag.offset + 8] = (tag.count - 4).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="truncated"), open_slide(str(path)) as slide:
        slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "slide.tiff", [noise(*ODD, 3)])
    cut(-1)(path)
    gc.collect()
    with warnings.catch_warnings(record=True, action="always") as told:
        refused(path, "truncated")
        gc.collect()
    assert [str(one.message) for one in told if one.category is ResourceWarning] == []


# --- formats of vendors ---------------------------------------------------------------------------


class OpenSlideError(Exception):
    """What the library raises."""


class Scanned:
    """OpenSlide, of a picture of two levels that was scanned in part; the file says the error."""

    def __init__(self, path: str) -> None:
        if b"broken" in Path(path).read_bytes():
            raise OpenSlideError("not a file that is understood")
        pixels = np.dstack([noise(60, 84, 3), noise(60, 84, seed=1)])
        pixels[:20, :, 3], pixels[20:40, :, 3] = 0, 255
        self.pixels = [pixels, shrunk(pixels, 4)]
        self.level_dimensions = ((84, 60), (21, 15))
        self.level_downsamples = (1.0, 4.0)
        self.properties = (
            {"openslide.mpp-x": "0.25"} if b"spaced" in Path(path).read_bytes() else {}
        )
        self.asked: list = []
        self.is_open = True

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        if size[0] > 500:
            raise OpenSlideError("a tile is broken")
        self.asked.append((location, level, size))
        scale = round(self.level_downsamples[level])
        left, top = (n // scale for n in location)
        outside = np.pad(self.pixels[level], ((99, 99), (99, 99), (0, 0)))  # transparent
        part = outside[99 + top : 99 + top + size[1], 99 + left : 99 + left + size[0]]
        return Image.fromarray(np.ascontiguousarray(part))

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def openslide(monkeypatch: pytest.MonkeyPatch) -> list[Scanned]:
    """A stand-in for the library, and what it has opened."""
    opened: list[Scanned] = []
    module = ModuleType("openslide")

    def open_one(path: str) -> Scanned:
        opened.append(Scanned(path))
        return opened[-1]

    module.OpenSlide, module.OpenSlideError = open_one, OpenSlideError
    module.PROPERTY_NAME_MPP_X = "openslide.mpp-x"
    monkeypatch.setitem(sys.modules, "openslide", module)
    return opened


def test_formats_of_vendors_are_read_by_openslide(tmp_path: Path, openslide: list[Scanned]) -> None:
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"spaced")
    with open_slide(str(path)) as slide:
        assert [(one.height, one.width, one.downsample) for one in slide.levels] == [
            (60, 84, 1.0),
            (15, 21, 4.0),
        ]
        assert (slide.path, slide.channels, slide.spacing_um) == (str(path), 3, 0.25)
        got = slide.read(1, top=-2, left=3, height=19, width=20)
        pixels = openslide[0].pixels[1].astype(np.float64)
        opaque = pixels[:, :, 3:] / 255
        seen = pixels[:, :, :3] * opaque + 255 * (1 - opaque)
        assert np.abs(got - crop(seen, -2, 3, 19, 20)).max() <= 0.5
        assert (got.shape, got.dtype) == ((19, 20, 3), np.uint8)
        assert openslide[0].asked[-1] == ((12, -8), 1, (20, 19))
        assert overview(slide, 42).shape == (30, 42, 3)
        with pytest.raises(UnreadableImage, match=f"{path}: a tile is broken"):
            slide.read(0, top=0, left=0, height=1, width=501)
        assert openslide[0].is_open
    assert not openslide[0].is_open


def test_fingerprints_of_vendors_are_those_of_the_content(
    tmp_path: Path, openslide: list[Scanned], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"plain")
    with open_slide(str(tmp_path / "a")) as slide:
        assert slide.spacing_um is None
    same = {fingerprint(tmp_path / name) for name in "ab"}
    assert len(same) == 1
    monkeypatch.setattr(Scanned, "read_region", lambda *of: Image.new("RGBA", of[-1]))
    assert fingerprint(tmp_path / "a") not in same


def test_what_openslide_refuses_is_an_error(tmp_path: Path, openslide: list[Scanned]) -> None:
    (tmp_path / "a.svs").write_bytes(b"broken")
    refused(tmp_path / "a.svs", "OpenSlide cannot read it .not a file that is understood.")


def test_tiffs_are_read_without_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    path = write_levels(tmp_path / "a.svs", [noise(*ODD, 3)])
    with open_slide(str(path)) as slide:
        assert slide.levels[0].height == ODD[0]
    (tmp_path / "a.mrxs").write_bytes(b"spaced")
    refused(tmp_path / "a.mrxs", r"no TIFF; cure .*: pip install 'foveal\[wsi\]'")


def test_the_extra_that_the_cure_names_is_there() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert "wsi" in tomllib.loads(text)["project"]["optional-dependencies"]
