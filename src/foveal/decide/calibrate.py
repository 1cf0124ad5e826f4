"""Scores brought to the scale of the truth.

Squared error, a sum of cumulative probabilities and the expectation of a softmax all estimate the
same thing, the expected grade, but on scales that training has bent. A line fitted out of fold puts
them back on one scale, a bent line says what a score means, and isotonic steps turn a score into a
probability for every grade.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.manifest import Truth
from foveal.predictions import Predictions

PRIOR_GROUPS = 5.0
"""Independent groups that say beforehand: the score is the grade, and kappa is .8."""

KNOTS = 12
TAIL, TAIL_CASES = 5, 4.0
"""Further knots at each end, each half as far from it, if so many cases lie beyond: where a grade
is rare, all of it lies beyond the outermost of the others."""

BEND_LENGTH = 0.8
"""Distance over which a bend changes, in standard deviations of the score."""

FAR = 100.0
"""Grades beyond the outermost knots to which a curve is drawn out."""


def expected(predictions: Predictions) -> Float[np.ndarray, " case"]:
    """The expected grade of every case, the only column of a grading member."""
    return predictions.matrix().values[:, 0].astype(np.float64)


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


@dataclass(frozen=True, slots=True)
class RisingCurve:
    """A rising curve through knots, straight between them."""

    scores: tuple[float, ...]
    grades: tuple[float, ...]

    def __call__(self, scores: Float[np.ndarray, "*case"]) -> Float[np.ndarray, "*case"]:
        """The expected grade of scores."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.grades)

    def inverse(self, grades: Float[np.ndarray, " cut"]) -> Float[np.ndarray, " cut"]:
        """The scores at which the curve reaches grades; infinite where it never does."""
        inside = np.interp(grades, self.grades, self.scores)
        above = np.where(grades > self.grades[-1], np.inf, inside)
        return np.where(grades <= self.grades[0], -np.inf, above)


