"""Any region of any level is what decoding all of it gives; whatever cannot be read says so."""

import base64
import gc
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.read import pyramid
from foveal.read.slide import open_slide
from pyramids import ODD, TILE, crop, fingerprint, noise, refused, shrunk, whole, write_levels


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
    "multiplied by alpha": {"channels": (4,), "extrasamples": ["assocalpha"]},
    "grey with alpha": {
        "channels": (2,),
        "photometric": "minisblack",
        "planarconfig": "contig",
        "extrasamples": ["unassalpha"],
    },
    "white is 0, with alpha": {
        "channels": (2,),
        "photometric": "miniswhite",
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


PLANES: dict[str, tuple[str, tuple[int, ...], str]] = {
    "colours apart": ("CYX", (3,), "C of 3"),
    "focal planes": ("ZYXS", (4,), "Z of 4"),
    "moments and channels": ("TCYX", (2, 3), "T of 2, C of 3"),
}


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("kind", PLANES)
def test_pages_of_ome_that_are_planes_of_one_slide_are_refused(
    tmp_path: Path, kind: str, levels: int
) -> None:
    """The first alone would be a grey slide, or one focal plane of many."""
    axes, apart, words = PLANES[kind]
    pixels = noise(*apart, *ODD, *((3,) if "S" in axes else ()))
    path, is_grey = tmp_path / "a.ome.tiff", "S" not in axes
    more = {"tile": TILE, "photometric": "minisblack" if is_grey else "rgb"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, metadata={"axes": axes}, subifds=levels - 1, **more)
        for k in range(1, levels):
            small = pixels[..., :: 2**k, :: 2**k] if is_grey else pixels[:, :: 2**k, :: 2**k]
            file.write(np.ascontiguousarray(small), subfiletype=1, **more)
    refused(path, f"this one has {words} on pages of their own; cure: .*interleaved RGB")


def test_planes_of_a_label_in_ome_are_no_trouble(tmp_path: Path) -> None:
    path, sticker = tmp_path / "a.ome.tiff", np.moveaxis(STICKER, 2, 0)
    with tifffile.TiffWriter(path, ome=True) as file:
        told = {"axes": "CYX", "Name": "label image"}
        file.write(sticker, metadata=told, tile=TILE, photometric="minisblack")
        file.write(SHEET, metadata={"axes": "YXS", "Name": "a"}, tile=TILE, photometric="rgb")
    with open_slide(str(path)) as slide:
        assert (len(slide.levels), slide.channels) == (1, 3)
        np.testing.assert_array_equal(slide.read(0, top=0, left=0, height=240, width=240), SHEET)


def test_of_planes_that_other_files_repeat_the_first_counts(tmp_path: Path) -> None:
    sharp, blurred = noise(*ODD, 3), noise(*ODD, 3, seed=1)
    path = write_levels(tmp_path / "a.tiff", [sharp, blurred, shrunk(sharp, 4)])
    with open_slide(str(path)) as slide:
        assert [one.height for one in slide.levels] == [203, 51]
        got = slide.read(0, top=0, left=0, height=ODD[0], width=ODD[1])
    np.testing.assert_array_equal(got, sharp)


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


def cut(at: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:at])


def written(**more: object) -> Callable[[Path], object]:
    """Another slide in the place of a good one."""

    def harm(path: Path) -> None:
        pixels = more.pop("pixels", noise(*ODD, 3))
        write_levels(path, [pixels], **more)

    return harm


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
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
    monkeypatch.setattr(pyramid, "CHUNK_LIMIT", 30_000)
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


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_values_of_fewer_bits_than_16_fill_the_8_that_are_read(tmp_path: Path, bits: int) -> None:
    plain = noise(*ODD, 3)
    plain[:8, :8] = 255
    deep = plain.astype(np.uint16) << (bits - 8)
    place = write_levels(tmp_path / "deep.tif", [deep, shrunk(deep, 2)])
    with open_slide(str(place)) as slide:
        for level, wanted in enumerate((plain, shrunk(plain, 2))):
            height, width = wanted.shape[:2]
            got = slide.read(level, top=0, left=0, height=height, width=width)
            np.testing.assert_array_equal(got, wanted)
