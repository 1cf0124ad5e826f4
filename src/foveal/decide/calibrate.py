"""Scores brought to the scale of the truth.

Squared error, a sum of cumulative probabilities and the expectation of a softmax all estimate the
same thing, the expected grade, but on scales that training has bent. A line fitted out of fold puts
them back on one scale, a bent line says what a score means, and log odds over that give every
grade a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.errors import ShapeError
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
    """The expected grade of every case, the only column of a grading member.

    Raises:
        ShapeError: There are several columns.
    """
    values = predictions.matrix().values
    if values.shape[1] != 1:
        raise ShapeError(
            f"one column of expected grades is wanted, and there are {values.shape[1]}; cure, "
            "where they are probabilities of grades: their product with np.arange(grades)"
        )
    return values[:, 0].astype(np.float64)


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


@dataclass(frozen=True, slots=True)
class GradeOdds:
    """The log odds of "the grade is k or more", a line each over the expected grade.

    Attributes:
        meaning: From a score to the expected grade.
        lines: From how far that lies above k - 1/2; one for every k from 1.
    """

    meaning: RisingCurve
    lines: tuple[Line, ...]

    def __call__(self, predictions: Predictions) -> Float[np.ndarray, "case grade"]:
        """The probability of every grade, summing to 1."""
        grade = np.clip(self.meaning(expected(predictions)), 0, len(self.lines))
        above = [_chance(line(grade - k + 0.5)) for k, line in enumerate(self.lines, 1)]
        table = np.stack([np.ones_like(grade), *above, np.zeros_like(grade)], axis=1)
        shares = np.maximum(table[:, :-1] - table[:, 1:], LEAST_SHARE)  # lines cross somewhere
        return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True)
class GradeProbabilities:
    """Logistic regression of every "is the grade k or more?" on the expected grade.

    A question with few groups on one side stays near what a score usually says of a grade, so no
    grade is ever impossible.

    Reference:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """

    grades: int

    def fit(self, predictions: Predictions, truth: Truth) -> GradeOdds:
        """Fit on out-of-fold predictions."""
        scores = expected(predictions)
        meaning = Bend().fit(scores, truth)
        grade = np.clip(meaning(scores), 0, self.grades - 1)
        weight = truth.weight * (groups_seen(truth) / truth.weight.sum())
        lines = [
            line_of_odds(grade - k + 0.5, truth.target >= k, weight, slope=ODDS, prior=ODDS_GROUPS)
            for k in range(1, self.grades)
        ]
        return GradeOdds(meaning, tuple(lines))


ODDS, ODDS_GROUPS = 2.0, 2.0
"""Log odds that a grade of distance brings, before there are data, and how many groups say so."""


LEAST_SHARE = 1e-4
"""Least probability of a grade, before all are made to sum to 1."""


def _chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def line_of_odds(
    x: Float[np.ndarray, " case"],
    has: Bool[np.ndarray, " case"],
    weight: Float[np.ndarray, " case"],
    *,
    slope: float,
    prior: float,
) -> Line:
    """Logistic regression that `prior` cases pull towards a line through 0.

    Args:
        x: Of every case.
        has: Whether what is asked holds.
        weight: How much a case counts.
        slope: Of that line.
        prior: How many cases of x = 1 it is worth.

    Returns:
        The log odds over x, by Newton steps from that line, no further than a unit each.
    """
    table, start = np.stack([np.ones_like(x), x], axis=1), np.array([0.0, slope])
    at, pull = start.copy(), prior * np.eye(2)
    for _ in range(NEWTON_STEPS):
        said = _chance(table @ at)
        gradient = table.T @ (weight * (said - has)) + pull @ (at - start)
        curvature = (table * (weight * said * (1 - said))[:, None]).T @ table + pull
        step = np.linalg.solve(curvature, gradient)
        at -= step / max(1.0, float(np.abs(step).max()))
    return Line(intercept=float(at[0]), slope=float(at[1]))


NEWTON_STEPS = 30
