"""Losses for masks on a lattice: cross-entropy a cell, and F-beta of all cells of a batch at once.

A target has two planes: how much of every cell counts (0 outside the region, or where it is judged
and must not be learned from), and before it how much of that is foreground. Both are areas, so that
a blend of two targets says what lies in a blend of two cells.

Reference:
    The sum of both losses is what the second place of the Vesuvius ink-detection competition
    trained with, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SMALL = 1e-6


@dataclass(frozen=True, slots=True)
class CrossEntropyAndFBeta:
    """The mean cross-entropy of cells, and 1 - soft F-beta over the whole batch.

    Attributes:
        beta: Below 1 favours precision.
        smoothing: Targets keep this far from 0 and 1, times a half.
        overlap: Weight of the second part; 0 leaves it out.
    """

    beta: float = 0.5
    smoothing: float = 0.1
    overlap: float = 1.0

    def __call__(
        self,
        logits: Float[Tensor, "case row column"],
        target: Float[Tensor, "case 2 row column"],
    ) -> Float[Tensor, ""]:
        """The loss of a batch.

        Args:
            logits: One a cell.
            target: Foreground and weight of every cell, as parts of its area, 0 to 1.
        """
        weight = target[:, 1]
        true = target[:, 0] / weight.clamp(min=SMALL)
        true = true * (1 - self.smoothing) + self.smoothing / 2
        total = weight.sum().clamp(min=SMALL)
        entropy = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
        loss = (weight * entropy).sum() / total
        if self.overlap:
            given = logits.sigmoid() * weight
            hit, there = (given * true).sum(), (weight * true).sum()
            score = (1 + self.beta**2) * hit / (self.beta**2 * there + given.sum() + SMALL)
            loss = loss + self.overlap * (1 - score)
        return loss


def foreground(logits: Float[Tensor, "*cell"]) -> Float[Tensor, "*cell"]:
    """The probability of foreground."""
    return torch.sigmoid(logits)
