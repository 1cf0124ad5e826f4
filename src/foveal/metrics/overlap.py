"""F-beta and its relatives, from true positives, false positives and false negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.manifest import Truth
from foveal.metrics.interval import whole_cases


def f_beta(
    hit: Float[np.ndarray, "*pool"] | float,
    given: Float[np.ndarray, "*pool"] | float,
    true: Float[np.ndarray, "*pool"] | float,
    beta: float,
) -> Float[np.ndarray, "*pool"]:
    """F-beta from what was found, what was given and what is true; 0 where all are nothing.

    Args:
        hit: Weight, or area, of what is both given and true.
        given: Of all that is given.
        true: Of all that is true.
        beta: Below 1 favours precision.
    """
    below = beta**2 * true + given
    return np.where(below > 0, (1 + beta**2) * hit / np.maximum(below, 1e-300), 0.0)


def _of_counts(counts: Float[np.ndarray, "*pool 3"], beta: float) -> Float[np.ndarray, "*pool"]:
    hit, extra, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return f_beta(hit, hit + extra, hit + missed, beta)


@dataclass(frozen=True, slots=True)
class FBeta:
    """F-beta over all pixels of all cases; below 1 beta favours precision, 1 is the Dice score.

    Labels and truth are arrays "case *space" that are 0 for background and anything else for
    foreground.
    """

    beta: float = 0.5
    name: str = "f_beta"

    def tally(
        self, labels: Shaped[np.ndarray, "case ..."], truth: Truth
    ) -> Float[np.ndarray, "case 3"]:
        """True positives, false positives, false negatives of each case."""
        given, true = (of.reshape(len(labels), -1) != 0 for of in (labels, truth.target))
        hit, all_given, all_true = (
            np.count_nonzero(of, axis=1) for of in (given & true, given, true)
        )
        return truth.weight[:, None] * np.stack([hit, all_given - hit, all_true - hit], axis=1)

    def value(self, sums: Float[np.ndarray, "*pool 3"]) -> Float[np.ndarray, "*pool"]:
        """F-beta of each pool; 0 where nothing is there and nothing was found."""
        return _of_counts(sums, self.beta)

    pieces = whole_cases


@dataclass(frozen=True, slots=True)
class CellFBeta:
    """F-beta over the pixels behind the cells of planes; below 1 beta favours precision.

    Labels are one mask of cells a unit, truth is `foveal.lattice.Planes`: a cell that is given
    counts with all pixels of its region, whatever share of them is foreground.
    """

    beta: float = 0.5

    @property
    def name(self) -> str:
        """The field's name of the score."""
        return "dice" if self.beta == 1 else f"f_{self.beta:g}"

    def tally(self, labels: Sequence[np.ndarray], truth: Truth) -> Float[np.ndarray, "case 3"]:
        """True positives, false positives, false negatives of each unit, in pixels."""
        pairs = zip(labels, truth.target.positive, truth.target.area, strict=True)
        counts = [(p[given].sum(), (a - p)[given].sum(), p[~given].sum()) for given, p, a in pairs]
        return truth.weight[:, None] * np.array(counts, dtype=np.float64).reshape(-1, 3)

    def value(self, sums: Float[np.ndarray, "*pool 3"]) -> Float[np.ndarray, "*pool"]:
        """F-beta of each pool; 0 where nothing is there and nothing was found."""
        return _of_counts(sums, self.beta)

    def pieces(
        self, tally: Float[np.ndarray, "case 3"], labels: Sequence[np.ndarray], truth: Truth
    ) -> tuple[Float[np.ndarray, "piece 3"], Int[np.ndarray, " piece"]]:
        """Blocks of planes where there are too few volumes; else whole units."""
        if truth.target.block is None:
            return whole_cases(self, tally, labels, truth)
        count = 1 + max(int(block.max()) for block in truth.target.block)
        sums = np.zeros((4, count))
        for given, positive, area, block, weight in zip(
            labels,
            truth.target.positive,
            truth.target.area,
            truth.target.block,
            truth.weight,
            strict=True,
        ):
            parts = (positive * given, (area - positive) * given, positive * ~given, area)
            sums += weight * np.stack(
                [np.bincount(block.reshape(-1), p.reshape(-1), count) for p in parts]
            )
        kept = np.flatnonzero(sums[3] > 0)
        return sums[:3, kept].T, kept


@dataclass(frozen=True, slots=True)
class MacroF1:
    """The mean over labels of F1, each label pooled over cases.

    Labels and truth are 0/1 arrays "case label". A label that no case of a pool has or was given is
    neither right nor wrong there and is left out of that pool's mean, as by scikit-learn with
    `zero_division=nan`: a rare label is missing from many a fold, site and resample, and a perfect
    answer is worth 1 in each.
    """

    name: str = "macro_f1"

    def tally(
        self, labels: Shaped[np.ndarray, "case label"], truth: Truth
    ) -> Float[np.ndarray, "case stat"]:
        """True positives, false positives, false negatives of each label, one after the other."""
        given, true = labels != 0, truth.target != 0
        counts = np.stack([given & true, given & ~true, ~given & true], axis=-1)
        return (truth.weight[:, None, None] * counts).reshape(len(labels), -1)

    def value(self, sums: Float[np.ndarray, "*pool stat"]) -> Float[np.ndarray, "*pool"]:
        """Macro F1 of each pool; nan where no case has a label or was given one."""
        counts = np.asarray(sums, dtype=np.float64).reshape(*np.shape(sums)[:-1], -1, 3)
        met = (counts > 0).any(axis=-1).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return np.asarray(_of_counts(counts, 1.0).sum(axis=-1) / met)

    pieces = whole_cases
