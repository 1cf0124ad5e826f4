"""Cuts: where a score on a line turns into the next grade.

For quadratic kappa the best decision has a closed form. At the optimum a case gets grade k or more
exactly when its expected grade reaches ::

    (1 - kappa) * mean grade + kappa * (k - 1/2)

half-integers pulled towards the mean. The rule needs the meaning of a score and two numbers, so it
hardly overfits (`ClosedFormCuts`, the default). The global optimum on the fitted cases costs a
sort, an isotonic regression and a few ratio steps (`ExactCuts`): the certificate of how much is
left, and a rule that overfits small sets. `BaggedExactCuts` sits between, `FixedCuts` are halves
and fifths.

A grade is the number of cuts at or below the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from foveal.decide.calibrate import PRIOR_GROUPS, Bend, expected, groups_seen
from foveal.errors import TargetError
from foveal.manifest import Text, Truth
from foveal.predictions import Predictions

PRIOR_KAPPA = 0.8

NO_KAPPA = 1e-9
"""Below it the best cuts are no better than one grade for everybody; sums are exact to less."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """A fitted rule: ascending cuts on the raw score, infinite where a grade is never given."""

    cuts: tuple[float, ...]

    def __call__(
        self, predictions: Predictions, site: Text | None = None
    ) -> Int[np.ndarray, " case"]:
        """The grade of every case."""
        return self.grade(expected(predictions))

    def grade(self, scores: Float[np.ndarray, " case"]) -> Int[np.ndarray, " case"]:
        """The grade of every score."""
        return np.searchsorted(np.asarray(self.cuts), np.asarray(scores, np.float64), side="right")


@dataclass(frozen=True, slots=True)
class FixedCuts:
    """Cuts that look at no data."""

    cuts: tuple[float, ...]

    @classmethod
    def halves(cls, grades: int) -> FixedCuts:
        """Rounding: .5, 1.5, ..."""
        return cls(tuple(k - 0.5 for k in range(1, grades)))

    @classmethod
    def fifths(cls, grades: int) -> FixedCuts:
        """The range of grades in equal parts: .8, 1.6, 2.4, 3.2 for five grades."""
        return cls(tuple(k * (grades - 1) / grades for k in range(1, grades)))

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """The same cuts, whatever the data."""
        return Cuts(self.cuts)


@dataclass(frozen=True, slots=True)
class ClosedFormCuts:
    """Half-integers pulled towards the mean grade by 1 - kappa, on the calibrated score.

    Grades below all that cases have are never given: a scale may begin at 1. Kappa is the fixed
    point of "the kappa that these cuts reach on the fitted cases", shrunk towards `PRIOR_KAPPA`
    where there are few groups.

    Attributes:
        grades: K.
        calibrate: From scores and truth to a rising curve.
    """

    grades: int
    calibrate: Bend = Bend()

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """Fit on out-of-fold scores.

        Raises:
            TargetError: A score is not finite.
        """
        raw = _finite(expected(predictions))
        meaning = self.calibrate.fit(raw, truth)
        scores = meaning(raw)
        mean = float(np.average(scores, weights=truth.weight))
        curve = _Curve.of(
            *_tied(scores, truth.target, truth.weight), _mean_square(truth.target, truth.weight)
        )
        half = np.arange(1, self.grades) - 0.5
        groups, kappa = groups_seen(truth), 1.0
        for _ in range(30):  # damped, because the kappa of cuts is a step function
            passed = np.searchsorted(curve.scores, (1 - kappa) * mean + kappa * half)
            evidence = groups * curve.kappa(passed) + PRIOR_GROUPS * PRIOR_KAPPA
            kappa = 0.5 * (kappa + max(evidence / (groups + PRIOR_GROUPS), 0.0))
        cuts = meaning.inverse((1 - kappa) * mean + kappa * half)
        cuts[: int(truth.target[truth.weight > 0].min())] = -np.inf
        return Cuts(tuple(cuts.tolist()))


@dataclass(frozen=True, slots=True)
class ExactCuts:
    """The cuts of the highest quadratic kappa on the fitted cases, proven global.

    Sort, pool adjacent violators, then Dinkelbach's ratio iteration: for a given kappa the best
    cuts are where the isotonic fit of the truth passes the closed-form thresholds, and the K-1 cuts
    decouple. Time O(n log n); weights and ties are exact.

    Reference:
        Dinkelbach, On Nonlinear Fractional Programming, Management Science, 1967.
    """

    grades: int

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """Fit on out-of-fold scores."""
        return Cuts(best_cuts(expected(predictions), truth.target, truth.weight, self.grades))


@dataclass(frozen=True, slots=True)
class BaggedExactCuts:
    """The median of exact cuts over bootstrap resamples of the groups."""

    grades: int
    resamples: int = 25
    seed: int = 0

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """Fit on out-of-fold scores."""
        raw = expected(predictions)
        _, place = np.unique(truth.group, return_inverse=True)
        groups = int(place.max()) + 1
        rng = np.random.default_rng(self.seed)
        fits = []
        for _ in range(self.resamples):
            drawn = np.bincount(rng.integers(0, groups, groups), minlength=groups)[place]
            weight = truth.weight * drawn
            if weight.any():
                fits.append(best_cuts(raw, truth.target, weight, self.grades))
        return Cuts(tuple(np.quantile(fits, 0.5, axis=0, method="lower").tolist()))


def best_cuts(
    scores: Float[np.ndarray, " case"],
    target: Int[np.ndarray, " case"],
    weight: Float[np.ndarray, " case"],
    grades: int,
) -> tuple[float, ...]:
    """The K-1 cuts that no others beat in quadratic kappa on these cases.

    Args:
        scores: One number a case; more means a higher grade.
        target: Grades, 0 to grades-1.
        weight: How much a case counts, 0 or more.
        grades: K.

    Returns:
        Ascending cuts, midway between neighbouring scores; -inf or inf where a grade is not used.
        Where scores tell nothing, so that every rule has a kappa of 0: the grade nearest to the
        mean for everybody.

    Raises:
        TargetError: A score is not finite.
    """
    from scipy.optimize import isotonic_regression

    values, weights, means = _tied(_finite(scores), target, weight)
    fit = isotonic_regression(means, weights=weights)
    start = fit.blocks[:-1]
    block_mean = fit.x[start]
    curve = _Curve.of(start, fit.weights, block_mean, _mean_square(target, weight))
    half = np.arange(1, grades) - 0.5
    kappa = 0.0
    while True:
        passed = np.searchsorted(block_mean, (1 - kappa) * curve.mean + kappa * half)
        reached = curve.kappa(passed)
        if reached <= kappa:
            break
        kappa = reached
    if kappa < NO_KAPPA:
        passed = np.searchsorted(block_mean, half)
    middle = np.full(len(start) + 1, np.inf)
    middle[0] = -np.inf
    below, above = values[start[1:] - 1], values[start[1:]]
    halfway = below + (above - below) / 2
    middle[1:-1] = np.where(halfway > below, halfway, above)  # neighbouring floats have no middle
    return tuple(middle[passed].tolist())


@dataclass(frozen=True, slots=True)
class _Curve:
    """The kappa of any cuts over sorted scores, from sums over what lies at or above each cut."""

    scores: np.ndarray
    mean: float
    second_moment: float
    weight_above: np.ndarray
    gain_above: np.ndarray

    @classmethod
    def of(
        cls, scores: np.ndarray, weight: np.ndarray, target: np.ndarray, second_moment: float
    ) -> _Curve:
        """From ascending scores, their weight and mean truth, and the mean of the squared truth."""
        share = weight / weight.sum()
        mean = float(share @ target)
        above = np.zeros((2, len(share) + 1))
        np.cumsum(share[::-1], out=above[0, -2::-1])
        np.cumsum((share * (target - mean))[::-1], out=above[1, -2::-1])
        return cls(scores, mean, float(second_moment), above[0], above[1])

    def kappa(self, passed: np.ndarray) -> float:
        """Kappa when grade k starts at position `passed[k - 1]`."""
        step = 2 * np.arange(1, len(passed) + 1) - 1 - 2 * self.mean
        gain = 2 * self.gain_above[passed].sum()
        scale = self.second_moment + (self.weight_above[passed] * step).sum()
        return float(gain / scale) if scale > 0 else 0.0


def _finite(scores: Float[np.ndarray, " case"]) -> Float[np.ndarray, " case"]:
    if not np.isfinite(scores).all():
        raise TargetError("cuts need finite scores, and some are nan or infinite")
    return scores


def _mean_square(target: Int[np.ndarray, " case"], weight: Float[np.ndarray, " case"]) -> float:
    """In float64: squares of small integers overflow."""
    return float(np.average(target.astype(np.float64) ** 2, weights=weight))


def _tied(
    scores: Float[np.ndarray, " case"],
    target: Int[np.ndarray, " case"],
    weight: Float[np.ndarray, " case"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted distinct scores with their total weight and mean truth; no cut splits a tie."""
    if not weight.all():
        kept = weight > 0
        scores, target, weight = scores[kept], target[kept], weight[kept]
    order = np.argsort(scores)
    values, y, w = scores[order], target[order].astype(np.float64), weight[order]
    fresh = np.empty(len(values), dtype=bool)
    fresh[:1] = True
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    if fresh.all():
        return values, w, y
    first = np.flatnonzero(fresh)
    total = np.add.reduceat(w, first)
    return values[first], total, np.add.reduceat(w * y, first) / total
