"""Scores brought to the scale of the truth.

Squared error, a sum of cumulative probabilities and the expectation of a softmax all estimate the
same thing, the expected grade, but on scales that training has bent. A line fitted out of fold puts
them back on one scale; isotonic steps turn a score into a probability for every grade.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from foveal.manifest import Truth


@dataclass(frozen=True, slots=True)
class Line:
    """score -> intercept + slope x score."""

    intercept: float
    slope: float

    def __call__(self, scores: Float[np.ndarray, "*case"]) -> Float[np.ndarray, "*case"]:
        """Scores on the scale of the truth."""
        return self.intercept + self.slope * np.asarray(scores, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Affine:
    """The weighted least-squares line from score to truth; never falling.

    A score without spread, or one that runs against the truth, becomes the mean of the truth.
    """

    def fit(self, scores: Float[np.ndarray, " case"], truth: Truth) -> Line:
        """Fit on out-of-fold scores."""
        x, y, w = np.asarray(scores, np.float64), truth.target.astype(np.float64), truth.weight
        mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
        spread = np.average((x - mean_x) ** 2, weights=w)
        slope = np.average((x - mean_x) * (y - mean_y), weights=w) / spread if spread > 0 else 0.0
        slope = max(float(slope), 0.0)
        return Line(intercept=float(mean_y - slope * mean_x), slope=slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeSteps:
    """P(grade >= k | score) as steps over the score, one row a question."""

    scores: tuple[float, ...]
    above: tuple[tuple[float, ...], ...]

    def __call__(self, scores: Float[np.ndarray, " case"]) -> Float[np.ndarray, "case grade"]:
        """The probability of every grade, summing to 1, linear between the steps."""
        x = np.asarray(scores, np.float64)
        above = [np.interp(x, self.scores, row) for row in self.above]
        table = np.stack([np.ones_like(x), *above, np.zeros_like(x)], axis=1)
        return np.maximum(table[:, :-1] - table[:, 1:], 0.0)


@dataclass(frozen=True, slots=True)
class GradeProbabilities:
    """Isotonic regression of every "is the grade k or more?" on the score.

    The questions are nested, and isotonic regression keeps the order of what it is given, so the
    differences are never negative.
    """

    grades: int

    def fit(self, scores: Float[np.ndarray, " case"], truth: Truth) -> GradeSteps:
        """Fit on out-of-fold scores."""
        from scipy.optimize import isotonic_regression

        values, place = np.unique(np.asarray(scores, np.float64), return_inverse=True)
        weight = np.bincount(place, weights=truth.weight)
        kept = weight > 0
        above = []
        for k in range(1, self.grades):
            share = np.bincount(place, weights=truth.weight * (truth.target >= k))[kept]
            above.append(isotonic_regression(share / weight[kept], weights=weight[kept]).x)
        table = np.stack(above) if above else np.zeros((0, int(kept.sum())))
        edge = np.ones(table.shape[1] + 1, dtype=bool)
        edge[1:-1] = (np.diff(table, axis=1) != 0).any(axis=0)
        knots = edge[1:] | edge[:-1]  # the inside of a step adds nothing
        return GradeSteps(
            scores=tuple(values[kept][knots].tolist()),
            above=tuple(tuple(row.tolist()) for row in table[:, knots]),
        )
