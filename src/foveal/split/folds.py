"""Folds that do not leak: groups stay whole, classes, labels and sites stay in balance.

No solver and no dice that matter: groups of equal composition are dealt evenly, the rest go largest
first to where the imbalance grows least, and moves and swaps follow until none helps. A rare label
weighs as much as a frequent one, so each fold gets its part of it where the groups allow it. What
balance they forbid is measured and said::

    split = Folds(5)(manifest)
    split.fold, split.group, split.imbalance, split.notes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.errors import SplitError
from foveal.manifest import Manifest
from foveal.split.record import (
    NONE,
    Split,
    groups,
    numbered,
    own_folds,
    require_filled,
    require_untorn,
)

SEARCH_RESTARTS = 100
SWAP_LIMIT = 400
"""Groups up to which all pairs are swapped too."""

SOME_SETS, SOME_GROUPS = 20, 100

ONE_FOLD, OTHER_FOLDS = "one fold a group", "another --fold column"
NEAR_CURE = "; or near_duplicates=false, where they look alike and are not"
"""Cures of folds that somebody made."""

Stratum = Int[np.ndarray, " case"]
"""What each case counts as, from 0; `NONE` where it counts as nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """What is spread evenly over folds.

    Attributes:
        cells: Must be even; their imbalance is what is said.
        parts: What cells are made of, spread evenly too; sites last.
        kind: What each case counts as in the table of folds, words with spaces between them.
        counted: What is in the cells: cases, or what a case may have several of.
    """

    cells: tuple[Stratum, ...]
    parts: tuple[Stratum, ...]
    kind: Shaped[np.ndarray, " case"]
    counted: str = "cases"

    def of(self, counts: Bool[np.ndarray, " case"]) -> Strata:
        """The same, where other cases count as nothing."""
        return Strata(
            cells=tuple(np.where(counts, cell, NONE) for cell in self.cells),
            parts=tuple(np.where(counts, part, NONE) for part in self.parts),
            kind=np.where(counts, self.kind, ""),
            counted=self.counted,
        )


def by_class(manifest: Manifest) -> Strata:
    """Classes, sites, and the classes of every site; a case has one class."""
    rows = [" ".join(row) for row in manifest.target.tolist()]
    return _of_one_class(np.array(rows, dtype=np.str_), _site(manifest))


def by_grade(manifest: Manifest) -> Strata:
    """The same of whole numbers, however they are written: 2 and 2.0 are one class."""
    grades = [str(int(float(text))) for text in manifest.only_target().tolist()]
    return _of_one_class(np.array(grades, dtype=np.str_), _site(manifest))


def by_name(manifest: Manifest) -> Strata:
    """The same of classes as they were measured, whether a column has them or one each."""
    return _of_one_class(manifest.measured["label_names"], _site(manifest))


def _of_one_class(kind: Shaped[np.ndarray, " case"], site: Stratum) -> Strata:
    parts = numbered(kind), site
    return Strata(cells=(crossed(*parts),), parts=parts, kind=kind)


def by_label(manifest: Manifest) -> Strata:
    """Every label, sites, and the labels of every site; a case has any number of labels."""
    names = manifest.measured["label_names"]
    sets, site = [set(text.split()) for text in names.tolist()], _site(manifest)
    known = sorted(set().union(*sets))
    labels = [np.where([name in own for own in sets], 0, NONE) for name in known]
    cells = tuple(crossed(label, site) for label in labels)
    return Strata(cells=cells, parts=(*labels, site), kind=names, counted="labels")


OTHER_SITES = "how much scores differ at other sites, the score of each site hints at"


