"""How far a score could move: the bootstrap over groups, for any additive metric.

Cases of one group stand or fall together, so groups are drawn, not cases. Because tallies add up, a
resample is one row of counts times the table of group sums, and a thousand of them one product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from foveal.manifest import Truth

LEVEL = 0.95

FEWEST = 4
"""Groups from which an interval can be told."""


@runtime_checkable
class Metric(Protocol):
    """A score that rises with quality, from tallies that add up over cases."""

    @property
    def name(self) -> str:
        """The field's name of the score."""
        ...

    def tally(self, labels: Any, truth: Truth) -> np.ndarray:
        """Additive statistics "case stat" of what a decoder gave: an array, or a mask each."""
        ...

    def value(self, sums: np.ndarray) -> np.ndarray:
        """The score of added tallies "*pool stat"."""
        ...

    def pieces(self, tally: np.ndarray, labels: Any, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
        """The same statistics "piece stat" of what is drawn for an interval, and its groups."""
        ...


def whole_cases(
    metric: Metric, tally: Float[np.ndarray, "case stat"], labels: Any, truth: Truth
) -> tuple[Float[np.ndarray, "counted stat"], Int[np.ndarray, " counted"]]:
    """What is drawn where cases are not cut: all cases of a group together.

    Cases of no weight are no evidence, so a group of them is none either.
    """
    counted = truth.weight > 0
    if counted.all():
        return tally, truth.group
    return tally[counted], truth.group[counted]


def group_sums(
    tally: Float[np.ndarray, "case stat"], group: Int[np.ndarray, " case"]
) -> Float[np.ndarray, "group stat"]:
    """The tallies of each group added up."""
    _, place = np.unique(group, return_inverse=True)
    sums = np.zeros((int(place.max(initial=-1)) + 1, tally.shape[1]))
    np.add.at(sums, place, tally)
    return sums


def resampled_sums(
    sums: Float[np.ndarray, "group stat"], *, resamples: int = 1000, seed: int = 0
) -> Float[np.ndarray, "resample stat"]:
    """Total tallies of resamples of the groups, drawn with replacement.

    The same seed and number of groups give the same draws, so two rows of a leaderboard can be
    compared pair by pair.
    """
    rng = np.random.default_rng(seed)
    groups = len(sums)
    totals = []
    for start in range(0, resamples, 64):
        size = (min(64, resamples - start), groups)
        draws = rng.integers(0, groups, size=size) + groups * np.arange(size[0])[:, None]
        counts = np.bincount(draws.reshape(-1), minlength=size[0] * groups).reshape(size)
        totals.append(counts @ sums)
    return np.concatenate(totals)


@dataclass(frozen=True, slots=True)
class Resamples:
    """What resamples of the groups add up to; their number does not grow with the cases'.

    Attributes:
        totals: The tallies of each, added up.
        groups: How many they were drawn from.
    """

    totals: Float[np.ndarray, "resample stat"]
    groups: int


def resampled(tally: Float[np.ndarray, "case stat"], group: Int[np.ndarray, " case"]) -> Resamples:
    """Resamples of groups of cases; the same draws for whatever is told of the same groups."""
    sums = group_sums(tally, group)
    return Resamples(resampled_sums(sums), len(sums))


def bootstrap(
    metric: Metric, tally: Float[np.ndarray, "case stat"], group: Int[np.ndarray, " case"]
) -> tuple[float, float]:
    """The 95 % interval of a score, by resampling groups.

    Args:
        metric: What the tallies are of.
        tally: Statistics of every case.
        group: What must stay together.

    Returns:
        As `interval` does.
    """
    return interval(metric, resampled(tally, group))


def interval(metric: Metric, resamples: Resamples) -> tuple[float, float]:
    """The 95 % interval of a score.

    Resamples of few groups vary less than fresh groups would, so with few of them the ends lie
    further out, as they do for a mean by Student's t. Below `FEWEST` even the widest one would hold
    the truth too seldom.

    Returns:
        Lower and upper end; (nan, nan) for fewer than `FEWEST` groups.

    Reference:
        Hesterberg, What Teachers Should Know About the Bootstrap, 2015 (expanded percentiles).
    """
    if resamples.groups < FEWEST:
        return float("nan"), float("nan")
    values = metric.value(resamples.totals)
    tail = _tail(resamples.groups)
    low, high = (
        np.nanquantile(values, [tail, 1 - tail]) if np.isfinite(values).any() else (np.nan,) * 2
    )
    return float(low), float(high)


def _tail(groups: int) -> float:
    """The share of resamples beyond either end of an interval."""
    from scipy.special import ndtr, stdtrit

    reach = stdtrit(groups - 1, (1 + LEVEL) / 2) * math.sqrt(groups / (groups - 1))
    return float(ndtr(-reach))


def paired_error(metric: Metric, one: Resamples, other: Resamples) -> float:
    """Standard error of the difference of two scores on the same cases; nan where there is none.

    Both are of the same groups, so resample by resample of the same draws.
    """
    differences = metric.value(one.totals) - metric.value(other.totals)
    if not np.isfinite(differences).any():
        return float("nan")
    return float(np.nanstd(differences)) * math.sqrt(one.groups / max(one.groups - 1, 1))
