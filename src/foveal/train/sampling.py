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


@dataclass(frozen=True, slots=True)
class Mixture:
    """Batches of a fixed composition: so many cases with a rare label, middling ones, common ones.

    A case is as rare as the rarest label it has; a third of the labels each are rare, middling and
    common. Cases of the three kinds take turns, so that a batch has the composition to one case
    each, or a share of one more.

    Attributes:
        shares: Of rare, middling and common cases; a kind that no case is of leaves its share to
            the others.
    """

    shares: tuple[float, float, float] = (0.5, 0.3, 0.2)

    def __call__(
        self,
        target: Float[np.ndarray, "case label"],
        weight: Float[np.ndarray, " case"],
        rng: np.random.Generator,
    ) -> Int[np.ndarray, " draw"]:
        """As many draws as there are cases."""
        kind = self.kinds(target, weight)
        turns, draws = [], []
        for rows, wanted in zip(self._rows(kind, weight), self._counts(kind, weight), strict=True):
            passes = -(-wanted // max(len(rows), 1))
            drawn = [rows[systematic(weight[rows], rng)] for _ in range(passes)]
            draws.append(np.concatenate([rows[:0], *drawn])[:wanted])
            turns.append((np.arange(wanted) + rng.random()) / max(wanted, 1))
        return np.concatenate(draws)[np.argsort(np.concatenate(turns), kind="stable")]

    def kinds(
        self, target: Float[np.ndarray, "case label"], weight: Float[np.ndarray, " case"]
    ) -> Int[np.ndarray, " case"]:
        """0 for rare, 1 for middling, 2 for common; a case without labels is common."""
        count = weight @ target
        absent = int((count == 0).sum())  # labels of other folds come first, and are of no tier
        place = np.argsort(np.argsort(count, kind="stable"), kind="stable") - absent
        tier = place * 3 // max(target.shape[1] - absent, 1)
        return np.where(target > 0, tier, 2).min(axis=1)

    def expected(
        self, target: Float[np.ndarray, "case label"], weight: Float[np.ndarray, " case"]
    ) -> Float[np.ndarray, " label"]:
        """The share of draws that show each label."""
        kind = self.kinds(target, weight)
        counts = self._counts(kind, weight)
        share = np.zeros(target.shape[1])
        for rows, count in zip(self._rows(kind, weight), counts, strict=True):
            if count:
                share += count * (weight[rows] @ target[rows]) / weight[rows].sum()
        return share / sum(counts)

    def _rows(
        self, kind: Int[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> list[Int[np.ndarray, "_"]]:
        return [np.flatnonzero((kind == k) & (weight > 0)) for k in range(3)]

    def _counts(
        self, kind: Int[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> list[int]:
        """Draws of every kind."""
        there = np.array([len(rows) > 0 for rows in self._rows(kind, weight)])
        shares = np.where(there, self.shares, 0.0)
        if not shares.sum() > 0:
            raise TrainingError(
                "no training case of a fold has a weight and a share; cure: other --weight, or "
                "mixture="
            )
        edges = np.round(np.cumsum(shares) / shares.sum() * len(kind)).astype(int)
        return np.diff(edges, prepend=0).tolist()