def _one_sided(
    fold: Int[np.ndarray, " case"], kind: Shaped[np.ndarray, " case"], cure: str
) -> list[str]:
    """Which folds learn from cases that are all alike, and which words lie in one fold alone."""
    if len({*kind.tolist()}) < 2:
        return []
    seen = [sorted({*kind[fold != k].tolist()}) for k in range(int(fold.max()) + 1)]
    notes = [
        f'fold {k} learns from cases of "{kinds[0]}" alone, and can tell nothing apart; '
        f"cure: {cure}"
        for k, kinds in enumerate(seen)
        if len(kinds) == 1
    ]
    words = [set(text.split()) for text in kind.tolist()]
    for word in sorted(set().union(*words)):
        where = fold[[word in own for own in words]]
        if len(where) > 1 and np.ptp(where) == 0 and len(seen[where[0]]) > 1:
            notes.append(
                f'all cases of "{word}" are in fold {where[0]}, which is judged by models that '
                f"never saw it; cure: {cure}"
            )
    return notes


def _site(manifest: Manifest) -> Stratum:
    return numbered(manifest.roles.get("site", np.zeros(len(manifest), dtype=np.str_)))


def crossed(one: Stratum, other: Stratum) -> Stratum:
    """What a case counts as in both; as nothing where it does in one."""
    both, inside = np.full(len(one), NONE), (one != NONE) & (other != NONE)
    both[inside] = numbered((one * (int(other.max(initial=0)) + 1) + other)[inside])
    return both


@dataclass(frozen=True, slots=True)
class Folds:
    """Stratified and grouped folds, the user's own folds, or one site left out at a time.

    Attributes:
        folds: How many, or "site" for leave-one-site-out.
        seed: Which of equally good folds.
        strata: What is spread evenly over them.
        near: Whether pictures that look nearly the same stay together.
    """

    folds: int | Literal["site"] = 5
    seed: int = 0
    strata: Callable[[Manifest], Strata] = by_class
    near: bool = False

    def __call__(self, manifest: Manifest) -> Split:
        """Assign every case to a fold.

        Raises:
            SplitError: A group or a pair of equal pictures would lie in two folds, there is only
                one group or site, a case has no fold or site where those make the folds, or fewer
                than two folds were asked for.
        """
        group, notes = groups(manifest, near=self.near)
        counts = manifest.weight > 0
        strata = self.strata(manifest).of(counts)
        if "fold" in manifest.roles:
            own = own_folds(manifest, empty_is_none=False)
            fold, cure = self._whole(manifest, group, own, "the fold column", ONE_FOLD), OTHER_FOLDS
            if (made := int(fold.max()) + 1) != self.folds:
                notes += [f"{made} folds by their column, where folds={self.folds} was asked for"]
        elif self.folds == "site":
            fold, cure = self._by_site(manifest, group), "a number of folds="
            notes += [
                f"intervals are of other groups at these {fold.max() + 1} sites: {OTHER_SITES}"
            ]
        else:
            cure = "another --group column"
            fold, more = self._balanced(group, strata)
            notes += more
        notes += _one_sided(fold[counts], strata.kind[counts], cure)
        return Split(
            fold=fold,
            hidden=np.full(len(manifest), NONE),
            group=group,
            kind=strata.kind,
            # one fold a site, and no part of a site is in every fold
            imbalance=imbalance(fold, strata.parts[:-1] if self.folds == "site" else strata.cells),
            counted=strata.counted,
            notes=tuple(notes),
        )

    def _by_site(
        self, manifest: Manifest, group: Int[np.ndarray, " case"]
    ) -> Int[np.ndarray, " case"]:
        if "site" not in manifest.roles:
            raise SplitError("folds=site needs a site column; cure: foveal init --site COLUMN")
        require_filled(manifest, "site", cure="name the site of each, or folds=5")
        site = numbered(manifest.roles["site"])
        cure = "leave all but one of them out of the table, or a number of folds="
        return self._whole(manifest, group, site, "leaving one site out", cure)

    def _whole(
        self,
        manifest: Manifest,
        group: Int[np.ndarray, " case"],
        fold: Int[np.ndarray, " case"],
        reason: str,
        cure: str,
    ) -> Int[np.ndarray, " case"]:
        """These folds, if they tear no group."""
        if fold.max() < 1:
            raise SplitError(f"{reason} makes one fold only, so nothing can be held back")
        require_untorn(manifest, group, fold, reason, f"{cure}{NEAR_CURE if self.near else ''}")
        return fold

    def _balanced(
        self, group: Int[np.ndarray, " case"], strata: Strata
    ) -> tuple[Int[np.ndarray, " case"], list[str]]:
        wanted, found = int(self.folds), int(group.max()) + 1
        if wanted < 2:
            raise SplitError(f"folds={wanted}, but cross-validation needs at least 2")
        if found < 2:
            raise SplitError(
                "all cases are one group (of the same --group, or equal byte for byte), so nothing "
                "can be held back; cure: another --group column, or other pictures"
            )
        note = f"only {found} groups: {found} folds instead of {wanted}" if found < wanted else ""
        even = np.stack([*strata.parts, *strata.cells], axis=1)
        fold = balanced_folds(group, even, folds=min(wanted, found), seed=self.seed)
        return fold, [note] if note else []


