"""Slides: a picture too large to hold, kept as a pyramid of levels cut into tiles.

Any region of any level, decoding only the tiles that it touches; one level kept in strips, or no
pyramid at all, works too. TIFF is read directly (`pyramid`), PNG and JPEG as one level (`picture`),
other formats of scanners through OpenSlide where it is there (`vendor`)::

    with open_slide("biopsy.tiff") as slide:
        slide.levels[1].downsample, slide.spacing_um
        slide.read(1, top=512, left=0, height=256, width=256)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Int, Shaped

from foveal.arrays import Pixels
from foveal.errors import UnreadableImage
from foveal.read.image import BMP_START, JPEG_START, PNG_START, decode
from foveal.read.level import Level
from foveal.read.picture import PictureSlide
from foveal.read.pyramid import TiffSlide
from foveal.read.tiff import TIFF_START
from foveal.read.vendor import VendorSlide

PIECE = 1024
"""Side of what is shrunk at once, up to which it is made of whole tiles."""

OVERVIEW_LEAST = 96
"""Longer side of the smallest level that shows where tissue is, in pixels."""


@runtime_checkable
class Slide(Protocol):
    """An open slide.

    Attributes:
        path: Of its file.
        levels: The largest first.
        channels: Of every level.
        bits: That its file keeps a value in; 8 are read.
        spacing_um: Microns along a side of a pixel of the largest level; None where nobody says.
    """

    path: str
    levels: tuple[Level, ...]
    channels: int
    bits: int
    spacing_um: float | None

    def read(self, level: int, *, top: int, left: int, height: int, width: int) -> Pixels:
        """A region in pixels of its level, glass where it lies outside; 8 bit.

        Raises:
            UnreadableImage: A tile does not decode.
        """
        ...

    def fill(
        self,
        out: Shaped[np.ndarray, "region height width channel"],
        level: int,
        corners: Int[np.ndarray, "region corner"],
    ) -> None:
        """Read regions of one size, from their tops and lefts; no tile is decoded twice."""
        ...

    def fingerprint(self) -> str:
        """The same for slides of the same content, without decoding them."""
        ...


@contextmanager
def open_slide(path: str) -> Iterator[Slide]:
    """Open a slide for as long as it is needed.

    Raises:
        UnreadableImage: The file is missing, truncated, or no slide that can be read.
    """
    slide = _opened(path)
    try:
        yield slide
    finally:
        slide.close()


def scene(path: str, side: int) -> Pixels:
    """All of a mask that may be a pyramid, which is shown at most `side` pixels wide and high.

    Where a tile was left out nothing is marked.

    Raises:
        UnreadableImage: The file is missing, truncated, or no picture.
    """
    if _is_tiff(path):
        with suppress(UnreadableImage), closing(TiffSlide(path, empty=0)) as slide:
            if len(slide.levels) > 1 and slide.bits == 8:
                return overview(slide, side)
    return decode(path)


def _opened(path: str) -> TiffSlide | PictureSlide | VendorSlide:
    start = _start(path)
    if not start:
        raise UnreadableImage(f"{path}: the file is empty")
    if start[:4] in TIFF_START:
        return TiffSlide(path)
    is_picture = start.startswith(PICTURES) and Path(path).suffix.lower() != MIRAX
    return PictureSlide(path) if is_picture else VendorSlide(path)


PICTURES = (PNG_START, JPEG_START, BMP_START, b"RIFF", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
"""How PNG, JPEG, BMP, WebP and JPEG 2000 begin, with and without a head."""

MIRAX = ".mrxs"
"""Of slides whose file is a small JPEG, and whose pixels lie in a folder beside it."""


def _is_tiff(path: str) -> bool:
    return _start(path)[:4] in TIFF_START


def _start(path: str) -> bytes:
    """The first bytes of a file, by which its format is known."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(PNG_START))
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def level_for(slide: Slide, downsample: float) -> int:
    """The coarsest level that still shows what a picture shrunk so often would."""
    fine = [k for k, one in enumerate(slide.levels) if one.downsample <= downsample * (1 + 1e-2)]
    return max(fine, key=lambda k: slide.levels[k].downsample, default=0)


def overview(slide: Slide, side: int) -> Pixels:
    """All of a slide from its smallest level, at most `side` pixels wide and high.

    Where the smallest level is larger, such as in a file of one level, it is averaged tile by tile.
    """
    shown = [
        k for k, one in enumerate(slide.levels) if max(one.height, one.width) >= OVERVIEW_LEAST
    ]
    k = max(shown, key=lambda k: slide.levels[k].downsample, default=0)
    level = slide.levels[k]
    factor = 1
    while max(level.height, level.width) > side * factor:
        factor *= 2  # as the sides of tiles; so few cells lie in two
    if factor == 1:
        return slide.read(k, top=0, left=0, height=level.height, width=level.width)
    shape = (-(-level.height // factor), -(-level.width // factor), slide.channels)
    out = np.empty(shape, dtype=np.uint8)
    high, wide = (_piece(length, factor) for length in level.chunk)
    for top in range(0, level.height, high):
        for left in range(0, level.width, wide):
            height, width = min(high, level.height - top), min(wide, level.width - left)
            piece = slide.read(k, top=top, left=left, height=height, width=width)
            if height % factor or width % factor:
                frame = (0, -height % factor, 0, -width % factor)
                piece = cv2.copyMakeBorder(piece, *frame, cv2.BORDER_REPLICATE)
            cells = (piece.shape[1] // factor, piece.shape[0] // factor)
            y, x = top // factor, left // factor
            out[y : y + cells[1], x : x + cells[0]] = cv2.resize(
                piece, cells, interpolation=cv2.INTER_AREA
            ).reshape(*cells[::-1], slide.channels)
    return out


def _piece(chunk: int, factor: int) -> int:
    """Side of a piece of whole cells, and of whole tiles unless it were too large."""
    both = math.lcm(chunk, factor)
    return both if both <= PIECE else -(-chunk // factor) * factor
