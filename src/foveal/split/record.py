"""What a split says of every case: who judges it, and who may learn from it.

A fold's models learn from a case unless it is held back for that fold to judge, or leaves with the
fold for another reason: an individual hidden as if it were new, the rest of a group. ::

    made = Folds(5)(manifest)
    made.fold[0], made.learns(0), made.lines()
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.errors import SplitError
from foveal.files import csv_text
from foveal.manifest import Manifest, Truth, Window
from foveal.table import in_order

NONE = -1
"""The fold of a case that no fold judges."""

EVERY = -2
"""Hidden from every fold: a case that is neither judged nor learned from."""

COLUMNS = ("id", "fold", "hidden", "group", "kind", "window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The fold and group of every unit: a case, or a part of one.

    Attributes:
        fold: Which fold judges the case, 0 to folds-1; `NONE` where it is only learned from.
        hidden: One more fold that does not learn from the case; `NONE` for no other, `EVERY` for
            all.
        group: Cases with the same number never lie on both sides of a fold.
        kind: What the case counts as in the table of folds, words with spaces between them.
        imbalance: Share of what is `counted`, 0 to 1, that would have to change folds for every
            kind and site to be spread evenly; 0 is perfect.
        counted: Judged cases, or their labels.
        notes: What was decided on the way that a person should know.
        row: The case that each unit is of, by its place in the table; None where they are the same.
        window: The part of the case's plane that each unit stands for; None for all of it.
    """

    fold: Int[np.ndarray, " case"]
    hidden: Int[np.ndarray, " case"]
    group: Int[np.ndarray, " case"]
    kind: Shaped[np.ndarray, " case"]
    imbalance: float
    counted: str = "cases"
    notes: tuple[str, ...] = ()
    row: Int[np.ndarray, " case"] | None = None
    window: tuple[Window, ...] | None = None

    def __post_init__(self) -> None:
        for k in range(self.folds):
            learned = self.learns(k)
            torn = np.isin(self.group[self.fold == k], self.group[learned])
            if torn.any():
                raise SplitError(f"fold {k} would learn from groups that it judges: a leak")
            if not learned.any():
                raise SplitError(f"fold {k} would have nothing to learn from; cure: fewer folds")

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max()) + 1

    def learns(self, fold: int) -> Bool[np.ndarray, " case"]:
        """The cases that a fold's models learn from."""
        return (self.fold != fold) & (self.hidden != fold) & (self.hidden != EVERY)

    def truth(self, manifest: Manifest, target: np.ndarray) -> Truth:
        """What the table says of every unit, the same for every fold.

        Args:
            manifest: A row a unit.
            target: Of every unit.
        """
        return Truth(
            target=target,
            weight=manifest.weight,
            group=self.group,
            fold=self.fold,
            site=manifest.roles.get("site"),
        )

    def require_weight(self, weight: Float[np.ndarray, " case"]) -> Split:
        """This split, if every fold's models learn from something that counts.

        Raises:
            SplitError: All that some fold learns from has a weight of 0.
        """
        of_unit = weight if self.row is None else weight[self.row]
        bad = [f"fold {k}" for k in range(self.folds) if not of_unit[self.learns(k)].any()]
        if bad:
            raise SplitError(
                "all that some folds would learn from has a weight of 0; cure: other weights, or "
                "other folds",
                bad,
            )
        return self

    def lines(self) -> list[str]:
        """How many cases of every kind each fold judges, and how many none does, as a table.

        A case of several kinds, words with spaces between them, counts in all of them.
        """
        names = sorted({word for kind in self.kind.tolist() for word in kind.split()})
        widths = [max(len(n), 5) for n in names]
        head = "  ".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))
        lines = [f"fold  {head}  cases"]
        for k in (*range(self.folds), *([NONE] if (self.fold == NONE).any() else [])):
            inside = self.kind[self.fold == k].tolist()
            count = Counter(word for kind in inside for word in kind.split())
            counts = [f"{count[n]:>{w}}" for n, w in zip(names, widths, strict=True)]
            lines.append(f"{'-' if k == NONE else k:>4}  {'  '.join(counts)}  {len(inside):>5}")
        return lines

    def units(self, manifest: Manifest) -> Manifest:
        """The table with a row a unit; a part is called after its case, such as `fragment1/0`."""
        if self.row is None or self.window is None:
            return manifest
        parts: Counter[int] = Counter()
        names = []
        for row in self.row.tolist():
            names.append(f"{manifest.ids[row]}/{parts[row]}")
            parts[row] += 1
        taken = manifest.take(self.row)
        windows = np.array([str(w) for w in self.window], dtype=np.str_)
        return replace(taken, ids=tuple(names), measured={**taken.measured, "window": windows})

    def to_csv(self, ids: tuple[str, ...]) -> str:
        """All but the notes as one CSV text, for cases of these names; an empty cell for none."""
        names = ids if self.row is None else [ids[row] for row in self.row.tolist()]
        numbers = (["" if k == NONE else k for k in v.tolist()] for v in (self.fold, self.hidden))
        windows = [""] * len(names) if self.window is None else self.window
        rows = zip(names, *numbers, self.group.tolist(), self.kind.tolist(), windows, strict=True)
        return csv_text([COLUMNS, *rows])

    @staticmethod
    def from_csv(
        text: str, ids: tuple[str, ...], *, imbalance: float = 0.0, counted: str = "cases"
    ) -> Split | None:
        """What `to_csv` wrote for these cases; None for others."""
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(header) != COLUMNS or tuple(dict.fromkeys(row[0] for row in rows)) != ids:
            return None
        fold, hidden, group = (
            np.array([int(row[k]) if row[k] else NONE for row in rows], dtype=np.int64)
            for k in (1, 2, 3)
        )
        place = {name: k for k, name in enumerate(ids)}
        is_cut = any(row[5] for row in rows)
        return Split(
            fold=fold,
            hidden=hidden,
            group=group,
            kind=np.array([row[4] for row in rows], dtype=np.str_),
            imbalance=imbalance,
            counted=counted,
            row=np.array([place[row[0]] for row in rows]) if is_cut else None,
            window=tuple(Window.of(row[5]) for row in rows) if is_cut else None,
        )


