"""Cuts for several labels at once: which of them does a case have?

Each label has a cut of its own that is best for its F1, found exactly: no cut is better than one
just below the score of a case that has the label, so those are all there is to try. A rare label
has few such cases, and its best cut is then mostly luck. Steadier are one cut for all labels, which
suits scores that mean the same in all of them, and a cut that gives a label as often as it occurs,
which suits scores that do not. `ShrunkCuts`, the default, find out which, and go from there to the
label's own cut as its cases grow in number.

A case has a label where its score, 0 to 1, is at least the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.errors import TargetError
from foveal.manifest import Case, Truth
from foveal.metrics.overlap import MacroF1
from foveal.predictions import Predictions

COMMON_PULL, SHARE_PULL = 30.0, 100.0
"""Cases of a label at which its own cut counts as much as the steadier one (docs/LOG.md)."""

Scores = Float[np.ndarray, "case label"]
Has = Bool[np.ndarray, "case label"]
Weight = Float[np.ndarray, " case"]


@dataclass(frozen=True, slots=True)
class LabelCuts:
    """A fitted rule.

    Attributes:
        cuts: One a label; infinite for a label that is never given.
        at_least_one: Whether a case that reaches no cut gets the label that comes nearest.
    """

    cuts: tuple[float, ...]
    at_least_one: bool = False

    def __call__(self, predictions: Predictions, cases: Sequence[Case] = ()) -> Has:
        """Which labels every case has."""
        return self.given(predictions.matrix().values)

    def given(self, scores: Scores) -> Has:
        """Which labels have these scores."""
        above = scores - np.asarray(self.cuts)
        found = above >= 0
        if self.at_least_one:
            found[np.arange(len(found)), above.argmax(axis=1)] |= ~found.any(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class OwnCuts:
    """For each label the cut with the highest F1 on the fitted cases.

    Attributes:
        at_least_one: As in `LabelCuts`.
    """

    at_least_one: bool = False

    def fit(self, predictions: Predictions, truth: Truth) -> LabelCuts:
        """Fit on out-of-fold scores."""
        ranked = _Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
        return LabelCuts(tuple(ranked.own_cuts().tolist()), self.at_least_one)


@dataclass(frozen=True, slots=True)
class CommonCut:
    """One cut for all labels, with the highest macro F1 on the fitted cases.

    Attributes:
        at_least_one: As in `LabelCuts`.
    """

    at_least_one: bool = False

    def fit(self, predictions: Predictions, truth: Truth) -> LabelCuts:
        """Fit on out-of-fold scores."""
        ranked = _Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
        return LabelCuts((ranked.common_cut(),) * len(ranked.labels), self.at_least_one)


@dataclass(frozen=True, slots=True)
class SharedOut:
    """Cuts that give every label to as large a share of the fitted cases as have it.

    Attributes:
        at_least_one: As in `LabelCuts`.
    """

    at_least_one: bool = False

    def fit(self, predictions: Predictions, truth: Truth) -> LabelCuts:
        """Fit on out-of-fold scores."""
        ranked = _Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
        return LabelCuts(tuple(label.cut_of_share() for label in ranked.labels), self.at_least_one)


@dataclass(frozen=True, slots=True)
class ShrunkCuts:
    """Each label's own cut, pulled towards a steadier one where few cases have the label.

    A label of n cases gets n / (n + pull) of its own cut, counted in log odds. The rest is the
    common cut or that of the label's share, whichever has the higher macro F1 on folds left out.

    Attributes:
        at_least_one: As in `LabelCuts`.
    """

    at_least_one: bool = False

    def fit(self, predictions: Predictions, truth: Truth) -> LabelCuts:
        """Fit on out-of-fold scores; their folds are left out in turn to choose what pulls."""
        scores, has = predictions.matrix().values, truth.target != 0
        ways = _Ranked.of(scores, has, truth.weight).shrunk()
        value = self._left_out(scores, has, truth)
        return LabelCuts(tuple(ways[int(value.argmax())].tolist()), self.at_least_one)

    def _left_out(self, scores: Scores, has: Has, truth: Truth) -> Float[np.ndarray, " way"]:
        """The macro F1 of both ways on cases that they were not fitted on."""
        metric, sums = MacroF1(), np.zeros((2, 3 * has.shape[1]))
        folds = np.unique(truth.fold)
        for out in (truth.fold == fold for fold in folds):
            if not has[~out & (truth.weight > 0)].any():
                continue
            ranked = _Ranked.of(scores[~out], has[~out], truth.weight[~out])
            for k, cuts in enumerate(ranked.shrunk()):
                given = LabelCuts(tuple(cuts.tolist()), self.at_least_one).given(scores[out])
                sums[k] += metric.tally(given, truth.take(out)).sum(axis=0)
        return metric.value(sums)


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The one label of the highest score; nothing to fit."""

    def fit(self, predictions: Predictions, truth: Truth) -> Likeliest:
        """Itself."""
        return self

    def __call__(self, predictions: Predictions, cases: Sequence[Case] = ()) -> Has:
        """One label a case; of equal scores the first."""
        scores = predictions.matrix().values
        return scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])


