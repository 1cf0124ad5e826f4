"""Which cases an epoch shows, and in which order.

Draws are systematic: a case of weight w among n of mean weight 1 is shown floor(w) or ceil(w)
times, so equal weights show every case exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every case as often as its own weight says."""

    def __call__(
        self,
        target: Float[np.ndarray, "case grade"],
        weight: Float[np.ndarray, " case"],
        rng: np.random.Generator,
    ) -> Int[np.ndarray, " draw"]:
        """As many draws as there are cases, shuffled."""
        return systematic(weight, rng)


@dataclass(frozen=True, slots=True)
class Balanced:
    """Rare grades more often than they occur.

    Attributes:
        power: 0 leaves the shares as they are, 1 makes all grades equally frequent.
    """

    power: float = 0.5

    def __call__(
        self,
        target: Float[np.ndarray, "case grade"],
        weight: Float[np.ndarray, " case"],
        rng: np.random.Generator,
    ) -> Int[np.ndarray, " draw"]:
        """As many draws as there are cases, shuffled."""
        share = weight @ target / max(float(weight.sum()), 1e-300)
        lift = np.where(share > 0, np.maximum(share, 1e-12) ** -self.power, 0.0)
        return systematic(weight * (target @ lift), rng)


def systematic(
    weight: Float[np.ndarray, " case"], rng: np.random.Generator
) -> Int[np.ndarray, " draw"]:
    """Draw as many cases as there are, each in proportion to its weight, evenly, then shuffle."""
    edges = np.cumsum(weight, dtype=np.float64)
    if not edges[-1] > 0:
        raise TrainingError("all training cases of a fold have weight 0; cure: other --weight")
    places = (np.arange(len(weight)) + rng.random()) / len(weight) * edges[-1]
    return rng.permutation(
        np.minimum(np.searchsorted(edges, places, side="right"), len(weight) - 1)
    )


@dataclass(frozen=True, slots=True)
class PerIndividual:
    """Rare individuals more often than they occur, and pictures of one side by side.

    Attributes:
        least: An individual with fewer pictures is shown as if it had so many.
        together: Pictures of an individual that follow each other, for losses that compare the
            cases of a batch; 1 mixes all.
    """

    least: int = 1
    together: int = 1

    def __call__(
        self,
        target: Int[np.ndarray, " case"],
        weight: Float[np.ndarray, " case"],
        rng: np.random.Generator,
    ) -> Int[np.ndarray, " draw"]:
        """As many draws as there are cases; a negative target is nobody, never more frequent."""
        _, place, count = np.unique(target, return_inverse=True, return_counts=True)
        lift = np.where(target < 0, 1.0, np.maximum(self.least / count[place], 1.0))
        draws = systematic(weight * lift, rng)
        if self.together == 1:
            return draws
        order = draws[np.argsort(target[draws], kind="stable")]
        who = target[order]
        first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
        turn = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        is_start = (turn % self.together == 0) | (who < 0)
        runs = np.split(order, np.flatnonzero(is_start)[1:])
        return np.concatenate([runs[k] for k in rng.permutation(len(runs))])