def imbalance(fold: Int[np.ndarray, " case"], cells: Sequence[Stratum]) -> float:
    """Share of what is counted in cells that would have to move for all to be spread evenly."""
    moved = counted = 0.0
    for cell in cells:
        inside = cell != NONE
        table = np.zeros((cell.max() + 1, fold.max() + 1))
        np.add.at(table, (cell[inside], fold[inside]), 1)
        even = table.sum(axis=1, keepdims=True) / table.shape[1]
        moved += float(np.abs(table - even).sum()) / 2
        counted += float(inside.sum())
    return moved / max(counted, 1.0)


def balanced_folds(
    group: Int[np.ndarray, " case"],
    strata: Int[np.ndarray, "case stratum"],
    *,
    folds: int,
    seed: int = 0,
) -> Int[np.ndarray, " case"]:
    """Assign whole groups to folds so that sizes and all strata are even.

    Args:
        group: 0 to groups-1.
        strata: What every case counts as in each of them, from 0; `NONE` for nothing.
        folds: How many, at most the number of groups.
        seed: Which of equally good assignments.

    Returns:
        The fold of every case.
    """
    content = _content(group, strata)
    rng = np.random.default_rng(seed)
    assigned = np.full(len(content), -1)
    kind = _kinds(content)
    shuffled = rng.permutation(len(content))
    by_kind = shuffled[np.argsort(kind[shuffled], kind="stable")]
    starts = np.searchsorted(kind[by_kind], np.arange(kind.max() + 2))
    for start, stop in pairwise(starts):
        dealt = (stop - start) // folds * folds  # as many of a kind to every fold
        assigned[by_kind[start : start + dealt]] = np.arange(dealt) % folds
    left = np.flatnonzero(assigned < 0)
    if len(left):
        scale = 1 / np.sqrt(np.maximum(content.sum(axis=0), 1))
        dealt_sum = np.stack([content[assigned == f].sum(axis=0) for f in range(folds)])
        assigned[left] = _search(content[left] * scale, dealt_sum * scale, rng)
    return assigned[group]


def _content(
    group: Int[np.ndarray, " case"], strata: Int[np.ndarray, "case stratum"]
) -> Float[np.ndarray, "group feature"]:
    """How many cases of every stratum each group holds, and how many in all."""
    every = (np.zeros(len(group), dtype=np.int64), *strata.T)
    widths = [int(stratum.max()) + 1 for stratum in every]
    content, first = np.zeros((int(group.max()) + 1, sum(widths))), 0
    for stratum, width in zip(every, widths, strict=True):
        counted = stratum != NONE
        np.add.at(content, (group[counted], first + stratum[counted]), 1)
        first += width
    return content


def _kinds(content: Float[np.ndarray, "group feature"]) -> Int[np.ndarray, " group"]:
    """A number for each composition; two different ones share it less than once in 2^40 tables."""
    marks = np.random.default_rng(0).integers(1, 2**62, content.shape[1], dtype=np.uint64)
    sums = [content[k : k + 4096].astype(np.uint64) @ marks for k in range(0, len(content), 4096)]
    return np.unique(np.concatenate(sums), return_inverse=True)[1].reshape(-1)


