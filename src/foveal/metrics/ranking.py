"""Mean average precision at k where every case has one right answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from foveal.manifest import Truth
from foveal.metrics.interval import whole_cases


@dataclass(frozen=True, slots=True)
class MapAtK:
    """1 for the right name in the first place, 1/2 in the second, ... 0 after place k.

    Labels are names "case place", best first; truth is one name a case.
    """

    k: int = 5

    @property
    def name(self) -> str:
        """The field's name of the score."""
        return f"map_at_{self.k}"

    def tally(
        self, labels: Shaped[np.ndarray, "case place"], truth: Truth
    ) -> Float[np.ndarray, "case 2"]:
        """Weight and weighted precision; a name given twice counts where it stands first."""
        hits = labels[:, : self.k] == truth.target.reshape(-1, 1)
        place = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)
        return truth.weight[:, None] * np.stack([np.ones(len(labels)), 1 / place], axis=1)

    def value(self, sums: Float[np.ndarray, "*pool 2"]) -> Float[np.ndarray, "*pool"]:
        """The mean of each pool."""
        weight, total = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / weight)

    pieces = whole_cases
