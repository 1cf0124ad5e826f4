"""Losses for labels: each a question of its own, or one of them to a case.

All end in the same score, the probability of every label. Targets are shares, 0 to 1, so that a
blend of two cases is a target too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Labels = Float[Tensor, "case label"]

SMALL = 1e-6


def label_bce(logits: Labels, target: Labels) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over cases and labels, in nats.

    Example:
        >>> logits = torch.tensor([[9.0, -9.0]])
        >>> bool(label_bce(logits, torch.tensor([[1.0, 0.0]])) < 1e-3)
        True
    """
    return functional.binary_cross_entropy_with_logits(logits, target)


@dataclass(frozen=True, slots=True)
class Focal:
    """Cross-entropy in which what is told well already counts little.

    Attributes:
        gamma: How much less; 0 is plain cross-entropy.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, 2017.
    """

    gamma: float = 2.0

    def __call__(self, logits: Labels, target: Labels) -> Float[Tensor, ""]:
        """The mean over cases and labels, in nats."""
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        off = (target - logits.sigmoid()).abs().clamp(min=SMALL)  # the slope at 0 may be infinite
        return (off**self.gamma * entropy).mean()


@dataclass(frozen=True, slots=True)
class SoftMacroF1:
    """1 - macro F1 of the batch with probabilities in place of labels, beside cross-entropy.

    Labels that no case of the batch has are left to the cross-entropy.

    Attributes:
        weight: Of the first part.
    """

    weight: float = 0.5

    def __call__(self, logits: Labels, target: Labels) -> Float[Tensor, ""]:
        """The loss of a batch."""
        given, there = logits.sigmoid(), target.sum(0)
        score = 2 * (given * target).sum(0) / (given.sum(0) + there + SMALL)
        present = (there > 0).to(score.dtype)
        missed = (present * (1 - score)).sum() / present.sum().clamp(min=1)
        return label_bce(logits, target) + self.weight * missed


def probability(logits: Labels) -> Labels:
    """The probability of every label."""
    return torch.sigmoid(logits)


def class_entropy(logits: Labels, target: Labels) -> Float[Tensor, ""]:
    """Mean cross-entropy of one label a case, in nats.

    Example:
        >>> logits = torch.tensor([[9.0, -9.0]])
        >>> bool(class_entropy(logits, torch.tensor([[1.0, 0.0]])) < 1e-3)
        True
    """
    return functional.cross_entropy(logits, target)


def class_probability(logits: Labels) -> Labels:
    """The probability of every label where a case has one; they sum to 1."""
    return logits.softmax(1)
