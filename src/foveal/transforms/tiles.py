"""Windows over a plane, and how much each of their cells counts.

All places are counted in cells of the lattice, so that a window of any size fills the same cells.
Windows reach over the edges of the plane by a margin, where the volume is mirrored; so a plan that
discards the edge of every window still covers the edge of the plane::

    plan = Windows(tile=8, stride=4, weight=hann)
    plan.starts(rows=40, columns=60)      # "window 2"
    plan.weights()                        # "row column"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Weights = Float[np.ndarray, " cell"]


def uniform(cells: int) -> Weights:
    """Every cell of a window alike."""
    return np.ones(cells, dtype=np.float32)


def hann(cells: int) -> Weights:
    """Most in the middle of a window, least at its edge, nothing nowhere."""
    place = (np.arange(cells) + 0.5) / cells
    return np.sin(np.pi * place).astype(np.float32) ** 2


@dataclass(frozen=True, slots=True)
class Inner:
    """Only the inside of a window.

    Attributes:
        edge: Cells that are discarded on every side.
    """

    edge: int

    def __call__(self, cells: int) -> Weights:
        """1 inside, 0 at the edge."""
        inside = np.ones(cells, dtype=np.float32)
        inside[: self.edge] = inside[cells - self.edge :] = 0
        return inside


@dataclass(frozen=True, slots=True)
class Windows:
    """Square windows at a stride, the last one moved so that it ends where the plane does.

    Attributes:
        tile: Side of a window, in cells.
        stride: From window to window, in cells.
        weight: From the side of a window to the weight of every place along it.
    """

    tile: int
    stride: int
    weight: Callable[[int], Weights] = uniform

    def starts(self, rows: int, columns: int) -> Int[np.ndarray, "window 2"]:
        """First row and column of every window, in cells; they may lie outside the plane."""
        down, across = self._along(rows), self._along(columns)
        return np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 2)

    def turns(self, rows: int, columns: int) -> Int[np.ndarray, " window"]:
        """Which of four flips each window is seen with: where windows overlap, all alike."""
        down, across = np.arange(len(self._along(rows))), np.arange(len(self._along(columns)))
        return ((down[:, None] + 2 * across) % 4).reshape(-1)

    def weights(self) -> Float[np.ndarray, "row column"]:
        """How much each cell of a window counts."""
        line = self.weight(self.tile)
        return line[:, None] * line

    def _along(self, cells: int) -> Int[np.ndarray, " start"]:
        margin = int(np.flatnonzero(self.weight(self.tile))[0])
        first, last = -margin, max(cells + margin - self.tile, -margin)
        count = -(-(last - first) // self.stride) + 1
        return np.round(np.linspace(first, last, count)).astype(np.int64)
