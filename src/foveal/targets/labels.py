"""Labels: any number a case, or one each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.errors import TargetError, nearest
from foveal.manifest import Manifest, Truth
from foveal.split.record import Split
from foveal.table import in_order


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
        return split.truth(manifest, encoded)


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
