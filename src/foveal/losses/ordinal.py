"""Three approaches to one order, and the score each ends in: the expected grade.

Targets are distributions over grades, so that a blend of two cases, a smoothed label and a second
reader's doubt are targets like any other. Regression asks for the mean of the distribution,
cumulative classification for its tails, classification for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Distribution = Float[Tensor, "case grade"]
Score = Float[Tensor, " case"]


def mean_grade(target: Distribution) -> Score:
    """The mean of every distribution over grades."""
    return target @ torch.arange(target.shape[1], dtype=target.dtype, device=target.device)


def squared_error(logits: Float[Tensor, "case 1"], target: Distribution) -> Float[Tensor, ""]:
    """Squared distance from the one output to the mean grade, averaged over cases.

    Example:
        >>> float(squared_error(torch.tensor([[1.5]]), torch.tensor([[0.0, 1.0, 0.0]])))
        0.25
    """
    return F.mse_loss(logits[:, 0], mean_grade(target))


def identity(logits: Float[Tensor, "case 1"]) -> Score:
    """The one output as it is."""
    return logits[:, 0]


def cumulative_bce(logits: Float[Tensor, "case step"], target: Distribution) -> Float[Tensor, ""]:
    """Ask of every case, for each step k at once, whether its grade lies above k.

    Args:
        logits: One logit a step; a case of grade g should pass the first g steps.
        target: Distributions over one grade more than there are steps.

    Returns:
        Mean binary cross-entropy over cases and steps, in nats.

    Example:
        >>> logits, grade_one = torch.tensor([[9.0, -9.0]]), torch.tensor([[0.0, 1.0, 0.0]])
        >>> bool(cumulative_bce(logits, grade_one) < 1e-3)
        True

    Reference:
        Frank and Hall, A Simple Approach to Ordinal Classification, 2001.
    """
    above = target.flip(1).cumsum(1).flip(1)[:, 1:].clamp(0, 1)
    return F.binary_cross_entropy_with_logits(logits, above)


def passed_steps(logits: Float[Tensor, "case step"]) -> Score:
    """The expected number of steps passed."""
    return logits.sigmoid().sum(1)


@dataclass(frozen=True, slots=True)
class ExpectedGrade:
    """Cross-entropy over grades plus squared error of the expected grade.

    Attributes:
        pull: Weight of the squared error.
    """

    pull: float = 1.0

    def __call__(
        self, logits: Float[Tensor, "case grade"], target: Distribution
    ) -> Float[Tensor, ""]:
        """The sum of both, averaged over cases."""
        distance = F.mse_loss(expectation(logits), mean_grade(target))
        return F.cross_entropy(logits, target) + self.pull * distance


def expectation(logits: Float[Tensor, "case grade"]) -> Score:
    """The mean grade of the softmax."""
    return mean_grade(logits.softmax(1))