@dataclass(frozen=True, slots=True)
class LabelOdds:
    """A line over the log odds of every label's score.

    Attributes:
        offset: One a label.
        slope: One a label.
    """

    offset: tuple[float, ...]
    slope: tuple[float, ...]

    def __call__(self, predictions: Predictions) -> Scores:
        """The probability of every label."""
        odds = np.array(self.offset) + np.array(self.slope) * _odds(predictions.matrix().values)
        return 1 / (1 + np.exp(-odds))


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """Logistic regression of every label on the log odds of its score.

    A label of few cases stays near its score as it is: `PRIOR` cases speak for that.

    Reference:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """

    def fit(self, predictions: Predictions, truth: Truth) -> LabelOdds:
        """Fit on out-of-fold scores."""
        odds = _odds(predictions.matrix().values)
        lines = [
            _line(x, has, truth.weight)
            for x, has in zip(odds.T, (truth.target != 0).T, strict=True)
        ]
        return LabelOdds(*(tuple(part) for part in zip(*lines, strict=True)))


PRIOR = 5.0
"""Cases that speak for a score as it is."""

NEWTON_STEPS = 30


def _line(
    x: Float[np.ndarray, " case"], has: Bool[np.ndarray, " case"], weight: Weight
) -> tuple[float, float]:
    """Offset and slope, by Newton steps from the score as it is, no further than a unit each."""
    table, start = np.stack([np.ones_like(x), x], axis=1), np.array([0.0, 1.0])
    at, pull = start.copy(), PRIOR * np.eye(2)
    for _ in range(NEWTON_STEPS):
        said = 1 / (1 + np.exp(-table @ at))
        slope = table.T @ (weight * (said - has)) + pull @ (at - start)
        bend = (table * (weight * said * (1 - said))[:, None]).T @ table + pull
        step = np.linalg.solve(bend, slope)
        at -= step / max(1.0, float(np.abs(step).max()))
    return float(at[0]), float(at[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    """One label's scores in order, and what lies at or above each of them.

    Attributes:
        scores: Of all cases, rising.
        above: Weight of the cases from each score on, and 0 after the last.
        own: Scores of the cases that have the label, rising.
        own_above: Their weight, likewise.
    """

    scores: Float[np.ndarray, "_"]
    above: Float[np.ndarray, "_"]
    own: Float[np.ndarray, "_"]
    own_above: Float[np.ndarray, "_"]

    def f1(self, cuts: Float[np.ndarray, " cut"]) -> Float[np.ndarray, " cut"]:
        """F1 of rising cuts."""
        hit = self.own_above[np.searchsorted(self.own, cuts)]
        given = self.above[np.searchsorted(self.scores, cuts)]
        return 2 * hit / np.maximum(given + self.own_above[0], 1e-300)

    def best_cut(self) -> float:
        """Midway between the best score to cut at and the next lower one."""
        if not self.own_above[0] > 0:
            return float("inf")
        return self.just_below(float(self.own[self.f1(self.own).argmax()]))

    def cut_of_share(self) -> float:
        """The cut that gives the label to as much weight as has it."""
        if not self.own_above[0] > 0:
            return float("inf")
        values, first = np.unique(self.scores, return_index=True)
        place = int(np.abs(self.above[first] - self.own_above[0]).argmin())
        return self.just_below(float(values[place]))

    def just_below(self, score: float) -> float:
        """Midway to the next lower score, or to 0."""
        place = int(np.searchsorted(self.scores, np.float32(score)))
        lower = float(self.scores[place - 1]) if place else min(0.0, score)
        return (lower + score) / 2


@dataclass(frozen=True, slots=True)
class _Ranked:
    """All labels' scores in order."""

    labels: tuple[_Label, ...]

    @staticmethod
    def of(scores: Scores, has: Has, weight: Weight) -> _Ranked:
        """Sort the scores of every label.

        Raises:
            TargetError: A score is not finite, or no case has any label.
        """
        if not np.isfinite(scores).all():
            raise TargetError("cuts need finite scores, and some are nan or infinite")
        if not weight.all():
            scores, has, weight = scores[weight > 0], has[weight > 0], weight[weight > 0]
        if not has.any():
            raise TargetError("no case has any label, so no cut can be fitted")
        sort = _sorted if (weight == weight[0]).all() else _sorted_with_weight
        columns = np.ascontiguousarray(scores.T)
        return _Ranked(
            tuple(
                _Label(**_named(sort(column, weight), sort(column[own], weight[own])))
                for column, own in zip(columns, has.T, strict=True)
            )
        )

    def own_cuts(self) -> Float[np.ndarray, " label"]:
        """The cut of every label with its highest F1; infinite where no case has it."""
        return np.array([label.best_cut() for label in self.labels])

    def share_cuts(self) -> Float[np.ndarray, " label"]:
        """The cut of every label that gives it as often as it occurs; likewise."""
        return np.array([label.cut_of_share() for label in self.labels])

    def common_cut(self) -> float:
        """The one cut of the highest macro F1."""
        tried = np.unique(np.concatenate([label.own for label in self.labels]))
        total = np.zeros(len(tried))
        for label in self.labels:
            total += label.f1(tried)
        best = float(tried[total.argmax()])
        return max(label.just_below(best) for label in self.labels)

    def shrunk(self) -> Float[np.ndarray, "2 label"]:
        """Cuts between each label's own and the common one, and between its own and its share's."""
        common = self.common_cut()
        own, shared = (
            np.where(np.isfinite(cuts), cuts, common)
            for cuts in (self.own_cuts(), self.share_cuts())
        )
        count = np.array([float(len(label.own)) for label in self.labels])
        return np.stack(
            [
                _between(own, steady, count / (count + pull))
                for steady, pull in ((common, COMMON_PULL), (shared, SHARE_PULL))
            ]
        )


def _named(all_cases: tuple[np.ndarray, ...], own: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    return {"scores": all_cases[0], "above": all_cases[1], "own": own[0], "own_above": own[1]}


def _odds(share: np.ndarray | float) -> np.ndarray:
    """Log odds, kept finite."""
    inside = np.clip(np.asarray(share, dtype=np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))


def _between(
    own: Float[np.ndarray, " label"],
    steady: Float[np.ndarray, " label"] | float,
    trust: Float[np.ndarray, " label"],
) -> Float[np.ndarray, " label"]:
    """A part of the way from one cut to another, counted in log odds."""
    mixed = trust * _odds(own) + (1 - trust) * _odds(steady)
    return np.where(own == steady, own, 1 / (1 + np.exp(-mixed)))


def _sorted(scores: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising scores, and how much weight is left from each on; all cases weigh the same."""
    each = float(weight[0]) if len(weight) else 1.0
    return np.sort(scores), each * np.arange(len(scores), -1.0, -1.0)


def _sorted_with_weight(scores: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for cases that weigh differently."""
    order = np.argsort(scores, kind="stable")
    return scores[order], np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
