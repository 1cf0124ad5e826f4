"""Quadratic weighted kappa from six sums.

With the truth's histogram fixed, both the disagreement and the disagreement expected by chance are
sums over cases, so the score of any pool, fold, site or resample follows from added tallies::

    sums = quadratic_kappa.tally(labels, truth).sum(axis=0)
    quadratic_kappa.value(sums)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from foveal.manifest import Truth
from foveal.metrics.interval import whole_cases


@dataclass(frozen=True, slots=True)
class QuadraticKappa:
    """Agreement of two orders beyond chance, with squared distance as the disagreement.

    Reference:
        Cohen, Weighted Kappa, Psychological Bulletin, 1968.
    """

    name: str = "quadratic_kappa"

    def tally(self, labels: Int[np.ndarray, " case"], truth: Truth) -> Float[np.ndarray, "case 6"]:
        """Weight, and weighted sums of truth, label, truth², label², truth x label."""
        y, z = truth.target.astype(np.float64), labels.astype(np.float64)
        return truth.weight[:, None] * np.stack(
            [np.ones_like(y), y, z, y * y, z * z, y * z], axis=1
        )

    def value(self, sums: Float[np.ndarray, "*pool 6"]) -> Float[np.ndarray, "*pool"]:
        """Kappa of each pool of cases; nan where truth and labels are one and the same constant.

        Example:
            >>> from foveal.manifest import Truth
            >>> y = np.array([0, 1, 2, 3])
            >>> truth = Truth(target=y, weight=np.ones(4), group=y, fold=y)
            >>> round(float(quadratic_kappa.value(quadratic_kappa.tally(y, truth).sum(axis=0))), 6)
            1.0
        """
        n, y, z, yy, zz, yz = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        disagreement = n * (yy + zz - 2 * yz)
        by_chance = n * (yy + zz) - 2 * y * z
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(by_chance > 1e-12 * n * n, 1 - disagreement / by_chance, np.nan)

    pieces = whole_cases


quadratic_kappa = QuadraticKappa()
