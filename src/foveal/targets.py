"""What the target columns mean: a grade, labels, who it is, or where something is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.errors import TargetError, nearest
from foveal.lattice import blocks_of, planes_of
from foveal.manifest import Manifest, Truth, Window
from foveal.metrics.interval import FEWEST
from foveal.split.identities import KNOWN, NEW, share_of_new
from foveal.split.record import NONE, Split
from foveal.table import in_order


def plain_truth(manifest: Manifest, encoded: np.ndarray, split: Split) -> Truth:
    """What the table says, the same for every fold."""
    return Truth(
        target=encoded,
        weight=manifest.weight,
        group=split.group,
        fold=split.fold,
        site=manifest.roles.get("site"),
    )


def _only_column(manifest: Manifest) -> Shaped[np.ndarray, " case"]:
    """The target of a family that has one column."""
    names = manifest.target_columns
    if len(names) > 1:
        raise TargetError(
            f"--target {','.join(names)}: this recipe has one target column; cure: "
            f"--target {names[0]}"
        )
    return manifest.target[:, 0]


MOST_GRADES = 100
"""More are years, or the numbers of cases."""


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One grade a case, 0 to grades-1."""

    grades: int

    @staticmethod
    def measure(manifest: Manifest) -> dict[str, Any]:
        """The number of grades that the column suggests: the largest + 1."""
        found = [_number(v) for v in manifest.target[:, 0].tolist()]
        whole = [int(v) for v in found if v >= 0 and v == int(v)] if found else []
        return {"grades": max(whole, default=0) + 1}

    def encode(self, manifest: Manifest) -> Int[np.ndarray, " case"]:
        """The grade of every case.

        Raises:
            TargetError: A grade is empty, no number, negative, fractional or too large, or all
                cases have the same one.
        """
        texts = _only_column(manifest).tolist()
        wrong = [(k, self._trouble(text)) for k, text in enumerate(texts)]
        culprits = [f"{manifest.name(k)}: {why}" for k, why in wrong if why]
        column = manifest.target_columns[0]
        if self.grades > MOST_GRADES:
            raise TargetError(
                f'column "{column}" would have grades 0 to {self.grades - 1}; a scale has at most '
                f"{MOST_GRADES}; cure: number the grades 0, 1, 2, ..., or another --target"
            )
        if culprits:
            raise TargetError(
                f'{len(culprits)} values of column "{column}" are no grades of 0 to '
                f"{self.grades - 1}; cure: correct them, or say grades=K for K grades",
                culprits,
            )
        grades = np.array([int(float(text)) for text in texts], dtype=np.int64)
        if len(np.unique(grades)) < 2:
            raise TargetError(
                f'all {len(grades)} cases have grade {grades[0]} in column "{column}"; there is '
                "nothing to learn; cure: another --target"
            )
        return grades

    def _trouble(self, text: str) -> str:
        """Why a text is no grade; empty if it is one."""
        value = _number(text)
        if not text.strip():
            return "the cell is empty"
        if math.isnan(value):
            return f'"{text}" is no number'
        if value < 0:
            return f"{text} is negative"
        if value != int(value):
            return f"{text} is fractional"
        if value >= self.grades:
            return f"{text} is too large"
        return ""

    def remarks(self, encoded: Int[np.ndarray, " case"]) -> list[str]:
        """Grades that no case has."""
        missing = sorted(set(range(self.grades)) - set(encoded.tolist()))
        return [f"no case has grade {', '.join(map(str, missing))}"] if missing else []

    def train(self, encoded: Int[np.ndarray, " case"]) -> Float[np.ndarray, "case grade"]:
        """One distribution over grades a case."""
        return np.eye(self.grades, dtype=np.float32)[encoded]

    def truth(self, manifest: Manifest, encoded: Int[np.ndarray, " case"], split: Split) -> Truth:
        """The grade of every case."""
        return plain_truth(manifest, encoded, split)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


