"""Every member and ensemble judged on rows that its cuts and weights never saw, and one chosen.

Blend and decoder are fitted on all folds but one and judged on that one, in turn. Among rows within
one paired standard error of the best, the simplest is chosen: fewest members, then mean before
label average before fitted weights, then the recipe's order. A member below the floor is not.
Because it was chosen, a row's own score is a little lucky; the nested score repeats the whole
choice inside every set of folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foveal.combine.blend import Blend, FittedBlend
from foveal.decide.decoder import Decoder, FittedDecoder
from foveal.manifest import Text, Truth
from foveal.metrics.interval import Metric, bootstrap, paired_errors
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
        floor: The member that others should pass; those that do not are marked, never chosen.
        ask: Called before anything is fitted; may raise.
    """
    labels = cross_fitted(entries, leave_one_fold_out(predictions, truth), ask)
    verdicts = [judged(one, truth, metric) for one in labels]
    chosen = choose(entries, verdicts, metric, floor)
    nested = None
    if len(np.unique(truth.fold[truth.weight > 0])) > 2:
        picked = [
            part.labelled(_chosen_within(part, entries, metric, floor, ask))
            for part in leave_one_fold_out(predictions, truth)
        ]
        nested = judged(picked, truth, metric)
    scores = [_value(metric, one.tally) for one in verdicts]
    rows = []
    for entry, verdict, score, below in zip(
        entries, verdicts, scores, _below(entries, scores, floor), strict=True
    ):
        seconds = sum(float(predictions[m].seconds.mean()) for m in entry.members)
        rows.append(
            Row(
                entry=entry,
                score=score,
                interval=bootstrap(metric, verdict.pieces, verdict.group),
                folds=_split_scores(metric, verdict.tally, truth.fold),
                sites={}
                if truth.site is None
                else {
                    site or NO_SITE: score
                    for site, score in _split_scores(metric, verdict.tally, truth.site).items()
                },
                seconds=seconds,
                below_floor=below,
            )
        )
    return Leaderboard(
        rows=tuple(rows),
        chosen=chosen,
        nested=None if nested is None else _value(metric, nested.tally),
        nested_interval=None if nested is None else bootstrap(metric, nested.pieces, nested.group),
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
    """How labels of all folds compare with the truth.

    Attributes:
        tally: Of every case, in their order.
        pieces: The same of what is drawn for an interval.
        group: Pieces that are drawn together.
    """

    tally: Float[np.ndarray, "case stat"]
    pieces: Float[np.ndarray, "piece stat"]
    group: Int[np.ndarray, " piece"]


def judged(labelled: Labelled, truth: Truth, metric: Metric) -> Verdict:
    """The tallies of all cases, and of the pieces that intervals draw."""
    rows = np.concatenate([part for part, _ in labelled])
    pairs = [(labels, truth.take(part)) for part, labels in labelled]
    tallies = [metric.tally(*pair) for pair in pairs]
    drawn = (metric.pieces(tally, *pair) for tally, pair in zip(tallies, pairs, strict=True))
    pieces, groups = zip(*drawn, strict=True)
    return Verdict(
        tally=np.concatenate(tallies)[np.argsort(rows)],
        pieces=np.concatenate(pieces),
        group=np.concatenate(groups),
    )


def _below(entries: Sequence[Entry], scores: Sequence[float], floor: str | None) -> list[bool]:
    """Which entries are a single member that scores lower than the floor does."""
    least = max(
        (s for e, s in zip(entries, scores, strict=True) if e.members == (floor,)), default=-np.inf
    )
    return [len(e.members) == 1 and s < least for e, s in zip(entries, scores, strict=True)]


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
    """The simplest within one paired standard error of the best; no member below the floor."""
    scores = [_value(metric, one.tally) for one in verdicts]
    ranked = [s if np.isfinite(s) else -np.inf for s in scores]
    best = int(np.argmax(ranked))
    below = _below(entries, ranked, floor)
    pieces, group = [one.pieces for one in verdicts], verdicts[best].group
    errors = paired_errors(metric, pieces, pieces[best], group)
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


def _value(metric: Metric, tally: np.ndarray) -> float:
    return float(metric.value(tally.sum(axis=0)))


def _split_scores(metric: Metric, tally: np.ndarray, part: np.ndarray) -> dict:
    return {p.item(): _value(metric, tally[part == p]) for p in np.unique(part)}
