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
