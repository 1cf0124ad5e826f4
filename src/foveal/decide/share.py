"""From planes of scores to masks: everything above a threshold, or a share of every plane.

A threshold on the scores needs them to mean the same in every volume. A share marks the highest
cells of each plane, as many as the fitted share says, whatever their scores are: it survives a
volume on which all scores are lower. Both are fitted by the exact sweep of `decide.sweep`. A score
of 0 is no score: it lies outside the region.

Reference:
    The share is the percentile rule of the Vesuvius ink-detection competition, 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.decide.sweep import Cells, best_threshold
from foveal.manifest import Text, Truth
from foveal.predictions import Predictions

Mask = Bool[np.ndarray, "_ _"]

NOTHING = 2.0
"""A threshold that no score reaches."""


@dataclass(frozen=True, slots=True)
class AboveThreshold:
    """Cells with at least this score."""

    threshold: float

    def __call__(self, predictions: Predictions, site: Text | None = None) -> list[Mask]:
        """One mask a unit."""
        return [
            (plane >= self.threshold) & (plane > 0)
            for plane in (np.asarray(p) for _, p in predictions.arrays())
        ]


@dataclass(frozen=True, slots=True)
class Absolute:
    """One threshold for all volumes, the best for F-beta out of fold.

    Attributes:
        beta: Below 1 favours precision.
    """

    beta: float = 0.5

    def fit(self, predictions: Predictions, truth: Truth) -> AboveThreshold:
        """Fit on out-of-fold planes; the truth is `foveal.lattice.Planes`."""
        planes = [np.asarray(p) for _, p in predictions.arrays()]
        return AboveThreshold(_best(_cells(planes, planes, truth), self.beta))


@dataclass(frozen=True, slots=True)
class HighestShare:
    """The highest cells of every plane, this share of those that have a score."""

    share: float

    def __call__(self, predictions: Predictions, site: Text | None = None) -> list[Mask]:
        """One mask a unit."""
        planes = (np.asarray(p) for _, p in predictions.arrays())
        return [(rank_share(plane) >= 1 - self.share) & (plane > 0) for plane in planes]


@dataclass(frozen=True, slots=True)
class Share:
    """One share for all volumes, the best for F-beta out of fold.

    Attributes:
        beta: Below 1 favours precision.
    """

    beta: float = 0.5

    def fit(self, predictions: Predictions, truth: Truth) -> HighestShare:
        """Fit on out-of-fold planes; the truth is `foveal.lattice.Planes`."""
        planes = [np.asarray(p) for _, p in predictions.arrays()]
        ranks = [rank_share(p) for p in planes]
        return HighestShare(1 - min(_best(_cells(ranks, planes, truth), self.beta), 1.0))


@dataclass(frozen=True, slots=True)
class AsTheyAre:
    """Scores that are probabilities already; nothing to fit."""

    def fit(self, predictions: Predictions, truth: Truth) -> AsTheyAre:
        """Itself."""
        return self

    def __call__(self, predictions: Predictions) -> Predictions:
        """The scores themselves."""
        return predictions


def rank_share(plane: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "_ _"]:
    """The share of a plane's scored cells that score less, 0 to below 1; equal ones share it.

    Example:
        >>> rank_share(np.array([[0.0, 0.2], [0.9, 0.2]], dtype=np.float32)).tolist()
        [[0.0, 0.0], [0.6666666865348816, 0.0]]
    """
    inside = plane > 0
    values, place, counts = np.unique(plane[inside], return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    out = np.zeros(plane.shape, dtype=np.float32)
    if len(values):
        out[inside] = (below / counts.sum())[place.reshape(-1)]
    return out


def _best(found: Iterator[Cells], beta: float) -> float:
    """The best threshold; above every score where nothing is foreground."""
    volumes = list(found)
    if not any(positive.any() for _, positive, _ in volumes):
        return NOTHING
    return best_threshold(volumes, beta=beta).threshold


def _cells(
    scores: Sequence[np.ndarray], planes: Sequence[np.ndarray], truth: Truth
) -> Iterator[Cells]:
    """What the sweep looks at: cells with a score, inside the region, counted with their weight."""
    for one, plane, positive, area, weight in zip(
        scores, planes, truth.target.positive, truth.target.area, truth.weight, strict=True
    ):
        inside = plane > 0
        yield one[inside], weight * positive[inside], weight * area[inside]
