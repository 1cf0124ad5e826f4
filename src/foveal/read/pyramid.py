"""A pyramid of tiles in a TIFF: which pages are its levels, and any region of one from its tiles.

Only the tiles that a region touches are fetched and decoded, each once (JPEG, JPEG 2000, LZW,
deflate and whatever else imagecodecs decodes); strips are tiles as wide as the slide. Every tile
must lie inside the file before the slide is open.
"""

from __future__ import annotations

import hashlib
import operator
import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from jaxtyping import Int, Shaped

from foveal.arrays import Pixels
from foveal.errors import UnreadableImage
from foveal.read.image import in_eight_bits, spare_bits_of
from foveal.read.level import GLASS, Level, on_glass, sane_spacing
from foveal.read.tiff import FLAT, TIFF_TROUBLE

CHUNK_LIMIT = 1 << 26
"""Pixels of one tile or strip; one of more is no part of a slide but the whole of it."""

LOOKED_AT = 16
"""Tiles of the smallest level in which white is looked for, where a value has 16 bits."""

MICRONS = {2: 25_400.0, 3: 10_000.0}
"""Microns of a TIFF's unit of resolution: inch, centimetre."""

SAME_SHAPE = 0.02
"""Difference of width and height ratios up to which a page is a smaller copy of the largest."""

JPEG_END = b"\xff\xd9"
WITH_END = (7, 33003, 33005, 34712)
"""Compressions whose data has an end, JPEG and JPEG 2000; decoders fill in what is cut off."""


