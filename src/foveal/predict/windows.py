"""One plane of scores from windows of a volume: the same for a curve, a held-out part, a new case.

Scores are added up in float32 on the study's lattice, as many numbers as there are cells, whatever
the size of the volume, the windows or the output; the plane is enlarged once, by whoever needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

FLIPS = ((), (-1,), (-2,), (-2, -1))
"""Axes that each of the four ways to look at a window turns round."""

SAME = 1e-9
"""Scores that are spread no further than this are all the same."""


@runtime_checkable
class Cover(Protocol):
    """Windows that cover a plane, all of one size."""

    @property
    def starts(self) -> Float[np.ndarray, "window 2"]:
        """First row and column of each, in cells; may lie outside the plane or between cells."""
        ...

    @property
    def turns(self) -> Int[np.ndarray, " window"]:
        """Which of `FLIPS` each is seen with."""
        ...

    @property
    def weights(self) -> Float[np.ndarray, "row column"]:
        """How much each cell of a window counts; as large as a window is."""
        ...


Read = Callable[[float, float, int, int], np.ndarray]
"""From the first row and column of a window and its rows and columns, all in cells, to its pixels
"channel height width"."""


@dataclass(slots=True)
class Accumulator:
    """Weighted sums of scores on a lattice.

    Attributes:
        total: Of weighted scores.
        weight: Of the weights.
    """

    total: Float[np.ndarray, "row column"]
    weight: Float[np.ndarray, "row column"]

    @staticmethod
    def of(rows: int, columns: int) -> Accumulator:
        """An empty one."""
        zeros = np.zeros((rows, columns), dtype=np.float32)
        return Accumulator(zeros, zeros.copy())

    def add(
        self,
        scores: Float[np.ndarray, "down across"],
        weights: Float[np.ndarray, "down across"],
        row: float,
        column: float,
    ) -> None:
        """Add one window; what lies outside the lattice is left out.

        Args:
            scores: Of its cells.
            weights: How much each counts.
            row: Where it begins; between two cells, each gets the part that is nearer to it.
            column: Likewise.
        """
        for r, down in _nearest(row):
            for c, across in _nearest(column):
                self._add(scores, weights * np.float32(down * across), r, c)

    def _add(self, scores: np.ndarray, weights: np.ndarray, row: int, column: int) -> None:
        rows, columns = self.total.shape
        down, across = scores.shape
        inside = (
            slice(max(row, 0), max(min(row + down, rows), 0)),
            slice(max(column, 0), max(min(column + across, columns), 0)),
        )
        if any(i.start >= i.stop for i in inside):
            return  # it lies wholly outside
        part = tuple(
            slice(i.start - o, i.stop - o) for i, o in zip(inside, (row, column), strict=True)
        )
        self.total[inside] += scores[part] * weights[part]
        self.weight[inside] += weights[part]

    def mean(self) -> Float[np.ndarray, "row column"]:
        """The weighted mean; 0 where no window was."""
        return self.total / np.maximum(self.weight, np.float32(1e-12))


def score_plane(
    evaluate: Callable[[Tensor], Tensor],
    read: Read,
    covers: Sequence[Cover],
    shape: tuple[int, int],
    *,
    batch: int,
    step: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, "row column"]:
    """Scores of every cell of a plane.

    Args:
        evaluate: From windows "case channel height width" to scores "case row column".
        read: The pixels of a window.
        covers: The windows; each place gets the weighted mean of all that show it.
        shape: Rows and columns of the plane, in cells.
        batch: Windows a step.
        step: Told before every step which share of the windows was seen; may raise.
    """
    sums = Accumulator.of(*shape)
    seen, windows_in_all = 0, sum(len(cover.starts) for cover in covers)
    for cover in covers:
        for some in _in_batches(len(cover.starts), batch):
            step(seen / windows_in_all)
            seen += len(some)
            places = cover.starts[some].tolist()
            windows = [read(*place, *cover.weights.shape) for place in places]
            scores = _looked_at(evaluate, windows, cover.turns[some].tolist())
            for place, one in zip(places, scores, strict=True):
                sums.add(one, cover.weights, *place)
    return sums.mean()


def shift_agreement(
    evaluate: Callable[[Tensor], Tensor],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    edge: int,
) -> float:
    """How alike the middle of windows is scored alone and inside larger ones.

    Args:
        evaluate: From windows to scores, as above.
        pairs: The pixels of windows, and those of larger ones that have them in their middle; what
            is added on a side is a whole number of cells.
        edge: Cells on every side of a window that are no part of its middle.

    Returns:
        The correlation of the scores: 1 for the same, 0 where every place has the same score.
    """
    alone, inside = [], []
    for small, large in pairs:
        scores = [
            evaluate(torch.from_numpy(w.astype(np.float32))[None])[0].cpu().numpy()
            for w in (small, large)
        ]
        wider = (len(scores[1]) - len(scores[0])) // 2
        for one, margin, into in zip(scores, (edge, edge + wider), (alone, inside), strict=True):
            into.append(one[margin : len(one) - margin, margin : len(one) - margin].reshape(-1))
    both = np.stack([np.concatenate(alone), np.concatenate(inside)]).astype(np.float64)
    spread = both.std(axis=1)
    return float(np.corrcoef(both)[0, 1]) if spread.min() > SAME else 0.0


def _nearest(place: float) -> list[tuple[int, float]]:
    """The cells that a place lies between, and how much of each it is."""
    whole = int(np.floor(place))
    part = place - whole
    return [(whole, 1 - part), (whole + 1, part)] if part else [(whole, 1.0)]


def _looked_at(
    evaluate: Callable[[Tensor], Tensor], windows: Sequence[np.ndarray], turns: Sequence[int]
) -> Float[np.ndarray, "window row column"]:
    depth, height, width = windows[0].shape
    seen = np.empty((len(windows), height, width, depth), dtype=np.float32)
    for one, window, turn in zip(seen, windows, turns, strict=True):  # copied once, as stored
        one[...] = np.moveaxis(np.flip(window, FLIPS[turn]), 0, 2)
    scores = evaluate(torch.from_numpy(seen).permute(0, 3, 1, 2))
    back = [s.flip(FLIPS[t]) for s, t in zip(scores.cpu(), turns, strict=True)]
    return torch.stack(back).float().numpy()


def _in_batches(count: int, batch: int) -> Iterator[list[int]]:
    return (list(range(k, min(k + batch, count))) for k in range(0, count, batch))