@runtime_checkable
class Shows(Protocol):
    """A way to draw cases that knows how often each label will be seen."""

    def expected(self, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The share of draws that show each label."""
        ...


@dataclass(frozen=True, slots=True)
class Labels:
    """Any number of labels a case, from 0/1 columns or from words with spaces between them.

    Attributes:
        names: Of all labels.
        one_each: Whether every case has exactly one.
        drawn: How cases are drawn in training, where a person should know what that shows.
    """

    names: tuple[str, ...]
    one_each: bool = False
    drawn: Shows | None = field(default=None, metadata={"digest": False})

    @staticmethod
    def measure(manifest: Manifest, *, one_each: bool = False) -> dict[str, Any]:
        """The names of the labels: of the columns, or of all words, numbers in their order.

        Args:
            manifest: The cases.
            one_each: Whether every case has exactly one, so that a single column names classes.
        """
        if _is_flags(manifest, one_each=one_each):
            return {"labels": list(manifest.target_columns)}
        _require_no_gaps(manifest)
        words = {word for text in manifest.target[:, 0].tolist() for word in text.split()}
        return {"labels": sorted(words, key=in_order)}

    def encode(self, manifest: Manifest) -> Int[np.ndarray, "case label"]:
        """0 or 1 for every label of every case.

        Raises:
            TargetError: A cell is neither 0 nor 1, a word is no label, a label's name has white
                space, or there is nothing to learn.
        """
        spaced = [n for n in self.names if any(letter.isspace() for letter in n) or not n]
        if spaced:
            raise TargetError(
                f"{len(spaced)} labels have white space in their names, and an answer lists names "
                "with spaces between them; cure: other names",
                [f'"{name}"' for name in spaced],
            )
        has = self._flags(manifest) if self._has_flags(manifest) else self._words(manifest)
        if not has.any() or has.all():
            column = ",".join(manifest.target_columns)
            raise TargetError(
                f"all cases have {'all labels' if has.any() else 'no label'} in {column}; there is "
                "nothing to learn; cure: another --target"
            )
        odd = (has.sum(axis=1) != 1) & self.one_each
        if odd.any():
            raise TargetError(
                f"{odd.sum()} cases have no label or several, where each has one; cure: names "
                "without spaces, or --recipe multilabel:small where several are meant",
                [manifest.name(row) for row in np.flatnonzero(odd).tolist()],
            )
        return has

    def names_of(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """Every case's labels as words, whatever else its cells hold."""
        if not self._has_flags(manifest):
            return np.array(
                [" ".join(sorted(set(t.split()))) for t in manifest.target[:, 0].tolist()], np.str_
            )
        own = (
            [n for n, t in zip(self.names, row, strict=True) if FLAGS.get(t.strip())]
            for row in manifest.target.tolist()
        )
        return np.array([" ".join(names) for names in own], dtype=np.str_)

    def _has_flags(self, manifest: Manifest) -> bool:
        return _is_flags(manifest, one_each=self.one_each)

    def _flags(self, manifest: Manifest) -> Int[np.ndarray, "case label"]:
        culprits = [
            f'{manifest.name(row)}: {column} is "{text}"'
            for column, texts in zip(manifest.target_columns, manifest.target.T, strict=True)
            for row, text in enumerate(texts.tolist())
            if text.strip() not in FLAGS
        ]
        if culprits:
            raise TargetError(f"{len(culprits)} cells are neither 0 nor 1", culprits)
        return np.array([[FLAGS[t.strip()] for t in row] for row in manifest.target.tolist()])

    def _words(self, manifest: Manifest) -> Int[np.ndarray, "case label"]:
        if manifest.target.shape[1] > 1:
            raise TargetError(
                f"--target names {manifest.target.shape[1]} columns; one column of words, or "
                "columns of 0 and 1"
            )
        if self.names == manifest.target_columns:
            raise TargetError(
                f'the only label is called "{self.names[0]}", as its column is, so that an answer '
                "could be words or 0 and 1; cure: another name, or a column of 0 and 1"
            )
        sets = [set(text.split()) for text in manifest.target[:, 0].tolist()]
        unknown = [
            f"{manifest.name(row)}: {word}{nearest(word, self.names)}"
            for row, own in enumerate(sets)
            for word in sorted(own - set(self.names))
        ]
        if unknown:
            raise TargetError(f"{len(unknown)} words are no labels of this study", unknown)
        has = [[name in own for name in self.names] for own in sets]
        return np.array(has, dtype=np.int64).reshape(len(sets), len(self.names))

    def remarks(self, encoded: Int[np.ndarray, "case label"]) -> list[str]:
        """Labels that say nothing, or little, and what the batches make of all."""
        said = []
        for name, count in zip(self.names, encoded.sum(axis=0).tolist(), strict=True):
            if count in (0, len(encoded)):
                said.append(f"{'every' if count else 'no'} case has label {name}")
            elif count < FEW:
                said.append(f"only {count} cases have label {name}: its score will be mostly luck")
        if self.drawn is not None:
            shares = self.drawn.expected(encoded.astype(np.float64), np.ones(len(encoded)))
            pairs = zip(self.names, encoded.mean(axis=0), shares, strict=True)
            told = ", ".join(f"{n} {100 * a:.2g} to {100 * b:.2g}" for n, a, b in pairs)
            said.append(f"batches change how often labels are seen, in %: {told}")
        return said

    def train(self, encoded: Int[np.ndarray, "case label"]) -> Float[np.ndarray, "case label"]:
        """The same as numbers."""
        return encoded.astype(np.float32)

    def truth(
        self, manifest: Manifest, encoded: Int[np.ndarray, "case label"], split: Split
    ) -> Truth:
        """The labels of every case."""
        return plain_truth(manifest, encoded, split)


FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}