@dataclass(frozen=True, slots=True)
class Bend:
    """The expected grade of a score: a line, and as much of a bend as the data show.

    The line is shrunk towards "the score is the grade" as if `PRIOR_GROUPS` groups had said so, for
    what counts as evidence is groups, not cases. On its residuals lies a Gaussian process; how far
    it may stray is averaged over `bends` by how likely each makes the data. The curve rises.

    Attributes:
        bends: Standard deviations of the bend, in grades; (0,) keeps the line.

    Reference:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 5.
    """

    bends: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)

    def fit(self, scores: Float[np.ndarray, " case"], truth: Truth) -> RisingCurve:
        """Fit on out-of-fold scores."""
        kept = truth.weight > 0
        x, w = np.asarray(scores, np.float64)[kept], truth.weight[kept]
        y, groups = truth.target[kept].astype(np.float64), groups_seen(truth)
        centre, spread = (
            np.average(x, weights=w),
            np.average((x - np.average(x, weights=w)) ** 2, weights=w),
        )
        level, slope = _shrunk_line(x, y, w, groups / (groups + PRIOR_GROUPS))
        if slope <= 0 or spread <= 0:  # it runs against the truth: the mean for everybody
            return RisingCurve((float(centre),), (float(level),))
        knots = np.unique(np.quantile(x, _knot_places(len(x))))
        near = np.searchsorted((knots[1:] + knots[:-1]) / 2, x)
        mass = np.bincount(near, weights=w, minlength=len(knots))
        knots, mass, near = knots[mass > 0], mass[mass > 0], np.unique(near, return_inverse=True)[1]
        residual = y - (level + slope * (x - centre))
        off = np.bincount(near, weights=w * residual) / mass
        noise = max(float(np.average((residual - off[near]) ** 2, weights=w)), 1e-6)
        noise_of_knots = np.diag(noise * mass.sum() / (groups * mass))
        strays = self._strays(knots / (BEND_LENGTH * np.sqrt(spread)), off, noise_of_knots)
        values = level + slope * (knots - centre) + strays
        least = 0.05 * slope * knots
        values = np.maximum.accumulate(values - least) + least
        return RisingCurve(
            (float(knots[0] - FAR / slope), *knots.tolist(), float(knots[-1] + FAR / slope)),
            (float(values[0] - FAR), *values.tolist(), float(values[-1] + FAR)),
        )

    def _strays(self, places: np.ndarray, off: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """How far the truth strays from the line at every knot, averaged over the bends."""
        likeness = np.exp(-0.5 * (places[:, None] - places) ** 2)
        chances, means = [], []
        for bend in self.bends:
            both = bend**2 * likeness + noise
            solved = np.linalg.solve(both, off)
            chances.append(-0.5 * (off @ solved + np.linalg.slogdet(both)[1]))
            means.append(bend**2 * likeness @ solved)
        chance = np.exp(np.array(chances) - max(chances))
        return chance @ np.array(means) / chance.sum()


def _knot_places(cases: int) -> Float[np.ndarray, " knot"]:
    """Shares of the scores that lie below each knot."""
    even = (np.arange(KNOTS) + 0.5) / KNOTS
    tail = even[0] / 2.0 ** np.arange(1, TAIL + 1)
    tail = tail[tail * cases >= TAIL_CASES]
    return np.concatenate([tail, even, 1 - tail])


def groups_seen(truth: Truth) -> float:
    """How many equal groups the cases are worth.

    Reference:
        Kish, Survey Sampling, 1965 (effective sample size).
    """
    _, place = np.unique(truth.group, return_inverse=True)
    mass = np.bincount(place, weights=truth.weight)
    return float(mass.sum() ** 2 / (mass**2).sum())


def _shrunk_line(x: np.ndarray, y: np.ndarray, w: np.ndarray, share: float) -> tuple[float, float]:
    """The grade at the mean score, and the slope, both pulled towards "the score is the grade".

    A score on quite another scale than grades is no grade and pulls less.
    """
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    spread = max(float(np.average((x - mean_x) ** 2, weights=w)), 1e-12)
    covariance = np.average((x - mean_x) * (y - mean_y), weights=w)
    scale = np.sqrt(share * np.average((y - mean_y) ** 2, weights=w) + 1 - share)
    guess = min(1.0, 4 * scale / np.sqrt(spread))
    slope = share * covariance / spread + (1 - share) * guess
    level = share * mean_y + (1 - share) * np.clip(mean_x, mean_y - scale, mean_y + scale)
    return float(level), float(slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeSteps:
    """P(grade >= k | score) as steps over the score, one row a question."""

    scores: tuple[float, ...]
    above: tuple[tuple[float, ...], ...]

    def __call__(self, predictions: Predictions) -> Float[np.ndarray, "case grade"]:
        """The probability of every grade, summing to 1, linear between the steps."""
        x = expected(predictions)
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

    def fit(self, predictions: Predictions, truth: Truth) -> GradeSteps:
        """Fit on out-of-fold predictions."""
        from scipy.optimize import isotonic_regression

        values, place = np.unique(expected(predictions), return_inverse=True)
        weight = np.bincount(place, weights=truth.weight)
        kept = weight > 0
        above = []
        for k in range(1, self.grades):
            share = np.bincount(place, weights=truth.weight * (truth.target >= k))[kept]
            above.append(isotonic_regression(share / weight[kept], weights=weight[kept]).x)
        table = np.stack(above) if above else np.zeros((0, int(kept.sum())))
        knots = ends_of_steps(table)
        return GradeSteps(
            scores=tuple(values[kept][knots].tolist()),
            above=tuple(tuple(row.tolist()) for row in table[:, knots]),
        )


def ends_of_steps(table: Float[np.ndarray, "curve place"]) -> Bool[np.ndarray, " place"]:
    """Where a step of any curve begins or ends; what lies between adds nothing to a line through.

    Example:
        >>> ends_of_steps(np.array([[0.0, 0.0, 0.0, 0.5, 0.5]])).tolist()
        [True, False, True, True, True]
    """
    edge = np.ones(table.shape[1] + 1, dtype=bool)
    edge[1:-1] = (np.diff(table, axis=1) != 0).any(axis=0)
    return edge[1:] | edge[:-1]
