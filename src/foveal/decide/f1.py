"""The exact cuts for F1, from scores in order.

No cut is better than one just below the score of a case that has the label, so those are all there
is to try: a sort of all scores and a search for a few tell F1 at each of them::

    Ranked.of(scores, has, weight).own_cuts()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.errors import TargetError

COMMON_PULL, SHARE_PULL = 30.0, 100.0
"""Cases of a label at which its own cut counts as much as the steadier one (docs/LOG.md)."""

Scores = Float[np.ndarray, "case label"]
Has = Bool[np.ndarray, "case label"]
Weight = Float[np.ndarray, " case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedLabel:
    """One label's scores in order, and what lies at or above each of them.

    Attributes:
        scores: Of all cases, rising.
        above: Weight of the cases from each score on, and 0 after the last.
        own: Scores of the cases that have the label, rising.
        own_above: Their weight, likewise.
    """

    scores: Float[np.ndarray, "_"]
    above: Float[np.ndarray, "_"]
    own: Float[np.ndarray, "_"]
    own_above: Float[np.ndarray, "_"]

    def f1(self, cuts: Float[np.ndarray, " cut"]) -> Float[np.ndarray, " cut"]:
        """F1 of rising cuts."""
        hit = self.own_above[np.searchsorted(self.own, cuts)]
        given = self.above[np.searchsorted(self.scores, cuts)]
        return 2 * hit / np.maximum(given + self.own_above[0], 1e-300)

    def best_cut(self) -> float:
        """Midway between the best score to cut at and the next lower one."""
        if not self.own_above[0] > 0:
            return float("inf")
        first = np.flatnonzero(np.append(True, self.own[1:] != self.own[:-1]))
        values = self.own[first]
        given = self.above[np.searchsorted(self.scores, values)]
        f1 = self.own_above[first] / np.maximum(given + self.own_above[0], 1e-300)  # a half of it
        return self.just_below(float(values[f1.argmax()]))

    def cut_of_share(self) -> float:
        """The cut that gives the label to as much weight as has it."""
        if not self.own_above[0] > 0:
            return float("inf")
        values, first = np.unique(self.scores, return_index=True)
        place = int(np.abs(self.above[first] - self.own_above[0]).argmin())
        return self.just_below(float(values[place]))

    def just_below(self, score: float) -> float:
        """Midway to the next lower score, or to 0."""
        place = int(np.searchsorted(self.scores, np.float32(score)))
        lower = float(self.scores[place - 1]) if place else min(0.0, score)
        return (lower + score) / 2


@dataclass(frozen=True, slots=True)
class Ranked:
    """All labels' scores in order."""

    labels: tuple[RankedLabel, ...]

    @staticmethod
    def of(scores: Scores, has: Has, weight: Weight) -> Ranked:
        """Sort the scores of every label.

        Raises:
            TargetError: A score is not finite.
        """
        if not weight.all():
            scores, has, weight = scores[weight > 0], has[weight > 0], weight[weight > 0]
        columns, owned = (np.ascontiguousarray(table.T) for table in (scores, has))
        if (weight == weight[0]).all():
            labels = tuple(_counted(columns, owned, float(weight[0])))
        else:
            labels = tuple(_weighed(columns, owned, weight))
        if not all(np.isfinite(one.scores[[0, -1]]).all() for one in labels):  # nan comes last
            raise TargetError("cuts need finite scores, and some are nan or infinite")
        return Ranked(labels)

    def own_cuts(self) -> Float[np.ndarray, " label"]:
        """The cut of every label with its highest F1; infinite where no case has it."""
        return np.array([label.best_cut() for label in self.labels])

    def share_cuts(self) -> Float[np.ndarray, " label"]:
        """The cut of every label that gives it as often as it occurs; likewise."""
        return np.array([label.cut_of_share() for label in self.labels])

    def common_cut(self) -> float:
        """The one cut of the highest macro F1 of labels that cases have; infinite without any."""
        tried = np.unique(np.concatenate([label.own for label in self.labels]))
        if not len(tried):
            return np.inf
        total = np.zeros(len(tried))
        for label in self.labels:
            total += label.f1(tried)
        best = float(tried[total.argmax()])
        return max(label.just_below(best) for label in self.labels)

    def shrunk(self) -> Float[np.ndarray, "2 label"]:
        """Cuts between each label's own and the common one, and between its own and its share's."""
        common = self.common_cut()
        own, shared = (
            np.where(np.isfinite(cuts), cuts, common)
            for cuts in (self.own_cuts(), self.share_cuts())
        )
        count = np.array([float(len(label.own)) for label in self.labels])
        return np.stack(
            [
                _between(own, steady, count / (count + pull))
                for steady, pull in ((common, COMMON_PULL), (shared, SHARE_PULL))
            ]
        )


def log_odds(share: np.ndarray | float) -> np.ndarray:
    """Log odds, kept finite."""
    inside = np.clip(np.asarray(share, dtype=np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))


def _between(
    own: Float[np.ndarray, " label"],
    steady: Float[np.ndarray, " label"] | float,
    trust: Float[np.ndarray, " label"],
) -> Float[np.ndarray, " label"]:
    """A part of the way from one cut to another, counted in log odds."""
    mixed = trust * log_odds(own) + (1 - trust) * log_odds(steady)
    return np.where(own == steady, own, 1 / (1 + np.exp(-mixed)))


def _counted(
    columns: Float[np.ndarray, "label case"], owned: Bool[np.ndarray, "label case"], each: float
) -> Iterator[RankedLabel]:
    """Labels of cases that all weigh the same: what is left from a place on is known beforehand."""
    left = each * np.arange(columns.shape[1], -1.0, -1.0)
    for scores, column, own in zip(np.sort(columns, axis=1), columns, owned, strict=True):
        mine = np.sort(column[own])
        yield RankedLabel(
            scores=scores, above=left, own=mine, own_above=left[len(scores) - len(mine) :]
        )


def _weighed(
    columns: Float[np.ndarray, "label case"],
    owned: Bool[np.ndarray, "label case"],
    weight: Weight,
) -> Iterator[RankedLabel]:
    """The same for cases that weigh differently."""
    for column, own in zip(columns, owned, strict=True):
        scores, above = _in_order(column, weight)
        mine, own_above = _in_order(column[own], weight[own])
        yield RankedLabel(scores=scores, above=above, own=mine, own_above=own_above)


def _in_order(
    scores: Float[np.ndarray, "_"], weight: Float[np.ndarray, "_"]
) -> tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]:
    """Rising scores, and how much weight is left from each on."""
    order = np.argsort(scores, kind="stable")
    return scores[order], np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
