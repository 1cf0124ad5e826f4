"""Folds that imitate "who is it, or someone new?".

A query is a picture that a fold judges. Its individual is known if the fold learns from another
picture of it; it is new if the table says "unknown", or if the fold hides the individual: then all
its pictures leave what the fold learns from, and the gallery. Every individual is hidden in at most
one fold, and pictures of no fold are always gallery::

    made = QueryFolds(new="new_whale")(manifest)
    made.kind          # "known", "new" or "gallery"
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from jaxtyping import Bool, Int, Shaped

from foveal.errors import SplitError
from foveal.manifest import Manifest
from foveal.split.folds import imbalance
from foveal.split.record import NONE, Split, groups, own_folds, require_untorn

KNOWN, NEW, GALLERY = "known", "new", "gallery"

NEW_QUERIES = (0.1, 0.25)
"""Least and most share of new ones among a fold's queries: enough to place the cut, few enough that
little is lost for learning. What share is expected later is a matter of weights."""


FEW_QUERIES = 20
"""Of a kind, under which a person is told."""

NEW_SHARE = 0.3
"""Of queries that are new, where nothing tells: about that of the whales it was made for."""


@dataclass(frozen=True, slots=True)
class QueryFolds:
    """Queries of known and of new individuals, spread evenly over folds.

    Attributes:
        new: The value that means "unknown"; None where everybody is known.
        folds: How many; a fold column of the user's own goes before.
        new_share: The share of queries that is expected to be new, 0 to 1, as `share_of_new`.
        per_identity: Most queries of an individual in a fold.
        seed: Which of equally good folds.
    """

    new: str | None
    folds: int = 5
    new_share: float | None = None
    per_identity: int = 1
    seed: int = 0

    def __call__(self, manifest: Manifest) -> Split:
        """Choose queries and hidden individuals.

        Raises:
            SplitError: Nobody could be recognised: every individual lies in one group.
        """
        group, notes = groups(manifest)
        identity = manifest.target[:, 0]
        if "fold" in manifest.roles:
            fold = own_folds(manifest, empty_is_none=True)
            if fold.max() < 1:
                raise SplitError("the fold column makes one fold only; cure: two folds or more")
            require_untorn(manifest, group, fold, "the fold column", "one fold a group")
            hidden = _rest_of_groups(fold, group)
            if self.new is None:
                notes += _take_back(identity, fold, hidden, manifest.weight > 0)
        else:
            if self.folds < 2:
                raise SplitError(f"folds={self.folds}, but cross-validation needs at least 2")
            fold, hidden = self._dealt(identity, group, manifest.weight > 0)
        kind = kinds(identity, fold, hidden, manifest.weight > 0, self.new)
        if not (kind == KNOWN).any():
            alone = len(np.unique(group)) == len(group)
            raise SplitError(
                "no query would be of a known individual: "
                + ("each has one picture" if alone else "all pictures of each lie in one group")
                + "; cure: "
                + ("two or more of some" if alone else "another --group column, or none")
            )
        asked, made = fold != NONE, int(fold.max()) + 1
        if made != self.folds:
            notes = [*notes, f"{made} folds, where folds={self.folds} was asked for"]
        return Split(
            fold=fold,
            hidden=hidden,
            group=group,
            kind=kind,
            imbalance=imbalance(fold[asked], [np.unique(kind[asked], return_inverse=True)[1]]),
            counted="queries",
            notes=(*notes, *self._said(identity, fold, hidden, kind)),
        )

    def _dealt(
        self,
        identity: Shaped[np.ndarray, " case"],
        group: Int[np.ndarray, " case"],
        counts: Bool[np.ndarray, " case"],
    ) -> tuple[Int[np.ndarray, " case"], Int[np.ndarray, " case"]]:
        deal = _Deal(identity, group, counts, self.folds, self.per_identity, self.new, self.seed)
        if self.new is not None:
            deal.hide(self._to_hide(deal, share_of_new(identity, self.new, self.new_share)))
            deal.ask_unknown()
        deal.ask_known()
        if self.new is None:
            _take_back(identity, deal.fold, deal.hidden, counts)
        return deal.fold, deal.hidden

    def _to_hide(self, deal: _Deal, expected: float) -> list[str]:
        """Who is hidden by some fold: at most a fold's share of all individuals a fold.

        Those of the fewest encounters go first. Of one encounter, nobody could be asked for as
        known; others are lost as known ones when they are hidden.
        """
        most = self.folds * self.per_identity
        met = {n: len({int(deal.group[row]) for row in rows}) for n, rows in deal.rows.items()}
        known = {name: min(count, most) if count > 1 else 0 for name, count in met.items()}
        share = float(np.clip(expected, *NEW_QUERIES))
        ratio = share / (1 - share)
        left, asked = sum(known.values()), len(deal.unknown)
        hidden: list[str] = []
        for name in sorted(met, key=lambda name: met[name])[: len(met) // self.folds * self.folds]:
            if asked >= ratio * left:
                break
            hidden.append(name)
            left -= known[name]
            asked += min(len(deal.rows[name]), self.per_identity)
        return hidden

    def _said(
        self,
        identity: Shaped[np.ndarray, " case"],
        fold: Int[np.ndarray, " case"],
        hidden: Int[np.ndarray, " case"],
        kind: Shaped[np.ndarray, " case"],
    ) -> list[str]:
        everybody = set(identity.tolist()) - {self.new}
        unasked = len(everybody - set(identity[kind == KNOWN].tolist()))
        often = [
            f"no known query is of {unasked} of {len(everybody)} individuals, most of them met "
            "once: scores, and chances of someone new, are of those met more often"
        ]
        often = often if unasked > UNASKED * len(everybody) else []
        if self.new is None:
            return [
                "everybody is known: no answer says that someone is new; cure: new=VALUE",
                *often,
            ]
        counts = [
            len(everybody - set(identity[(fold != k) & (hidden != k)].tolist()))
            for k in range(int(fold.max()) + 1)
        ]
        few, many = min(counts), max(counts)
        few_to_many = "no" if not many else f"{many}" if few == many else f"{few} to {many}"
        said = [f"{few_to_many} individuals are unknown to a fold, as if new"]
        if not (kind == NEW).any():
            raise SplitError(
                f'no query would be new; cure: rows whose identity is "{self.new}", fewer folds=, '
                "more individuals (with --fold: some in one fold alone), or no new="
            )
        share = share_of_new(identity, self.new, self.new_share)
        for one in (KNOWN, NEW):
            if (count := np.count_nonzero(kind == one)) < FEW_QUERIES:
                said.append(
                    f"only {count} queries are of {one} individuals: scores, and the place of "
                    f'"{self.new}" in answers, rest on them'
                )
        return [*said, f"{100 * share:.3g} % of queries are taken to be new", *often]


UNASKED = 0.2
"""Share of individuals that queries may leave out unremarked."""


def share_of_new(identity: Shaped[np.ndarray, " case"], new: str, told: float | None) -> float:
    """The share of queries that is expected to be new.

    What was told; else the share of rows that are nobody known, or `NEW_SHARE` where none is.
    """
    if told is not None:
        return told
    return float((identity == new).mean()) or NEW_SHARE


def kinds(
    identity: Shaped[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
    hidden: Int[np.ndarray, " case"],
    counts: Bool[np.ndarray, " case"],
    new: str | None,
) -> Shaped[np.ndarray, " case"]:
    """Whether a case is a query of someone known to its fold, of someone new, or no query.

    Args:
        identity: Of every case.
        fold: That judges it.
        hidden: That does not learn from it either.
        counts: Whether it has any weight; from others nothing is learned.
        new: The value that means "unknown".
    """
    kind = np.full(len(fold), GALLERY)
    for k in range(int(fold.max()) + 1):
        learned = (fold != k) & (hidden != k) & counts
        asked = fold == k
        is_known = np.isin(identity, identity[learned]) & (identity != new)
        kind[asked] = np.where(is_known[asked], KNOWN, NEW)
    return kind


def _rest_of_groups(
    fold: Int[np.ndarray, " case"], group: Int[np.ndarray, " case"]
) -> Int[np.ndarray, " case"]:
    """For every case that no fold judges, the fold that judges others of its group."""
    hidden = np.full(len(fold), NONE)
    for k in range(int(fold.max()) + 1):
        hidden[np.isin(group, group[fold == k]) & (fold == NONE)] = k
    return hidden


def _take_back(
    identity: Shaped[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
    hidden: Int[np.ndarray, " case"],
    counts: Bool[np.ndarray, " case"],
) -> list[str]:
    """Ask no more, in place, for whom their fold does not know: it still does not learn from them.

    Where everybody is known there would be no right answer.
    """
    rows = kinds(identity, fold, hidden, counts, None) == NEW
    hidden[rows], fold[rows] = fold[rows], NONE
    told = f"{rows.sum()} pictures are no queries: their fold would learn from no other of theirs"
    return [told] if rows.any() else []


@dataclass(slots=True)
class _Deal:
    """Rows handed to folds, group by group.

    Attributes:
        identity: Of every row.
        group: Of every row.
        counts: Whether a row has any weight; the others are asked for by no fold.
        folds: How many.
        per_identity: Most queries of an individual in a fold.
        new: The value that means "unknown".
        seed: Of all dice.
        rows: Of every known individual, in random order.
        unknown: Rows of nobody known.
        inside: Rows of every group.
        fold: So far.
        hidden: So far.
        of_group: The fold that a group belongs to, so far: it judges some of its rows, or hides
            one of its individuals, and learns from none of them.
        first: The row of a group that was the first to be asked for.
        hidden_in: The fold that hides an individual.
        asked: How many queries of a kind each fold has.
        rng: The dice.
    """

    identity: np.ndarray
    group: np.ndarray
    counts: np.ndarray
    folds: int
    per_identity: int
    new: str | None
    seed: int
    rows: dict[str, list[int]] = field(init=False)
    unknown: list[int] = field(init=False)
    inside: dict[int, list[int]] = field(init=False)
    fold: np.ndarray = field(init=False)
    hidden: np.ndarray = field(init=False)
    of_group: dict[int, int] = field(init=False)
    first: dict[int, int] = field(init=False)
    hidden_in: dict[str, int] = field(init=False)
    asked: dict[str, Counter] = field(init=False)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.identity)
        self.rng = np.random.default_rng(self.seed)
        self.fold, self.hidden = np.full(n, NONE), np.full(n, NONE)
        self.of_group, self.first, self.hidden_in = {}, {}, {}
        self.asked = {KNOWN: Counter(), NEW: Counter()}
        rows, inside = defaultdict(list), defaultdict(list)
        for row in self.rng.permutation(n).tolist():
            if self.counts[row]:
                rows[str(self.identity[row])].append(row)
            inside[int(self.group[row])].append(row)
        self.unknown = rows.pop(self.new, []) if self.new is not None else []
        self.rows, self.inside = dict(rows), dict(inside)

    def hide(self, names: Sequence[str]) -> None:
        """Hide individuals in turn, each in one fold, which asks for some pictures of it."""
        turns: list[int] = []
        for name in names:
            turns = turns or self.rng.permutation(self.folds).tolist()
            self._hide(name, turns.pop())

    def _hide(self, name: str, k: int) -> None:
        mine = self.rows[name]
        around = {int(self.group[row]) for row in mine}
        if any(self.of_group.get(g, k) != k for g in around):
            return
        self.hidden_in[name] = k
        for g in around - {*self.of_group}:
            self.hidden[self.inside[g]] = k
            if len(self.inside[g]) > 1:
                self.of_group[g] = k
        for row in mine[: self.per_identity]:
            self._ask(row, k, NEW)

    def ask_unknown(self) -> None:
        """Let every picture of nobody known be a query."""
        for row in self.unknown:
            k = self._taken(row)
            self._ask(row, self._least(NEW) if k == NONE else k, NEW)

    def ask_known(self) -> None:
        """Let every fold judge pictures of individuals that it learns from by other pictures."""
        for name in self.rng.permutation(sorted(self.rows)).tolist():
            first = self._least(KNOWN)
            around = [(first + turn) % self.folds for turn in range(self.folds)]
            turns = cycle([k for k in around if k != self.hidden_in.get(name)])
            asked: Counter = Counter()
            is_last: set[tuple[int, int]] = set()  # groups beside which a fold learns from nothing
            for row in self.rows[name]:
                k = self._taken(row)
                k = next(turns) if k == NONE else k
                place = (int(self.group[row]), k)
                if (
                    self.fold[row] != NONE
                    or k == self.hidden_in.get(name)
                    or asked[k] == self.per_identity
                    or place in is_last
                ):
                    continue
                if self._is_left(name, *place):
                    self._ask(row, k, KNOWN)
                    asked[k] += 1
                else:
                    is_last.add(place)

    def _taken(self, row: int) -> int:
        """The fold that the row's group belongs to."""
        return self.of_group.get(int(self.group[row]), NONE)

    def _least(self, kind: str) -> int:
        return min(range(self.folds), key=lambda k: self.asked[kind][k])

    def _is_left(self, name: str, group: int, k: int) -> bool:
        """Whether fold k would still learn from a picture of the individual in another group."""
        return any(
            k not in (self.fold[r], self.hidden[r]) and self.group[r] != group
            for r in self.rows[name]
        )

    def _ask(self, row: int, k: int, kind: str) -> None:
        """Let fold k judge the row; the rest of its group leaves that fold."""
        group = int(self.group[row])
        if group in self.first:
            self.hidden[self.first[group]] = k  # the others left when it was asked for
        else:
            self.hidden[[r for r in self.inside[group] if r != row]] = k
            self.first[group] = row
        self.fold[row] = k
        self.of_group[group] = k
        self.asked[kind][k] += 1
