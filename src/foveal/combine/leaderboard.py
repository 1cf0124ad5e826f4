"""Every member and ensemble judged on rows that its cuts and weights never saw, and one chosen.

Blend and decoder are fitted on all folds but one and judged on that one, in turn. Among rows within
one paired standard error of the best, the simplest is chosen: fewest members, then mean before
label average before fitted weights, then the recipe's order. None below the floor member is.
Because it was chosen, a row's own score is a little lucky; the nested score repeats the whole
choice inside every set of folds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from foveal.combine.blend import Blend, FittedBlend
from foveal.decide.decoder import Decoder, FittedDecoder
from foveal.manifest import Text, Truth
from foveal.metrics.interval import Metric, Resamples, interval, paired_error, resampled
from foveal.predictions import Predictions

NO_SITE = "(none)"
"""Where cases are from that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row: some members, a way to blend them, a way to decide."""

    name: str
    members: tuple[str, ...]
    blend: Blend
    decode: Decoder

    def fit(
        self, predictions: dict[str, Predictions], truth: Truth
    ) -> tuple[FittedBlend, FittedDecoder]:
        """Fit blend and decoder on the same out-of-fold rows."""
        parts = [predictions[m] for m in self.members]
        blend = self.blend.fit(parts, truth)
        return blend, self.decode.fit(blend(parts), truth)


Labelled = list[tuple[Int[np.ndarray, "_"], Any]]
"""Rows and their labels, fold by fold; labels are whatever a decoder gives, an array or planes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry with its honest scores.

    Attributes:
        seconds: That scoring a case took, by one fold model a member; an answer runs all of them.
    """

    entry: Entry
    score: float
    interval: tuple[float, float]
    folds: dict[int, float]
    sites: dict[str, float]
    seconds: float
    below_floor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """All rows in the recipe's order, the one that answers, and its score when chosen blindly.

    That score is None where fewer than three folds hold cases of any weight: what is fitted without
    one of them to choose, and without another to judge the choice, must know a third.
    """

    rows: tuple[Row, ...]
    chosen: int
    nested: float | None
    nested_interval: tuple[float, float] | None


def _go_on() -> None:
    """Nothing stops it."""


def rank(
    entries: Sequence[Entry],
    predictions: dict[str, Predictions],
    truth: Truth,
    *,
    metric: Metric,
    floor: str | None = None,
    ask: Callable[[], None] = _go_on,
) -> Leaderboard:
    """Judge every entry cross-fitted and choose one.

    Args:
        entries: Rows, from the simplest kind to the most complicated, in the recipe's order.
        predictions: Out-of-fold predictions by member, aligned with the truth.
        truth: What is true, with the fold of every case.
        metric: The score.
        floor: The member that all others should pass; rows that do not are marked, never chosen.
        ask: Called before anything is fitted; may raise.
    """
    labels = cross_fitted(entries, leave_one_fold_out(predictions, truth), ask)
    verdicts = [judged(one, truth, metric) for one in labels]
    chosen = choose(entries, verdicts, metric, floor)
    nested = None
    if _is_nested(truth):
        picked = [
            part.labelled(_chosen_within(part, entries, metric, floor, ask))
            for part in leave_one_fold_out(predictions, truth)
        ]
        nested = judged(picked, truth, metric)
    below = _below(entries, [one.score for one in verdicts], floor)
    rows = [
        Row(
            entry=entry,
            score=verdict.score,
            interval=interval(metric, verdict.resamples),
            folds=verdict.folds,
            sites=verdict.sites,
            seconds=sum(float(predictions[m].seconds.mean()) for m in entry.members),
            below_floor=is_below,
        )
        for entry, verdict, is_below in zip(entries, verdicts, below, strict=True)
    ]
    return Leaderboard(
        rows=tuple(rows),
        chosen=chosen,
        nested=None if nested is None else nested.score,
        nested_interval=None if nested is None else interval(metric, nested.resamples),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One fold to be judged, and all that may be known when judging it.

    Attributes:
        judged: Its rows.
        site: Where they are from.
        unseen: Their predictions.
        seen: Predictions of all other rows.
        truth: Of all other rows.
    """

    judged: Int[np.ndarray, " row"]
    site: Text | None
    unseen: dict[str, Predictions]
    seen: dict[str, Predictions]
    truth: Truth

    def decided(self, entry: Entry) -> tuple[Predictions, Any]:
        """Scores and labels of the judged rows, by blend and decoder fitted on what was seen."""
        blend, decode = entry.fit(self.seen, self.truth)
        scores = blend([self.unseen[m] for m in entry.members])
        return scores, decode(scores, self.site)

    def labelled(self, entry: Entry) -> tuple[Int[np.ndarray, " row"], Any]:
        """The judged rows and their labels."""
        return self.judged, self.decided(entry)[1]


