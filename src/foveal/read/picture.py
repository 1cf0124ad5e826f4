"""A slide that is an ordinary picture, such as a PNG: one level, decoded in full when it is opened.

Crops of slides and thumbnails are published so. What is too large for that is refused with its
size, as a photograph is: it needs a form that can be read in parts.
"""

from __future__ import annotations

import hashlib
from typing import final

import numpy as np
from jaxtyping import Int, Shaped

from foveal.arrays import Pixels
from foveal.read.image import decode_with_alpha, in_eight_bits, spare_bits_of
from foveal.read.level import GLASS, Level, on_glass

PIECE = 1024
"""Side of what is looked at together, in pixels."""


@final
class PictureSlide:
    """Whatever decodes as a photograph does."""

    def __init__(self, path: str) -> None:
        image, alpha = decode_with_alpha(path)
        self.path = path
        self.bits = 8 * image.dtype.itemsize
        spare_bits = spare_bits_of(image.max() / 0xFFFF) if image.dtype == np.uint16 else 0
        colours = in_eight_bits(image, spare_bits)
        self._image = colours if alpha is None else on_glass(colours, alpha)
        height, width, self.channels = image.shape
        level = Level(height, width, 1.0, (min(height, PIECE), min(width, PIECE)))
        self.levels: tuple[Level, ...] = (level,)
        self.spacing_um: float | None = None

    def close(self) -> None:
        """Nothing is open."""

    def read(self, level: int, *, top: int, left: int, height: int, width: int) -> Pixels:
        """A region in pixels of its level, glass where it lies outside; 8 bit."""
        out = np.full((height, width, self.channels), GLASS, dtype=np.uint8)
        y, x = max(top, 0), max(left, 0)
        part = self._image[y : max(top + height, 0), x : max(left + width, 0)]
        out[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = part
        return out

    def fill(
        self,
        out: Shaped[np.ndarray, "region height width channel"],
        level: int,
        corners: Int[np.ndarray, "region corner"],
    ) -> None:
        """Read regions of one size, from their tops and lefts."""
        height, width = out.shape[1:3]
        for region, (top, left) in zip(out, corners.tolist(), strict=True):
            region[:] = self.read(level, top=top, left=left, height=height, width=width)

    def fingerprint(self) -> str:
        """Of the size and all pixels."""
        shape = repr(self._image.shape).encode()
        return hashlib.sha256(shape + self._image.tobytes()).hexdigest()