def _search(
    scaled: Float[np.ndarray, "group feature"],
    start: Float[np.ndarray, "fold feature"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " group"]:
    """The best of several greedy starts, each improved by moves and swaps."""
    folds = len(start)
    best, best_cost = np.zeros(len(scaled), dtype=np.int64), np.inf
    restarts = SEARCH_RESTARTS if len(scaled) <= SWAP_LIMIT else 1
    size = scaled @ scaled.sum(axis=0)
    for k in range(restarts):
        jitter = rng.uniform(0.5, 1.5, len(scaled)) if k else np.ones(len(scaled))
        fold = _greedy(scaled, start, np.argsort(-size * jitter, kind="stable"))
        total = start.copy()
        np.add.at(total, fold, scaled)
        fold, total = _improve(scaled, fold, total)
        if len(scaled) > SWAP_LIMIT:
            _swap_some(scaled, fold, total, rng)
        cost = float((total**2).sum())
        if cost < best_cost - 1e-9:
            best, best_cost = fold, cost
    if not start.any():  # what was dealt fills all folds or none, and each must hold a group
        empty = np.setdiff1d(np.arange(folds), best).tolist()
        for f, g in zip(empty, _spare(best, np.argsort(size)), strict=False):
            best[g] = f
    return best


def _spare(fold: np.ndarray, order: np.ndarray) -> list[int]:
    """Small groups whose fold keeps another group without them."""
    counts = np.bincount(fold)
    spare = []
    for g in order.tolist():
        if counts[fold[g]] > 1:
            counts[fold[g]] -= 1
            spare.append(g)
    return spare


def _greedy(
    scaled: Float[np.ndarray, "group feature"],
    start: Float[np.ndarray, "fold feature"],
    order: Int[np.ndarray, " group"],
) -> Int[np.ndarray, " group"]:
    total = start.copy()
    fold = np.zeros(len(scaled), dtype=np.int64)
    for g in order:
        f = int(np.argmin(total @ scaled[g]))
        fold[g] = f
        total[f] += scaled[g]
    return fold


def _improve(
    scaled: Float[np.ndarray, "group feature"],
    fold: Int[np.ndarray, " group"],
    total: Float[np.ndarray, "fold feature"],
) -> tuple[Int[np.ndarray, " group"], Float[np.ndarray, "fold feature"]]:
    """Move one group, or swap two, as long as the sum of squares falls."""
    fold, total = fold.copy(), total.copy()
    square = (scaled**2).sum(axis=1)
    every = np.arange(len(scaled))
    cross = scaled @ scaled.T if len(scaled) <= SWAP_LIMIT else None
    reach = scaled @ total.T  # (group, fold)
    for _ in range(20 * len(scaled)):
        move = reach - reach[every, fold][:, None] + square[:, None]
        move[every, fold] = 0
        g, f = np.unravel_index(np.argmin(move), move.shape)
        if move[g, f] < -1e-9:
            changed = [fold[g], f]
            total[fold[g]] -= scaled[g]
            total[f] += scaled[g]
            fold[g] = f
            reach[:, changed] = scaled @ total[changed].T
            continue
        if cross is None:
            break
        to = move[:, fold]  # (group, partner): cost of moving a group to its partner's fold
        swap = to + to.T - 2 * cross
        swap[fold[:, None] == fold[None, :]] = 0
        g, h = np.unravel_index(np.argmin(swap), swap.shape)
        if swap[g, h] >= -1e-9:
            break
        change, changed = scaled[h] - scaled[g], [fold[g], fold[h]]
        total[fold[g]] += change
        total[fold[h]] -= change
        fold[g], fold[h] = fold[h], fold[g]
        reach[:, changed] = scaled @ total[changed].T
    return fold, total


def _swap_some(
    scaled: Float[np.ndarray, "group feature"],
    fold: Int[np.ndarray, " group"],
    total: Float[np.ndarray, "fold feature"],
    rng: np.random.Generator,
) -> None:
    """Where groups are too many for all pairs: improve small random sets of them, in place."""
    for _ in range(SOME_SETS):
        some = rng.choice(len(scaled), SOME_GROUPS, replace=False)
        fold[some], total[:] = _improve(scaled[some], fold[some], total)
