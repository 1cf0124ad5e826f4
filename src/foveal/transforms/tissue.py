"""Where a slide shows tissue, and which of its tiles show most.

Tissue is told by colour on a small picture of the whole slide: dyes of histology leave green the
darkest, or next to it; a pen does not, nor do dirt and what was not scanned, which are grey. How
much tissue a square holds comes from a summed-area table, so that tiles of any size, on a grid of
any offset, cost four look-ups each::

    amount = tissue(overview)
    table = SummedArea.of(amount, height=20_000, width=16_000)
    best_tiles(table, side=512, count=36, offset=(0.5, 0.5))
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped

from foveal.arrays import Pixels

Amount = Float[np.ndarray, "row column"]
"""How much tissue is in a cell, 0 to 1."""

LEAST_DENSITY = 0.06
"""Optical density (log 10) under which nothing is told from glass."""

FULL_DENSITY = 0.6
"""Optical density from which darker tissue counts no more, so that folds do not win."""

GREY = 0.15
"""Spread of the densities of red, green and blue, as a share of the largest: dirt and black ink
have less where they are dark."""

DARK = 0.35
"""Mean density from which grey is taken for ink; pale tissue is greyish too."""

RED_ABSORBED = 1.25
"""Density of red over that of green from which a colour is blue or green ink: haematoxylin, the
bluest dye, has .93."""

BLUE_PASSED = 0.35
"""Density of blue over that of red under which dark blue is ink; haematoxylin has .45."""

RED_PASSED = 0.22
"""Density of red over the lesser of the others under which dark red is ink; the brown of an
immunostain has .5, and eosin hardly darkens blue."""

STRAY = 3
"""Cells along a side of what is taken away as dust."""


def tissue(overview: Pixels, *, pens: bool = True) -> Amount:
    """How much tissue every pixel of a small picture of the slide shows.

    A pixel counts by its optical density, against the glass of this slide. Grey pictures and those
    of other channels than red, green and blue count by density alone.

    Args:
        overview: The picture.
        pens: Whether what has the colour of a pen counts nothing. Some stains have them too, such
            as aniline blue and picrosirius red; black and dark grey are no stain.
    """
    density = np.moveaxis(optical_density(overview), 2, 0)
    mean = np.sum(density, axis=0) / len(density)
    shown = mean > LEAST_DENSITY
    if len(density) == 3:
        place = np.flatnonzero(shown)
        dyes = density.reshape(3, -1).take(place, axis=1)
        taken = _is_black(dyes)
        if pens:
            taken |= _is_coloured_ink(dyes)
        shown.reshape(-1)[place] = ~taken
    kernel = np.ones((STRAY, STRAY), dtype=np.uint8)
    if min(shown.shape) > 4 * STRAY:
        shown = cv2.morphologyEx(shown.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
    return np.where(shown, np.minimum(mean / FULL_DENSITY, 1.0), 0.0)


def optical_density(image: Pixels) -> Float[np.ndarray, "row column channel"]:
    """How much every pixel of 8 bit darkens the light of the lamp, as log 10, channel by channel.

    The lamp is the brightest hundredth of the picture, if that is bright enough to be glass.
    """
    planes = [np.ascontiguousarray(image[:, :, k]) for k in range(image.shape[2])]
    density = np.empty((len(planes), *image.shape[:2]), dtype=np.float32)
    for plane, out in zip(planes, density, strict=True):
        light = max(_level_below(plane, 0.99), 180.0)
        table = np.maximum(np.log10((light + 1) / np.arange(1, 257)), 0.0)
        cv2.LUT(plane, table.astype(np.float32), dst=out)
    return np.moveaxis(density, 0, 2)


def _level_below(plane: Shaped[np.ndarray, "row column"], share: float) -> float:
    """`np.quantile` of a plane of 8 bit, from its histogram."""
    place = share * (plane.size - 1)
    ranks = [int(place), min(int(place) + 1, plane.size - 1)]
    counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)
    low, high = np.searchsorted(np.cumsum(counts), ranks, side="right").tolist()
    return low + (place - ranks[0]) * (high - low)


def _is_black(density: Float[np.ndarray, "3 pixel"]) -> Bool[np.ndarray, " pixel"]:
    """Black pen, dirt, and what was not scanned: dark without a colour."""
    red, green, blue = density
    most = np.maximum(np.maximum(red, green), blue)  # along an axis of three it is far slower
    least = np.minimum(np.minimum(red, green), blue)
    spread = (most - least) / np.maximum(most, 1e-6)
    return (spread < GREY) & ((red + green + blue) / 3 > DARK)


def _is_coloured_ink(density: Float[np.ndarray, "3 pixel"]) -> Bool[np.ndarray, " pixel"]:
    """Pens of red, green and blue."""
    red, green, blue = density
    is_blue_or_green = red > RED_ABSORBED * np.maximum(green, LEAST_DENSITY)
    is_blue_or_green |= (blue < BLUE_PASSED * red) & (red > DARK)
    others = np.minimum(green, blue)
    is_red = (red < RED_PASSED * others) & (others > DARK)
    return is_blue_or_green | is_red


@dataclass(frozen=True, slots=True)
class SummedArea:
    """The amount of tissue in any rectangle of a slide.

    Attributes:
        table: Sums of all cells above and to the left of every corner.
        height: Of the slide, in pixels of its largest level.
        width: Likewise.

    Reference:
        Crow, Summed-area Tables for Texture Mapping, 1984.
    """

    table: Float[np.ndarray, "corner across"]
    height: float
    width: float

    @classmethod
    def of(cls, amount: Amount, *, height: float, width: float) -> SummedArea:
        """The table of amounts a cell, all cells together being the slide."""
        return cls(cv2.integral(amount, sdepth=cv2.CV_64F), height, width)

    def __call__(
        self, top: Float[np.ndarray, " tile"], left: Float[np.ndarray, " tile"], side: float
    ) -> Float[np.ndarray, " tile"]:
        """Tissue in squares, in cells' worth; exact, for squares that cut through cells too."""
        bottom, right = top + side, left + side
        upper = self._up_to(top, right) - self._up_to(top, left)
        return self._up_to(bottom, right) - self._up_to(bottom, left) - upper

    def _up_to(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Between corners a sum over cells is linear along each side."""
        rows, columns = (n - 1 for n in self.table.shape)
        y = np.clip(y * rows / self.height, 0, rows)
        x = np.clip(x * columns / self.width, 0, columns)
        j, i = np.minimum(y.astype(int), rows - 1), np.minimum(x.astype(int), columns - 1)
        v, u = y - j, x - i
        above = self.table[j, i] * (1 - u) + self.table[j, i + 1] * u
        below = self.table[j + 1, i] * (1 - u) + self.table[j + 1, i + 1] * u
        return above * (1 - v) + below * v


def best_tiles(
    tissue: SummedArea,
    *,
    side: float,
    count: int,
    offset: tuple[float, float] = (0.0, 0.0),
    evenly: float = 0.0,
) -> Float[np.ndarray, "tile corner"]:
    """The squares of a grid that hold most tissue, the best first; fewer where fewer hold any.

    The grid is centred on the slide, so it reaches over the edges by equal parts.

    Args:
        tissue: Of the slide.
        side: Of a square, in pixels of the largest level.
        count: Most squares.
        offset: Of the grid, down and across, in squares.
        evenly: Share of them, 0 to 1, that is spread over all squares with tissue, full and less
            full: what is pale or hollow shows there.

    Returns:
        Top and left of each.
    """
    lines = [
        _grid(length, side, shift)
        for length, shift in zip((tissue.height, tissue.width), offset, strict=True)
    ]
    top, left = (axis.reshape(-1) for axis in np.meshgrid(*lines, indexing="ij"))
    amount = np.round(tissue(top, left, side), 9)  # sums leave crumbs where there is nothing
    order = np.argsort(-amount, kind="stable")
    order = order[amount[order] > 0]
    spread = int(evenly * count)
    filled = np.count_nonzero(amount[order] > FILLED * amount.max(initial=0.0))
    ranks = np.linspace(0, filled - 1, spread).round().astype(int) if filled else []
    first = np.union1d(np.arange(min(count - spread, len(order))), ranks)
    rest = np.setdiff1d(np.arange(len(order)), first)[: count - len(first)]
    order = order[np.union1d(first, rest).astype(int)]
    return np.stack([top[order], left[order]], axis=1)


FILLED = 0.25
"""Tissue of a square, as a share of the fullest one's, from which it is one of those."""


def _grid(length: float, side: float, shift: float) -> Float[np.ndarray, " line"]:
    """Where squares along a side begin; a shifted grid has one more."""
    count, part = int(np.ceil(length / side)), shift % 1.0
    first = (length - count * side) / 2
    more = 1 if part else 0
    return first + (np.arange(count + more) + part - more) * side