def leave_one_fold_out(predictions: dict[str, Predictions], truth: Truth) -> Iterator[Partition]:
    """Every fold in turn as the one to be judged; scores are copied for one at a time."""
    for fold in np.unique(truth.fold):
        judged, rest = np.flatnonzero(truth.fold == fold), np.flatnonzero(truth.fold != fold)
        yield Partition(
            judged=judged,
            site=None if truth.site is None else truth.site[judged],
            unseen=_take(predictions, judged),
            seen=_take(predictions, rest),
            truth=truth.take(rest),
        )


def fits(entries: Sequence[Entry], truth: Truth) -> int:
    """How many times `rank` fits an entry: without each fold, and without each pair in order."""
    folds = len(np.unique(truth.fold))
    return len(entries) * (folds * folds if _is_nested(truth) else folds)


def _is_nested(truth: Truth) -> bool:
    return len(np.unique(truth.fold[truth.weight > 0])) > 2


def cross_fitted(
    entries: Sequence[Entry], partitions: Iterable[Partition], ask: Callable[[], None] = _go_on
) -> list[Labelled]:
    """For each entry the labels of every fold, fitted on the other folds."""
    labels: list[Labelled] = [[] for _ in entries]
    for part in partitions:
        for entry, found in zip(entries, labels, strict=True):
            ask()
            found.append(part.labelled(entry))
    return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How labels of all folds compare with the truth; no longer for more cases.

    Attributes:
        score: Of all cases.
        folds: Of each fold.
        sites: Of each site; empty where none are known.
        resamples: Of the pieces that an interval draws.
    """

    score: float
    folds: dict[int, float]
    sites: dict[str, float]
    resamples: Resamples


def judged(labelled: Labelled, truth: Truth, metric: Metric) -> Verdict:
    """The scores of all cases and of their parts, and what is drawn to tell how sure they are."""
    whole, folds, sites = [], {}, defaultdict(list)
    pieces, groups = [], []
    for rows, labels in labelled:
        own = truth.take(rows)
        tally = metric.tally(labels, own)
        whole.append(tally.sum(axis=0))
        folds[int(own.fold[0])] = float(metric.value(whole[-1]))
        for site in () if own.site is None else np.unique(own.site).tolist():
            sites[site].append(tally[own.site == site].sum(axis=0))
        drawn, group = metric.pieces(tally, labels, own)
        pieces.append(drawn)
        groups.append(group)
    return Verdict(
        score=float(metric.value(np.sum(whole, axis=0))),
        folds=folds,
        sites={
            site or NO_SITE: float(metric.value(np.sum(parts, axis=0)))
            for site, parts in sorted(sites.items())
        },
        resamples=resampled(np.concatenate(pieces), np.concatenate(groups)),
    )


def _below(entries: Sequence[Entry], scores: Sequence[float], floor: str | None) -> list[bool]:
    """Which entries score lower than the floor member alone does."""
    least = max(
        (s for e, s in zip(entries, scores, strict=True) if e.members == (floor,)), default=-np.inf
    )
    return [s < least for s in scores]


def _chosen_within(
    part: Partition,
    entries: Sequence[Entry],
    metric: Metric,
    floor: str | None,
    ask: Callable[[], None],
) -> Entry:
    """The entry that the seen folds alone would choose."""
    inner = leave_one_fold_out(part.seen, part.truth)
    verdicts = [judged(one, part.truth, metric) for one in cross_fitted(entries, inner, ask)]
    return entries[choose(entries, verdicts, metric, floor)]


def choose(
    entries: Sequence[Entry],
    verdicts: Sequence[Verdict],
    metric: Metric,
    floor: str | None = None,
) -> int:
    """The simplest within one paired standard error of the best; none below the floor."""
    ranked = [v.score if np.isfinite(v.score) else -np.inf for v in verdicts]
    best = int(np.argmax(ranked))
    below = _below(entries, ranked, floor)
    errors = [paired_error(metric, v.resamples, verdicts[best].resamples) for v in verdicts]
    near = [
        k
        for k, (score, error) in enumerate(zip(ranked, errors, strict=True))
        if k == best or (np.isfinite(score) and not below[k] and ranked[best] - score <= error)
    ]
    kinds = list(dict.fromkeys(type(e.blend) for e in entries))
    return min(
        near, key=lambda k: (len(entries[k].members), kinds.index(type(entries[k].blend)), k)
    )


def _take(predictions: dict[str, Predictions], rows: np.ndarray) -> dict[str, Predictions]:
    ids = next(iter(predictions.values())).ids
    wanted = [ids[r] for r in rows]
    return {name: p.take(wanted) for name, p in predictions.items()}
