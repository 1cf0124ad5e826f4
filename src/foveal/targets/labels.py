"""Labels: any number a case, or one each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.errors import TargetError, listed, nearest
from foveal.manifest import Manifest, Truth
from foveal.split.record import Split
from foveal.table import MISSING, in_order


@runtime_checkable
class Shows(Protocol):
    """A way to draw cases that knows how often each label will be seen."""

    def expected(self, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The share of draws that show each label."""
        ...


@dataclass(frozen=True, slots=True)
class Labels:
    """Any number of labels a case, from 0/1 columns or from words with spaces between them.

    Where every case has exactly one, a whole cell is its name, spaces and all.

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
        """The names of the labels: of the columns, or in the cells, numbers in their order.

        Args:
            manifest: The cases.
            one_each: Whether every case has exactly one, so that a single column names classes.

        Raises:
            TargetError: Cells are empty among 0 and 1 or say that nothing is known, something else
                than spaces stands between labels, a class is written in two ways, or cells name
                several.
        """
        if _is_flags(manifest, one_each=one_each):
            return {"labels": list(manifest.target_columns)}
        _require_no_gaps(manifest)
        _require_known(manifest, one_each=one_each)
        texts = manifest.target[:, 0].tolist()
        if one_each:
            names = {text.strip() for text in texts} - {""}
            _require_one_spelling(names, manifest.target_columns[0])
            _require_single(names, manifest)
        else:
            names = {word for text in texts for word in text.split()}
            _require_spaces(names, manifest)
        return {"labels": sorted(names, key=in_order), "words": True}

    def encode(self, manifest: Manifest) -> Int[np.ndarray, "case label"]:
        """0 or 1 for every label of every case.

        Raises:
            TargetError: A cell is neither 0 nor 1, a word is no label, a label's name has white
                space, or there is nothing to learn.
        """
        is_list = not self.one_each and not self._has_flags(manifest)
        spaced = [n for n in self.names if not n or (is_list and _has_space(n))]
        if spaced:
            raise TargetError(
                f"{len(spaced)} labels have white space in their names, and labels are listed with "
                "spaces between them; cure: other names, such as red_cell",
                [f'"{name}"' for name in spaced],
            )
        _require_own_columns(self.names)
        has = self._flags(manifest) if self._has_flags(manifest) else self._words(manifest)
        counted = has[manifest.weight > 0]
        if len(counted) and not np.ptp(counted, axis=0).any():
            column = ",".join(manifest.target_columns)
            which = "all cases" if len(counted) == len(has) else "all cases that count"
            what = (
                "no label" if not counted.any() else "all labels" if counted.all() else "the same"
            )
            raise TargetError(
                f"{which} have {what} in {column}; there is nothing to learn; cure: another "
                "--target"
            )
        odd = (has.sum(axis=1) != 1) & self.one_each
        if odd.any():
            raise TargetError(
                f"{odd.sum()} cases have no label or several, {ONE_EACH}",
                [manifest.name(row) for row in np.flatnonzero(odd).tolist()],
            )
        return has

    def names_of(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """Every case's labels as words, whatever else its cells hold."""
        if self._has_flags(manifest):
            own = [
                [n for n, t in zip(self.names, row, strict=True) if FLAGS.get(t.strip())]
                for row in manifest.target.tolist()
            ]
        else:
            own = [sorted(self._own(text)) for text in manifest.target[:, 0].tolist()]
        words = ([joined_up(name) for name in names] for names in own)
        return np.array([" ".join(names) for names in words], dtype=np.str_)

    def _own(self, text: str) -> set[str]:
        """The labels that a cell names."""
        return {text.strip()} - {""} if self.one_each else set(text.split())

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
            raise TargetError(
                f"{len(culprits)} cells are neither 0 nor 1; cure: correct them, or one --target "
                "column of words",
                culprits,
            )
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
        sets = [self._own(text) for text in manifest.target[:, 0].tolist()]
        unknown = [
            f"{manifest.name(row)}: {word}{nearest(word, self.names)}"
            for row, own in enumerate(sets)
            for word in sorted(own - set(self.names))
        ]
        if unknown:
            raise TargetError(f"{len(unknown)} words are no labels of this study", unknown)
        has = [[name in own for name in self.names] for own in sets]
        return np.array(has, dtype=np.int64).reshape(len(sets), len(self.names))

    def remarks(
        self, encoded: Int[np.ndarray, "case label"], weight: Float[np.ndarray, " case"]
    ) -> list[str]:
        """Labels that say nothing, or little, and what the batches make of all."""
        encoded, weight = encoded[weight > 0], weight[weight > 0]
        counts = dict(zip(self.names, encoded.sum(axis=0).tolist(), strict=True))
        every = [name for name, count in counts.items() if count == len(encoded)]
        nobody = [name for name, count in counts.items() if not count]
        few = [
            f"{name} ({count})"
            for name, count in counts.items()
            if 0 < count < FEW and count < len(encoded)
        ]
        said = [
            f"{start} {listed(names)}{end}"
            for start, names, end in (
                ("upper and lower case alone tell labels apart:", _alike(self.names), ""),
                ("every case has label", every, ""),
                ("no case has label", nobody, ""),
                (f"fewer than {FEW} cases have label", few, ": its score will be mostly luck"),
            )
            if names
        ]
        if self.drawn is not None:
            shares = self.drawn.expected(encoded.astype(np.float64), weight)
            pairs = zip(self.names, weight @ encoded / weight.sum(), shares, strict=True)
            told = [f"{n} {100 * a:.3g} to {100 * b:.3g}" for n, a, b in pairs]
            said.append(f"batches change how often labels are seen, in %: {listed(told)}")
        return said

    def train(self, encoded: Int[np.ndarray, "case label"]) -> Float[np.ndarray, "case label"]:
        """The same as numbers."""
        return encoded.astype(np.float32)

    def truth(
        self, manifest: Manifest, encoded: Int[np.ndarray, "case label"], split: Split
    ) -> Truth:
        """The labels of every case."""
        return split.truth(manifest, encoded)


