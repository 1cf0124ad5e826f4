"""One resolution of a slide, and the glass that lies around it, in whatever form it is kept."""

from __future__ import annotations

from dataclasses import dataclass

GLASS = 255
"""What lies outside of a slide, and where a scanner left a tile out; of 8 bit."""


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
