"""One plane of scores from windows of a volume: the same for a curve, a held-out part, a new case.

Scores are added up in float32 on the study's lattice, as many numbers as there are cells, whatever
the size of the volume, the windows or the output; the plane is enlarged once, by whoever needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from foveal.errors import Stopped

FLIPS = ((), (-1,), (-2,), (-2, -1))
"""Axes that each of the four ways to look at a window turns round."""


@runtime_checkable
class Plan(Protocol):
    """Where windows are and how much their cells count."""

    def starts(self, rows: int, columns: int) -> Int[np.ndarray, "window 2"]:
        """First row and column of every window, in cells."""
        ...

    def turns(self, rows: int, columns: int) -> Int[np.ndarray, " window"]:
        """Which of `FLIPS` each window is seen with."""
        ...

    def weights(self) -> Float[np.ndarray, "row column"]:
        """How much each cell of a window counts."""
        ...


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
        row: int,
        column: int,
    ) -> None:
        """Add one window that begins at a cell; what lies outside the lattice is left out."""
        rows, columns = self.total.shape
        down, across = scores.shape
        inside = (
            slice(max(row, 0), min(row + down, rows)),
            slice(max(column, 0), min(column + across, columns)),
        )
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
    read: Callable[[int, int], np.ndarray],
    plan: Plan,
    shape: tuple[int, int],
    *,
    batch: int,
    alternate: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Float[np.ndarray, "row column"]:
    """Scores of every cell of a plane.

    Args:
        evaluate: From windows "case channel height width" to scores "case row column".
        read: From the first row and column of a window, in cells, to its pixels
            "channel height width".
        plan: Of windows.
        shape: Rows and columns of the plane, in cells.
        batch: Windows a step.
        alternate: Whether windows are seen flipped in turn; every cell sees all flips where windows
            overlap twice and more.
        should_stop: Asked before every step.

    Raises:
        Stopped: The signal came.
    """
    sums, weights = Accumulator.of(*shape), plan.weights()
    starts = plan.starts(*shape)
    turns = plan.turns(*shape) if alternate else np.zeros(len(starts), dtype=np.int64)
    for some in _in_batches(len(starts), batch):
        if should_stop():
            raise Stopped("stopped while scoring; the same call goes on")
        windows = [read(*starts[k].tolist()) for k in some]
        scores = _looked_at(evaluate, windows, turns[some].tolist())
        for k, one in zip(some, scores, strict=True):
            sums.add(one, weights, *starts[k].tolist())
    return sums.mean()


def _looked_at(
    evaluate: Callable[[Tensor], Tensor], windows: Sequence[np.ndarray], turns: Sequence[int]
) -> Float[np.ndarray, "window row column"]:
    seen = [
        torch.from_numpy(w.astype(np.float32)).flip(FLIPS[t])
        for w, t in zip(windows, turns, strict=True)
    ]
    scores = evaluate(torch.stack(seen))
    back = [s.flip(FLIPS[t]) for s, t in zip(scores.cpu(), turns, strict=True)]
    return torch.stack(back).float().numpy()


def _in_batches(count: int, batch: int) -> Iterator[list[int]]:
    return (list(range(k, min(k + batch, count))) for k in range(0, count, batch))