def _alike(names: Sequence[str]) -> list[str]:
    """Those that are one name but for upper and lower case."""
    folded = [name.casefold() for name in names]
    counts = Counter(folded)
    return [name for name, own in zip(names, folded, strict=True) if counts[own] > 1]


FLAGS = {
    **dict.fromkeys(("0", "0.0", "False", "false", "FALSE"), 0),
    **dict.fromkeys(("1", "1.0", "True", "true", "TRUE"), 1),
}
"""What a cell of a column of 0 and 1 may hold."""

FEW = 5
"""Cases of a label under which a person is told."""

ONE_EACH = (
    "where each has one; cure: correct them, or a recipe for any number of labels where several "
    "are meant"
)

SEPARATORS = "|;,["
"""What some tables have between labels, or before a list of them."""

DOUBTFUL = re.compile(r"[/+&:-]")
"""What may stand between labels, and in a name as well."""

BETWEEN = re.compile(r"[|;,\[\]]")

WHOLE = re.compile(r"(\d+)\.0+")
"""A whole number, written with a point."""


def _is_flags(manifest: Manifest, *, one_each: bool) -> bool:
    """Whether the target is columns of 0 and 1: several, or one that does not name classes."""
    if manifest.target.shape[1] > 1:
        return True
    return not one_each and all(text.strip() in FLAGS for text in manifest.target[:, 0].tolist())


def _require_no_gaps(manifest: Manifest) -> None:
    """Raise where a column of 0 and 1 has empty cells: neither means that a case has no label."""
    texts = [text.strip() for text in manifest.target[:, 0].tolist()]
    nothing = {"", *MISSING}
    gaps = [manifest.name(row) for row, text in enumerate(texts) if text in nothing]
    said = set(texts) - nothing
    if gaps and said and said <= FLAGS.keys():
        raise TargetError(
            f'{len(gaps)} cells of column "{manifest.target_columns[0]}" are empty or missing '
            "(such as NA), all others are 0 or 1; cure: 0 or 1 there too, or leave these rows out",
            gaps,
        )


def _require_known(manifest: Manifest, *, one_each: bool) -> None:
    """Raise where a cell is a word for what is not known, which would be learned as a name."""
    texts = [text.strip() for text in manifest.target[:, 0].tolist()]
    rows = [row for row, text in enumerate(texts) if text in MISSING]
    if rows:
        none = "" if one_each else "an empty cell where a case has no label, "
        raise TargetError(
            f'{len(rows)} cells of column "{manifest.target_columns[0]}" say that nothing is known '
            f"(such as NA or nan); cure: {none}leave these rows out, or another word where it is "
            "a name",
            [f"{manifest.name(row)}: {texts[row]}" for row in rows],
        )