def groups(manifest: Manifest, *, near: bool = False) -> tuple[Int[np.ndarray, " case"], list[str]]:
    """The group of every case: its own, and that of every picture equal byte for byte.

    An empty group cell is a group of its own; volumes that are physically one are one group.

    Args:
        manifest: The cases.
        near: Whether pictures that look nearly the same belong together too.
    """
    none = np.zeros(len(manifest), dtype=np.str_)
    lot = np.arange(len(manifest))
    lot = joined(lot, manifest.roles.get("group", none))
    lot = joined(lot, manifest.measured.get("physical", none))
    found, notes = lot.max() + 1, []
    lot = joined(lot, manifest.measured.get("sha256", none))
    if equal := int(found - lot.max() - 1):
        notes.append(f"{equal} pictures equal to another byte for byte: their groups are joined")
    found = lot.max() + 1
    lot = joined(lot, manifest.measured.get("look", none)) if near else lot
    if alike := int(found - lot.max() - 1):
        notes.append(f"{alike} pictures look nearly like another: their groups are joined")
    return lot, notes


def joined(
    lot: Int[np.ndarray, " case"], values: Shaped[np.ndarray, " case"]
) -> Int[np.ndarray, " case"]:
    """Lots, numbered from 0, of which those that share a value are one; an empty one joins none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(values != "")
    ends = lot[rows], lot.max() + 1 + numbered(values[rows])
    size = 1 + int(max(lot.max(), ends[1].max(initial=0)))
    graph = coo_array((np.ones(len(rows)), ends), shape=(size, size))
    return numbered(connected_components(graph, directed=False)[1][lot])


def numbered(values: Shaped[np.ndarray, " case"]) -> Int[np.ndarray, " case"]:
    """Equal values as equal numbers, from 0, in the order of the values."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def require_filled(manifest: Manifest, role: str, *, cure: str) -> None:
    """Go on where every case has a cell of this role.

    Raises:
        SplitError: Some have an empty one.
    """
    empty = manifest.roles[role] == ""
    if empty.any():
        rows = list(compress(map(manifest.name, range(len(empty))), empty))
        raise SplitError(
            f"{len(rows)} rows have an empty cell in the {role} column; cure: {cure}", rows
        )


def require_untorn(
    manifest: Manifest,
    group: Int[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
    reason: str,
    cure: str,
) -> None:
    """Go on where no group lies in two folds; cases that no fold judges may be of any group.

    Raises:
        SplitError: Some do.
    """
    first: dict[int, int] = {}
    torn = []
    for k in np.flatnonzero(fold != NONE).tolist():
        other = first.setdefault(int(group[k]), k)
        if fold[other] != fold[k]:
            torn.append(f"{manifest.name(k)} belongs together with {manifest.name(other)}")
    if torn:
        raise SplitError(
            f"{reason} puts {len(torn)} cases apart from their group (or from a picture that is or "
            f"looks the same), which would leak; cure: {cure}",
            torn,
        )


def own_folds(manifest: Manifest, *, empty_is_none: bool) -> Int[np.ndarray, " case"]:
    """The user's folds, in the order of their names, numbers by their size.

    Args:
        manifest: With a fold column.
        empty_is_none: Whether an empty cell means that no fold judges the case.

    Raises:
        SplitError: A cell is empty and may not be.
    """
    names = manifest.roles["fold"]
    empty = names == ""
    if not empty_is_none:
        require_filled(manifest, "fold", cure="name the fold of each, or no --fold")
    fold = np.full(len(names), NONE)
    place = {name: k for k, name in enumerate(sorted({*names[~empty].tolist()}, key=in_order))}
    fold[~empty] = [place[name] for name in names[~empty].tolist()]
    return fold
