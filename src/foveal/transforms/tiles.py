"""Windows over a plane, and how much each of their cells counts.

All places are counted in cells of the lattice, so that a window of any size fills the same cells.
Windows reach over the edges of the plane by a margin, where the volume is mirrored; so a plan that
discards the edge of every window still covers the edge of the plane::

    (cover,) = Windows(tile=8, stride=4, weight=hann)(rows=40, columns=60)
    cover.starts, cover.turns, cover.weights

Many small windows suit any network. One that gives a place the same score in whatever window it
lies only repeats itself in them; for such a one there are a few large crops, `Dense`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import UsageError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Windows that cover a plane, all of one size.

    Attributes:
        starts: First row and column of each, in cells; they may lie outside the plane, and between
            cells.
        turns: Which of four flips each is seen with.
        weights: How much each cell of a window counts; as large as a window is.
    """

    starts: Float[np.ndarray, "window 2"]
    turns: Int[np.ndarray, " window"]
    weights: Float[np.ndarray, "row column"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Square windows at a stride, the last one moved so that it ends where the plane does.

    Attributes:
        tile: Side of a window, in cells.
        stride: From window to window, in cells.
        weight: From the side of a window to the weight of every place along it.
        alternate: Whether windows are seen flipped in turn: where they overlap, in all ways alike.
    """

    tile: int
    stride: int
    weight: Callable[[int], Weights] = uniform
    alternate: bool = True

    def __post_init__(self) -> None:
        if not self.weight(self.tile).any():
            raise UsageError(f"windows of {self.tile} cells with no weight anywhere see nothing")

    def __call__(self, rows: int, columns: int) -> tuple[Cover]:
        """The windows of a plane of so many cells."""
        down, across = self._along(rows), self._along(columns)
        place = np.arange(len(down))[:, None] + 2 * np.arange(len(across))
        line = self.weight(self.tile)
        cover = Cover(
            starts=_grid(down, across),
            turns=(place % 4 if self.alternate else 0 * place).reshape(-1),
            weights=line[:, None] * line,
        )
        return (cover,)

    def _along(self, cells: int) -> Float[np.ndarray, " start"]:
        margin = int(np.flatnonzero(self.weight(self.tile))[0])
        first, last = -margin, max(cells + margin - self.tile, -margin)
        stride = min(self.stride, self.tile - 2 * margin)  # what is discarded leaves no holes
        count = -(-(last - first) // stride) + 1
        return np.round(np.linspace(first, last, count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """Large crops side by side, each with a halo that is discarded; the plane is seen a few times.

    A shift by the stride of a convolutional network changes nothing but the edge of what it sees,
    so each time the crops are shifted by a part of the stride, and seen with another flip. Where
    they are shifted there is one more of them along that side, and so a little smaller: the edge of
    one is the middle of another, and none is wasted on what lies outside.

    Attributes:
        side: Longest side of a crop with its halo, in cells.
        halo: Width of what is discarded, in cells.
        phases: How often the plane is seen, 1 to 4.
        step: The network's stride, in cells; halo and crops are made multiples of it.
    """

    side: int
    halo: int
    phases: int = 1
    step: int = 1

    def __call__(self, rows: int, columns: int) -> tuple[Cover, ...]:
        """The crops of a plane of so many cells, no larger than need be, for every look at it."""
        halo = -(-self.halo // self.step) * self.step
        looks = []
        for turn, parts in enumerate(PHASES[: self.phases]):
            down, across = (
                self._along(cells, part, halo)
                for cells, part in zip((rows, columns), parts, strict=True)
            )
            starts = _grid(down.starts - halo, across.starts - halo)
            inside = np.ones((down.kept, across.kept), dtype=np.float32)
            turns = np.full(len(starts), turn)
            looks.append(Cover(starts=starts, turns=turns, weights=np.pad(inside, halo)))
        return tuple(looks)

    def _along(self, cells: int, part: float, halo: int) -> _Line:
        """Crops side by side along so many cells, shifted by a part of the stride."""
        step, shift = self.step, part * self.step
        most = max((self.side - 2 * halo) // step, 1) * step
        count = -(-cells // most)
        if shift and (count > 1 or cells + shift > most):
            count += 1
        kept = int(-(-(cells + shift) // (count * step))) * step
        spare = count * kept - cells - shift
        outside = spare // (2 * step) * step if shift else 0  # both ends alike
        return _Line(starts=np.arange(count) * kept - shift - outside, kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Crops along one side of a plane.

    Attributes:
        starts: First cell that is kept of each.
        kept: Cells that are kept of each.
    """

    starts: Float[np.ndarray, " crop"]
    kept: int


PHASES = ((0.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.0, 0.5))
"""Shifts of a grid down and across, as parts of its step (a network's stride, the side of a tile):
those first that tell most."""


def _grid(
    down: Float[np.ndarray, " row"], across: Float[np.ndarray, " column"]
) -> Float[np.ndarray, "window 2"]:
    """Every pair, row by row."""
    return np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