def _has_space(name: str) -> bool:
    return any(letter.isspace() for letter in name)


def _require_own_columns(names: Sequence[str]) -> None:
    """Raise where an answer or a list of what is out of fold would have a column or name twice."""
    taken = {f"{name}_p": name for name in names}
    twice = [f'"{n}" is the column of the probability of "{taken[n]}"' for n in names if n in taken]
    joined = [joined_up(name) for name in names]
    twice += [f'"{n}" is as "{j}"' for n, j in zip(names, joined, strict=True) if n != j in names]
    if twice:
        raise TargetError(
            f"{len(twice)} labels have names that answers have for something else; "
            "cure: other names",
            twice,
        )


def joined_up(name: str) -> str:
    """A name as one word."""
    return "_".join(name.split())


def _require_spaces(words: set[str], manifest: Manifest) -> None:
    """Raise where something else than spaces stands between labels, and would be learned with them.

    Splitting there leaves fewer names then, as those of a list recur in others.
    """
    names = {part.strip("'\"") for word in words for part in BETWEEN.split(word)} - {""}
    texts = manifest.target[:, 0].tolist()
    counts = {mark: sum(mark in text for text in texts) for mark in SEPARATORS}
    mark = max(counts, key=lambda mark: counts[mark])
    if not counts[mark] or len(names) >= len(words):
        mark, names = _doubtful(words, texts)
    if mark:
        raise TargetError(
            f"labels are separated by spaces; the cells of column "
            f"\"{manifest.target_columns[0]}\" seem to use '{mark}' ({len(words)} words, and "
            f"{len(names)} if split there); cure: spaces in its place, or '_' where it belongs to "
            "a name",
            [f"{manifest.name(k)}: {text}" for k, text in enumerate(texts) if mark in text],
        )


def _doubtful(words: set[str], texts: Sequence[str]) -> tuple[str, set[str]]:
    """A mark that may belong to a name but here stands between labels, and these; "" for none.

    It stands alone, and never in a cell of its own, or between words that are labels without it.
    """
    for mark in sorted(words & {"/", "+", "&", ":", "-", "and"}):
        if not any(text.split() == [mark] for text in texts):
            return mark, words - {mark}
    for word in sorted(words):
        parts = [part for part in DOUBTFUL.split(word) if part]
        if len(parts) > 1 and words.issuperset(parts):
            return DOUBTFUL.findall(word)[0], {p for w in words for p in DOUBTFUL.split(w)} - {""}
    return "", set()


def _require_one_spelling(names: set[str], column: str) -> None:
    """Raise where a class has two names: a table joined of two may hold both 2 and 2.0.

    So are "red cell" and the same with two spaces.
    """
    pairs = [(whole[1], name) for name in names if (whole := WHOLE.fullmatch(name))]
    pairs += [(plain, name) for name in names if (plain := " ".join(name.split())) != name]
    twice = [f'"{name}" is "{short}"' for short, name in sorted(pairs) if short in names]
    if twice:
        raise TargetError(
            f'{len(twice)} classes of column "{column}" are written in two ways; cure: one of them',
            twice,
        )


def _require_single(names: set[str], manifest: Manifest) -> None:
    """Raise where cells that should name a class seem to name several, with spaces between them.

    Classes recur in others then: all words of one are classes, or there are fewer words than names
    and some change their place, as those of "dark red" and "light red" do not.
    """
    words = {name: {*name.split()} for name in names}
    recurring = [own for own in words.values() if len(own) > 1 and own & names]
    places = {(word, k) for name in names for k, word in enumerate(reversed(name.split()))}
    known = {word for word, _ in places}
    is_list = len(known) < min(len(names), len(places))
    if any(is_list or own <= names for own in recurring):
        cells = [text.strip() for text in manifest.target[:, 0].tolist()]
        several = [k for k, cell in enumerate(cells) if len(words.get(cell, ())) > 1]
        raise TargetError(
            f"{len(several)} cases seem to have several labels, {ONE_EACH}; '_' in place of spaces "
            "that belong to a name",
            [f"{manifest.name(k)}: {cells[k]}" for k in several],
        )