FEW = 5
"""Cases of a label under which a person is told."""


def _is_flags(manifest: Manifest, *, one_each: bool) -> bool:
    """Whether the target is columns of 0 and 1: several, or one that does not name classes."""
    if manifest.target.shape[1] > 1:
        return True
    return not one_each and all(text.strip() in FLAGS for text in manifest.target[:, 0].tolist())


def _require_no_gaps(manifest: Manifest) -> None:
    """Raise where a column of 0 and 1 has empty cells: neither means that a case has no label."""
    texts = [text.strip() for text in manifest.target[:, 0].tolist()]
    gaps = [manifest.name(row) for row, text in enumerate(texts) if not text]
    said = set(texts) - {""}
    if gaps and said and said <= FLAGS.keys():
        raise TargetError(
            f'{len(gaps)} cells of column "{manifest.target_columns[0]}" are empty, all others are '
            "0 or 1; cure: 0 or 1 there too, or leave these rows out",
            gaps,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it is, by name; one name may mean "somebody unknown".

    Attributes:
        new: That name; None where everybody is known.
        new_share: The share of queries that is expected to be new; the share of unknown rows if
            None, or .3 where there are none.
    """

    new: str | None = None
    new_share: float | None = None

    @staticmethod
    def measure(manifest: Manifest) -> dict[str, Any]:
        """How many names the column has."""
        return {"names": len(np.unique(manifest.target[:, 0]))}

    def encode(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """The name of every case.

        Raises:
            TargetError: A name is empty or has white space, or there are less than two.
        """
        names = _only_column(manifest)
        column = manifest.target_columns[0]
        if self.new is not None and (why := _no_name(self.new)):
            raise TargetError(f"new=: {why}, and an answer lists names with spaces between them")
        wrong = [(k, _no_name(name)) for k, name in enumerate(names.tolist())]
        culprits = [f"{manifest.name(k)}: {why}" for k, why in wrong if why]
        if culprits:
            raise TargetError(
                f'{len(culprits)} values of column "{column}" are no names: an answer lists names '
                "with spaces between them; cure: correct them",
                culprits,
            )
        known = set(names.tolist()) - {self.new}
        if len(known) < 2:
            raise TargetError(
                f'column "{column}" names {len(known)} individuals; there is nothing to tell apart'
            )
        return names

    def remarks(self, encoded: Shaped[np.ndarray, " case"]) -> list[str]:
        """What the answers depend on."""
        if self.new is None:
            return ["everybody is taken to be known; cure: new=VALUE if some may be new"]
        share = share_of_new(encoded, self.new, self.new_share)
        said = [
            f"{100 * share:.3g} % of queries are taken to be new (new_share={share:.3g}); where "
            f'"{self.new}" stands in the answers depends on it'
        ]
        if self.new not in encoded:
            said.append(f'no case is called "{self.new}"{nearest(self.new, set(encoded.tolist()))}')
        return said

    def train(self, encoded: Shaped[np.ndarray, " case"]) -> Shaped[np.ndarray, " case"]:
        """The names, an empty one for somebody unknown."""
        return np.where(encoded == self.new, "", encoded) if self.new is not None else encoded

    def truth(
        self, manifest: Manifest, encoded: Shaped[np.ndarray, " case"], split: Split
    ) -> Truth:
        """Who a fold may know a query as, weighted to the share of new ones that is expected."""
        plain = plain_truth(manifest, encoded, split)
        if self.new is None:
            return plain
        target = np.where(split.kind == NEW, np.array(self.new), encoded)
        weight = plain.weight.copy()
        share = share_of_new(encoded, self.new, self.new_share)
        every = split.fold != NONE  # last: a fold may have no new query, or none but new ones
        for asked in (*(split.fold == k for k in range(split.folds)), every):
            total = weight[asked].sum()
            for kind, part in ((NEW, share), (KNOWN, 1 - share)):
                rows = asked & (split.kind == kind)
                have = weight[rows].sum()
                weight[rows] *= part * total / have if have > 0 else 1.0
        return replace(plain, target=target, weight=weight)


def _no_name(text: str) -> str:
    """Why a text is no name; empty if it is one."""
    if not text:
        return "the cell is empty"
    return f'"{text}" has white space' if any(letter.isspace() for letter in text) else ""


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask a volume, as wide and high as its slices.

    Attributes:
        lattice: Pixels a cell is wide in which masks are learned and judged.
    """

    lattice: int

    def encode(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """The file of every case's mask; `init` has read them, and who predicts needs none."""
        return _only_column(manifest)

    def remarks(self, encoded: Shaped[np.ndarray, " case"]) -> list[str]:
        """Nothing that is not measured elsewhere."""
        return []

    def train(self, encoded: Shaped[np.ndarray, " case"]) -> Shaped[np.ndarray, " case"]:
        """The files themselves."""
        return encoded

    def truth(
        self, manifest: Manifest, encoded: Shaped[np.ndarray, " case"], split: Split
    ) -> Truth:
        """What lies in every cell of every unit.

        Raises:
            TargetError: A mask is missing, or was harmed since `init`.
        """
        missing = sorted({path for path in encoded.tolist() if not Path(path).is_file()})
        if missing:
            raise TargetError(
                f"{len(missing)} masks are missing, without which nothing is trained or judged; "
                "cure: put them back",
                missing,
            )
        planes = planes_of(manifest.cases(), encoded.tolist(), self.lattice)
        block = None
        if split.window is not None:  # parts of volumes that may lie on top of each other
            block = blocks_of(split.window, self.lattice)
        elif len(np.unique(split.group)) < FEWEST:
            whole = [_window_of(plane.shape, self.lattice) for plane in planes.area]
            block = blocks_of(whole, self.lattice, split.group)
        return replace(plain_truth(manifest, encoded, split), target=replace(planes, block=block))


def _window_of(cells: tuple[int, ...], lattice: int) -> Window:
    """All of a plane of so many cells."""
    return Window(top=0, left=0, height=cells[0] * lattice, width=cells[1] * lattice)
