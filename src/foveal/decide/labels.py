"""Cuts for several labels at once: which of them does a case have?

Each label has a cut of its own that is best for its F1, found exactly: no cut is better than one
just below the score of a case that has the label, so those are all there is to try. A rare label
has few such cases, and its best cut is then mostly luck. Steadier are one cut for all labels, which
suits scores that mean the same in all of them, and a cut that gives a label as often as it occurs,
which suits scores that do not. `ShrunkCuts`, the default, take the latter unless the former is
clearly better, and go from there to the label's own cut as its cases grow in number.

A case has a label where its score, 0 to 1, is at least the cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from foveal.decide.calibrate import line_of_odds
from foveal.decide.f1 import Has, Ranked, Scores, log_odds
from foveal.manifest import Text, Truth
from foveal.metrics.interval import Resamples, paired_error, resampled_sums
from foveal.metrics.overlap import MacroF1
from foveal.predictions import Predictions


@dataclass(frozen=True, slots=True)
class LabelCuts:
    """A fitted rule.

    Attributes:
        cuts: One a label; infinite for a label that is never given.
        at_least_one: Whether a case that reaches no cut gets the label that comes nearest, counted
            in log odds: every score is near the cut of a rare label by mere difference.
    """

    cuts: tuple[float, ...]
    at_least_one: bool = False

    def __call__(self, predictions: Predictions, site: Text | None = None) -> Has:
        """Which labels every case has."""
        return self.given(predictions.matrix().values)

    def given(self, scores: Scores) -> Has:
        """Which labels have these scores."""
        cuts = np.asarray(self.cuts)
        found = scores >= cuts
        if self.at_least_one:
            short = np.where(np.isinf(cuts), -np.inf, log_odds(scores) - log_odds(cuts))
            found[np.arange(len(found)), short.argmax(axis=1)] |= ~found.any(axis=1)
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
        ranked = Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
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
        ranked = Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
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
        ranked = Ranked.of(predictions.matrix().values, truth.target != 0, truth.weight)
        return LabelCuts(tuple(label.cut_of_share() for label in ranked.labels), self.at_least_one)


@dataclass(frozen=True, slots=True)
class ShrunkCuts:
    """Each label's own cut, pulled towards a steadier one where few cases have the label.

    A label of n cases gets n / (n + pull) of its own cut, counted in log odds. The rest is the cut
    of the label's share, or the common one where that has clearly the higher macro F1 on folds left
    out: where scores are weak, the best common cut gives nearly every label to nearly everybody.
    Where no fold of several can judge, such as where one case has a label, the share's cut counts
    alone.

    Attributes:
        at_least_one: As in `LabelCuts`.
    """

    at_least_one: bool = False

    def fit(self, predictions: Predictions, truth: Truth) -> LabelCuts:
        """Fit on out-of-fold scores; their folds are left out in turn to choose what pulls."""
        scores, has = predictions.matrix().values, truth.target != 0
        (by_common, by_share), error = self._left_out(scores, has, truth)
        several = len(np.unique(truth.fold)) > 1
        if several and not max(by_common, by_share) > 0:  # scored by what never saw the label
            return SharedOut(self.at_least_one).fit(predictions, truth)
        to_common, to_share = Ranked.of(scores, has, truth.weight).shrunk()
        chosen = to_common if by_common - by_share > CLEARLY * error else to_share
        return LabelCuts(tuple(chosen.tolist()), self.at_least_one)

    def _left_out(
        self, scores: Scores, has: Has, truth: Truth
    ) -> tuple[Float[np.ndarray, " way"], float]:
        """The macro F1 of both ways on cases that they were not fitted on; their paired error.

        0 or nan where every fold left out either has no label or holds all cases that have one.
        """
        metric = MacroF1()
        block = np.unique(truth.group, return_inverse=True)[1] % BLOCKS
        sums = np.zeros((2, int(block.max(initial=0)) + 1, 3 * has.shape[1]))
        for out in (truth.fold == fold for fold in np.unique(truth.fold)):
            if not has[~out & (truth.weight > 0)].any():
                continue
            ranked = Ranked.of(scores[~out], has[~out], truth.weight[~out])
            for of_way, cuts in zip(sums, ranked.shrunk(), strict=True):
                given = LabelCuts(tuple(cuts.tolist()), self.at_least_one).given(scores[out])
                np.add.at(of_way, block[out], metric.tally(given, truth.take(out)))
        drawn = [Resamples(resampled_sums(one, resamples=RESAMPLES), len(one)) for one in sums]
        return metric.value(sums.sum(axis=1)), paired_error(metric, *drawn)


CLEARLY = 2.0
"""Paired standard errors by which the common cut must be better (docs/LOG.md)."""

BLOCKS, RESAMPLES = 200, 200
"""Blocks of groups, at most, from which that error is told, and how often they are drawn."""


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
        odds = np.array(self.offset) + np.array(self.slope) * _odds(predictions)
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
        odds = _odds(predictions)
        lines = [
            line_of_odds(x, has, truth.weight, slope=1.0, prior=PRIOR)
            for x, has in zip(odds.T, (truth.target != 0).T, strict=True)
        ]
        return LabelOdds(tuple(x.intercept for x in lines), tuple(x.slope for x in lines))


LEAST_SCORE = 1e-3
"""What a score of 0 counts as, and how far from 1 one of 1: nothing is impossible."""


def _odds(predictions: Predictions) -> Scores:
    return log_odds(np.clip(predictions.matrix().values, LEAST_SCORE, 1 - LEAST_SCORE))


PRIOR = 5.0
"""Cases that speak for a score as it is."""
