"""One resolution of a slide, and the glass that lies around it, in whatever form it is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from foveal.arrays import Pixels

SPACINGS_UM = (0.01, 50.0)
"""Microns per pixel that a microscope may have; 72 dots an inch, a default of software, is 353."""

GLASS = 255
"""What lies outside of a slide, and where a scanner left a tile out; of 8 bit."""


def sane_spacing(told: float | None) -> float | None:
    """Microns a pixel as a file tells them, if a scanner may have them."""
    is_sane = told is not None and SPACINGS_UM[0] <= told <= SPACINGS_UM[1]
    return told if is_sane else None


def on_glass(
    colours: Pixels, alpha: Shaped[np.ndarray, "height width"], *, premultiplied: bool = False
) -> Pixels:
    """Colours of 8 bit as they look on glass where they are transparent.

    Args:
        colours: Of every pixel.
        alpha: How opaque it is, of 8 or 16 bit.
        premultiplied: Whether colours are less by it already.
    """
    full = np.iinfo(alpha.dtype).max
    if alpha.min() == full:
        return colours
    seen = (alpha / np.float32(full))[:, :, None]
    lit = colours * (np.float32(1) if premultiplied else seen)
    return np.clip(np.rint(lit + GLASS * (1 - seen)), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide.

    Attributes:
        height: Rows.
        width: Columns.
        downsample: Pixels of the largest level along a side of one of its pixels.
        chunk: Height and width of a tile or strip.
    """

    height: int
    width: int
    downsample: float
    chunk: tuple[int, int]