@final
class TiffSlide:
    """A tiled or stripped TIFF, its pages sorted into levels."""

    def __init__(self, path: str, *, empty: int = GLASS) -> None:
        """Open one; `empty` is what lies outside of it, and where a tile was left out."""
        import tifffile

        self.path, self.empty = path, empty
        try:
            with ExitStack() as opened:
                file = opened.enter_context(tifffile.TiffFile(path))
                self._pages = _levels_of(file, path)
                self._check()
                first = self._pages[0]
                self.levels = tuple(
                    Level(p.imagelength, p.imagewidth, _downsample(first, p), _chunk(p))
                    for p in self._pages
                )
                self.channels, self.bits = _colours(first), 8 * first.dtype.itemsize
                self.spacing_um = _spacing_um(file, first)
                self._decoders = [_decoder(p) for p in self._pages]
                self._descriptor = os.open(path, os.O_RDONLY)
                self._opened = opened.pop_all()
                self._spare_bits = self._find_spare_bits() if self.bits == 16 else 0
        except TIFF_TROUBLE as error:
            raise UnreadableImage(f"{path}: the TIFF cannot be read ({error})") from None

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)
        self._opened.close()

    def read(self, level: int, *, top: int, left: int, height: int, width: int) -> Pixels:
        """A region in pixels of its level, glass where it lies outside; 8 bit."""
        out = np.empty((1, height, width, self.channels), dtype=np.uint8)
        self.fill(out, level, np.array([(top, left)]))
        return out[0]

    def fill(
        self,
        out: Shaped[np.ndarray, "region height width channel"],
        level: int,
        corners: Int[np.ndarray, "region corner"],
    ) -> None:
        """Read regions of one size, from their tops and lefts; no tile is decoded twice."""
        page = self._pages[level]
        (high, wide), (height, width) = self.levels[level].chunk, out.shape[1:3]
        touching: dict[tuple[int, int], list[int]] = {}
        for k, (top, left) in enumerate(corners.tolist()):
            bottom, right = min(top + height, page.imagelength), min(left + width, page.imagewidth)
            if min(top, left) < 0 or bottom - top < height or right - left < width:
                out[k] = self.empty  # what the tiles below leave of it
            if max(top, 0) < bottom and max(left, 0) < right:
                for row in range(max(top, 0) // high, -(-bottom // high)):
                    for column in range(max(left, 0) // wide, -(-right // wide)):
                        touching.setdefault((row, column), []).append(k)
        for (row, column), regions in sorted(touching.items()):
            y, x = row * high, column * wide
            tile = self._chunk_of(level, row, column)
            tile = tile[: page.imagelength - y, : page.imagewidth - x]
            for k in regions:
                top, left = corners[k].tolist()
                a, b = max(top, y), min(top + height, y + tile.shape[0])
                c, d = max(left, x), min(left + width, x + tile.shape[1])
                out[k, a - top : b - top, c - left : d - left] = tile[a - y : b - y, c - x : d - x]

    def fingerprint(self) -> str:
        """Of the sizes of all levels and of their tiles, and the bytes of the smallest level."""
        found = hashlib.sha256()
        for page in self._pages:
            found.update(repr((page.shape, page.databytecounts)).encode())
        smallest = self._pages[-1]
        for offset, count in zip(smallest.dataoffsets, smallest.databytecounts, strict=True):
            found.update(os.pread(self._descriptor, count, offset))
        return found.hexdigest()

    def _find_spare_bits(self) -> int:
        """How many of 16 bits are empty: there is white glass on all slides, so a look tells."""
        level, (high, wide) = len(self._pages) - 1, self.levels[-1].chunk
        across = -(-self._pages[level].imagewidth // wide)
        count = across * -(-self._pages[level].imagelength // high)
        white = 0
        for index in np.unique(np.linspace(0, count - 1, LOOKED_AT).round().astype(int)).tolist():
            with suppress(UnreadableImage):  # whoever wants that tile is told
                tile = self._decoded(level, *divmod(index, across))
                white = (
                    white if tile is None else max(white, int(tile[:, :, : self.channels].max()))
                )
        return spare_bits_of(white / 0xFFFF)

    def _chunk_of(self, level: int, row: int, column: int) -> Shaped[np.ndarray, "_ _ _"]:
        """One tile or strip as 8 bit; glass where the scanner left it out or it is transparent."""
        tile = self._decoded(level, row, column)
        if tile is None:
            return np.full((*self.levels[level].chunk, self.channels), self.empty, dtype=np.uint8)
        colours = in_eight_bits(tile, self._spare_bits)[:, :, : self.channels]
        alpha = _alpha(self._pages[level])
        if alpha is None:
            return colours
        return on_glass(colours, tile[:, :, -1], premultiplied=alpha == PREMULTIPLIED)

    def _decoded(self, level: int, row: int, column: int) -> Shaped[np.ndarray, "_ _ _"] | None:
        """One tile or strip; None where the scanner left it out."""
        page, (high, wide) = self._pages[level], self.levels[level].chunk
        index = row * -(-page.imagewidth // wide) + column
        count = page.databytecounts[index]
        if count == 0:
            return None
        try:
            data = os.pread(self._descriptor, count, page.dataoffsets[index])
            is_whole = page.compression not in WITH_END or data.rfind(JPEG_END) > len(data) // 2
            tile = self._decoders[level](data, index) if is_whole else None
        except TIFF_TROUBLE as error:
            raise UnreadableImage(
                f"{self.path}: tile {index} of level {level} does not decode ({error})"
            ) from None
        left = (page.imagelength - row * high, page.imagewidth - column * wide)
        if tile is None or np.less(tile.shape[1:3], np.minimum(left, (high, wide))).any():
            raise UnreadableImage(f"{self.path}: tile {index} of level {level} does not decode")
        tile = _rgb(tile[0]) if _is_ycbcr(page, data) else tile[0]
        if not _is_inverted(page):
            return tile
        light = np.invert(tile[:, :, : self.channels])  # alpha is none
        return np.concatenate([light, tile[:, :, self.channels :]], axis=2)

    def _check(self) -> None:
        """Every tile must lie inside the file, be no whole slide, and be of a kind that is read."""
        size = Path(self.path).stat().st_size
        for page in self._pages:
            end = max(map(operator.add, page.dataoffsets, page.databytecounts), default=0)
            high, wide = _chunk(page)
            grid = -(-page.imagelength // high) * -(-page.imagewidth // wide)
            if len(page.dataoffsets) < grid or end > size:
                raise UnreadableImage(f"{self.path}: the file is truncated")
            if high * wide > CHUNK_LIMIT:
                raise UnreadableImage(
                    f"{self.path}: a level of {page.imagelength} x {page.imagewidth} pixels is "
                    "kept in one piece, so that no part can be read alone; cure: write it as a "
                    "tiled pyramid, for example with `vips tiffsave --tile --pyramid`"
                )
        _refuse_odd(self.path, self._pages[0])


AS_RGB = (
    "cure: write it as red, green and blue side by side, for example with "
    "`vips icc_transform` or `vips colourspace` and `vips tiffsave --tile --pyramid`"
)


def _refuse_odd(path: str, page: Any) -> None:
    import tifffile

    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise UnreadableImage(f"{path}: colours from a palette are not read as a slide; {AS_RGB}")
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise UnreadableImage(f"{path}: inks (CMYK) are not read as a slide; {AS_RGB}")
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        raise UnreadableImage(f"{path}: channels kept apart are not read as a slide; {AS_RGB}")
    if page.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path}: {page.dtype} pixels; 8 or 16 bit unsigned are read")


def _levels_of(file: Any, path: str) -> list[Any]:
    """The largest page and its smaller copies, the largest first.

    Labels, macro photographs and thumbnails of another shape are none of them. Writers tell levels
    in many ways (pages, sub-files, flags, words in a description); their shape tells in all.
    """
    pages = [page.aspage() for page in file.pages]
    pages += [sub.aspage() for page in pages for sub in (page.pages or ())]
    named = _labels_of_ome(file)
    pages = [page for page in pages if page.offset not in named and not _is_label(page)]
    largest = max(pages, key=lambda p: p.imagelength * p.imagewidth)
    _refuse_planes(path, file, largest)
    kinds = (largest.dtype, largest.samplesperpixel)
    found = {}
    for page in pages:
        down = largest.imagelength / page.imagelength
        across = largest.imagewidth / page.imagewidth
        slack = SAME_SHAPE + down / largest.imagelength + across / largest.imagewidth
        if (page.dtype, page.samplesperpixel) == kinds and abs(down / across - 1) <= slack:
            found.setdefault((page.imagelength, page.imagewidth), page)
    return [found[size] for size in sorted(found, reverse=True)]


def _is_label(page: Any) -> bool:
    """Whether a page says that it is the slide's label, or a photograph of all of it.

    XML is that of the whole file, or lists what another file held: its words tell nothing.
    """
    if page.subfiletype == MACRO:
        return True
    told = page.description or ""
    return not told.lstrip().startswith("<") and LABEL_LINE.search(told) is not None


MACRO = 9
"""Aperio's kind of page for a photograph of the slide."""

LABEL_LINE = re.compile(r"\A(label|macro)\b|^(label|macro) \d+x\d+", re.IGNORECASE | re.MULTILINE)
"""What stands first in Philips' description of such a page, and in the second line of Aperio's."""


def _labels_of_ome(file: Any) -> set[int]:
    """Where the pages begin that OME, whose words all stand on the first page, calls so."""
    if not file.is_ome:
        return set()
    aside = [series for series in file.series if LABEL_NAME.fullmatch(series.name)]
    pages = [page for series in aside for level in series.levels for page in level.pages]
    return {page.offset for page in pages if page is not None and page.parent is file}


LABEL_NAME = re.compile(r"(label|macro)( image)?", re.IGNORECASE)
"""Bio-Formats' names of such pictures."""


def _refuse_planes(path: str, file: Any, largest: Any) -> None:
    """OME may keep every colour and focal plane on a page of its own; one is not the slide.

    Other files repeat their largest page for each focal plane, and the first is meant.
    """
    for series in file.series if file.is_ome else ():
        sizes = zip(series.axes, series.shape, strict=True)
        apart = [f"{name} of {length}" for name, length in sizes if name not in FLAT and length > 1]
        here = {page.offset for page in series.pages if page is not None and page.parent is file}
        if apart and largest.offset in here:
            raise UnreadableImage(
                f"{path}: a slide has rows, columns and colours, and this one has "
                f"{', '.join(apart)} on pages of their own; cure: save one focal plane with its "
                "colours on one page (interleaved RGB)"
            )


def _downsample(first: Any, page: Any) -> float:
    """Pixels of the largest page a pixel of another one, told from the longer side."""
    if first.imagelength >= first.imagewidth:
        return first.imagelength / page.imagelength
    return first.imagewidth / page.imagewidth


def _chunk(page: Any) -> tuple[int, int]:
    """Height and width of a tile, or of a strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


PREMULTIPLIED, PLAIN = 1, 2
"""How a TIFF says that its last channel is alpha: colours are less by it already, or not."""


def _alpha(page: Any) -> int | None:
    """Of which kind its alpha is, where it has one."""
    last = page.extrasamples[-1] if page.extrasamples else None
    return last if last in (PREMULTIPLIED, PLAIN) else None


def _colours(page: Any) -> int:
    """Channels without alpha."""
    return page.samplesperpixel - (_alpha(page) is not None)


def _decoder(page: Any) -> Any:
    """From bytes and place to pixels, with the tables that the tiles of a JPEG share."""
    tables, header = page.jpegtables, page.jpegheader
    decode = page.decode
    return lambda data, index: decode(data, index, jpegtables=tables, jpegheader=header)[0]


JPEG_2000 = (33003, 33004, 33005, 34712)
APERIO_YCBCR, APERIO_RGB = 33003, 33005
"""Aperio's compressions, which tell the colours whatever the page says of them."""

J2K_START = b"\xff\x4f\xff\x51"
J2K_STEPS = slice(46, 48)
"""Where a JPEG 2000 without a head says how far apart the values of its second channel lie."""


def _is_ycbcr(page: Any, data: bytes) -> bool:
    """Whether a decoded tile is still brightness and two colours.

    Decoders of pictures return red, green and blue, that of JPEG 2000 only where the tile has a
    head of its own or fewer values for its colours, as most of Aperio's have.
    """
    import tifffile

    told = page.photometric == tifffile.PHOTOMETRIC.YCBCR
    if page.compression not in JPEG_2000:
        return told and page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS
    is_bare = data.startswith(J2K_START) and data[J2K_STEPS] == b"\1\1"
    told = page.compression == APERIO_YCBCR or (told and page.compression != APERIO_RGB)
    return is_bare and told


def _rgb(tile: Shaped[np.ndarray, "_ _ 3"]) -> Shaped[np.ndarray, "_ _ 3"]:
    """Brightness, blue and red of full range as red, green and blue."""
    return cv2.cvtColor(np.ascontiguousarray(tile[:, :, [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)


def _is_inverted(page: Any) -> bool:
    import tifffile

    return page.photometric == tifffile.PHOTOMETRIC.MINISWHITE


def _spacing_um(file: Any, page: Any) -> float | None:
    """Microns a pixel, from the words of a scanner or the resolution of the file."""
    told = _told_um(page.description or "", file.ome_metadata or "")
    unit = page.tags.get("ResolutionUnit")
    resolution = page.tags.get("XResolution")
    if told is None and unit and resolution and int(unit.value) in MICRONS:
        count, of = resolution.value
        told = MICRONS[int(unit.value)] * of / count if count else None
    return sane_spacing(told)


def _told_um(description: str, ome: str) -> float | None:
    """What Aperio writes into the description, and OME into its header."""
    aperio = re.search(r"\bMPP\s*=\s*(\d*\.?\d+)", description)
    if aperio:
        return float(aperio[1])
    size = re.search(r'PhysicalSizeX="(\d*\.?\d+(?:[eE][+-]?\d+)?)"', ome)
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', ome)
    if not size or (unit and unit[1] not in OME_UNITS):
        return None
    return float(size[1]) * (OME_UNITS[unit[1]] if unit else 1.0)


OME_UNITS = {
    **dict.fromkeys(("\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "&#181;m", "um"), 1.0),
    "nm": 1e-3,
    "mm": 1e3,
}
