"""One class a case: which is it, where some classes are rare?

The likeliest class is right most often, and rare classes are hardly ever the likeliest. A score
that counts all classes alike, such as macro F1, wants them named more often: each class's score is
divided by its share of the cases to a power between 0, the likeliest, and 1, as if all classes were
equally frequent. The power with the highest macro F1 is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveal.decide.f1 import Has, Scores
from foveal.decide.labels import LEAST_SCORE, PRIOR
from foveal.manifest import Text, Truth
from foveal.metrics.overlap import MacroF1
from foveal.predictions import Predictions

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the share of a class, to choose from."""


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The one label of the highest score; nothing to fit."""

    def fit(self, predictions: Predictions, truth: Truth) -> Likeliest:
        """Itself."""
        return self

    def __call__(self, predictions: Predictions, site: Text | None = None) -> Has:
        """One label a case; of equal scores the first."""
        scores = predictions.matrix().values
        return scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])


@dataclass(frozen=True, slots=True)
class OffsetClasses:
    """The one class of the highest logarithm of its score and an offset.

    Attributes:
        offset: One a class.
    """

    offset: tuple[float, ...]

    def __call__(self, predictions: Predictions, site: Text | None = None) -> Has:
        """One class a case; of equal ones the first."""
        return self.given(predictions.matrix().values)

    def given(self, scores: Scores) -> Has:
        """Which class has these scores."""
        logs = np.log(np.maximum(scores, LEAST_SCORE)) + np.asarray(self.offset)
        return logs.argmax(axis=1)[:, None] == np.arange(scores.shape[1])


@dataclass(frozen=True, slots=True)
class EvenClasses:
    """Scores over the shares of their classes to the power of the highest macro F1.

    Reference:
        Menon and others, Long-Tail Learning via Logit Adjustment, 2021.
    """

    def fit(self, predictions: Predictions, truth: Truth) -> OffsetClasses:
        """Fit on out-of-fold scores; of powers that are as good the lowest."""
        scores, metric = predictions.matrix().values, MacroF1()
        count = truth.weight @ (truth.target != 0)
        share = np.where(
            count > 0, count / max(count.sum(), 1e-12), 1.0
        )  # never seen: not favoured
        tried = [OffsetClasses(tuple((-power * np.log(share)).tolist())) for power in POWERS]
        values = [metric.value(metric.tally(t.given(scores), truth).sum(axis=0)) for t in tried]
        return tried[int(np.argmax(np.nan_to_num(values)))]


@dataclass(frozen=True, slots=True)
class ClassShares:
    """Scores raised to a power and brought to a sum of 1, so that their order stays.

    Attributes:
        power: Above 1 makes them surer.
    """

    power: float

    def __call__(self, predictions: Predictions) -> Scores:
        """The probability of every class."""
        return _shares(predictions.matrix().values, self.power)


@dataclass(frozen=True, slots=True)
class ClassProbabilities:
    """The power of the scores under which what is true was likeliest, one for all classes.

    Reference:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017 (for a softmax,
        a power is a temperature).
    """

    def fit(self, predictions: Predictions, truth: Truth) -> ClassShares:
        """Fit on out-of-fold scores, as if `PRIOR` cases had said that they are right as is."""
        from scipy.optimize import minimize_scalar

        scores, true = predictions.matrix().values, truth.target.argmax(axis=1)[:, None]

        def surprise(exponent: float) -> float:
            chance = np.take_along_axis(_shares(scores, np.exp(exponent)), true, axis=1)
            return float(-truth.weight @ np.log(chance[:, 0]) + PRIOR * exponent**2 / 2)

        return ClassShares(float(np.exp(minimize_scalar(surprise, bounds=(-2.0, 3.0)).x)))


def _shares(scores: Scores, power: float) -> Scores:
    logs = power * np.log(np.maximum(scores.astype(np.float64), LEAST_SCORE))
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
