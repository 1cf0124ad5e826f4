"""Scores of cases: the one value in which everything with pixels ends.

One layout serves a grade, a row of labels, a row of identities and a mask, because a case's values
are a flat run of float32 with a shape of its own. `columns` names the outputs where they have
names. Each fold may know fewer columns than others (an identity hidden from it); such a column is
*absent* for its cases: it never becomes 0 or NaN, and means run over those who have it::

    oof = Predictions.of(ids, scores, columns=("expected",), fold=folds)
    for name, data in oof.files().items(): (folder / name).write_bytes(data)
    Predictions.open(folder).matrix().present      # which values exist

On disk: `values.npy` (memory-mapped, flat) and `index.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from foveal.errors import ShapeError, StudyError

FORMAT = 1

BLOCK_VALUES = 1 << 17
"""Scores that are looked at together."""

NO_FOLD = -1
"""The fold of a case that no fold model was kept from: a new case."""


class Block(NamedTuple):
    """Some cases as a matrix; a value counts only where `present`."""

    values: Float[np.ndarray, "case column"]
    present: Bool[np.ndarray, "case column"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Scores by case id, with what they cost.

    Attributes:
        ids: Cases, in the order of `values`.
        values: All values, flat.
        shapes: The shape of each case's values.
        columns: Names of the outputs; empty where they have none (masks).
        fold: The fold whose model made each case's scores, or `NO_FOLD`.
        known: Per fold, the columns that existed for it; a fold that is not listed knows all.
        seconds: Measured time a case took.
        peak_bytes: Measured memory a case took.
    """

    ids: tuple[str, ...]
    values: Float[np.ndarray, " value"]
    shapes: tuple[tuple[int, ...], ...]
    columns: tuple[str, ...]
    fold: Int[np.ndarray, " case"]
    seconds: Float[np.ndarray, " case"]
    peak_bytes: Float[np.ndarray, " case"]
    known: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    _has: dict[int, Bool[np.ndarray, " column"]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.ids)
        lengths = (len(self.shapes), len(self.fold), len(self.seconds), len(self.peak_bytes))
        if any(length != n for length in lengths):
            raise ShapeError(f"{n} ids, but shapes, folds, seconds and bytes of {lengths}")
        if len(set(self.ids)) != n:
            raise ShapeError("an id occurs twice in these predictions")
        wanted = int(self._offsets()[-1])
        if len(self.values) != wanted:
            raise ShapeError(f"{len(self.values)} values for shapes that hold {wanted}")
        has = {fold: self._columns_in(set(names)) for fold, names in self.known.items()}
        object.__setattr__(self, "_has", has)

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(
        ids: Sequence[str],
        values: Float[np.ndarray, "case column"],
        *,
        columns: Sequence[str],
        fold: Int[np.ndarray, " case"] | None = None,
        known: Mapping[int, tuple[str, ...]] | None = None,
        seconds: float = 0.0,
        peak_bytes: float = 0.0,
    ) -> Predictions:
        """Predictions whose cases all have the same named outputs.

        Args:
            ids: One name a case.
            values: Their scores.
            columns: Names of the outputs.
            fold: The fold whose model scored each case; none for new cases.
            known: Per fold, the columns that existed for it.
            seconds: Time one case took.
            peak_bytes: Memory one case took.
        """
        n, width = values.shape
        if width != len(columns):
            raise ShapeError(f"{width} values a case for {len(columns)} columns")
        return Predictions(
            ids=tuple(ids),
            values=np.ascontiguousarray(values, dtype=np.float32).reshape(-1),
            shapes=((width,),) * n,
            columns=tuple(columns),
            fold=np.full(n, NO_FOLD) if fold is None else np.asarray(fold, dtype=np.int64),
            known=dict(known or {}),
            seconds=np.full(n, float(seconds)),
            peak_bytes=np.full(n, float(peak_bytes)),
        )

    def _columns_in(self, names: Set[str]) -> Bool[np.ndarray, " column"]:
        return np.fromiter((c in names for c in self.columns), bool, len(self.columns))

    def _offsets(self) -> Int[np.ndarray, " edge"]:
        sizes = [math.prod(shape) for shape in self.shapes]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def matrix(self, rows: slice = slice(None)) -> Block:
        """Cases with named outputs as a matrix, absent values marked.

        Raises:
            ShapeError: The outputs have no names, as those of masks.
        """
        if not self.columns:
            raise ShapeError("these predictions have no named columns; use `arrays`")
        ids = range(*rows.indices(len(self)))
        start, stop = (ids[0], ids[-1] + 1) if ids else (0, 0)
        width = len(self.columns)
        values = np.asarray(self.values[start * width : stop * width]).reshape(-1, width)
        present = np.ones(values.shape, dtype=bool)
        for fold, has in self._has.items():
            present[self.fold[start:stop] == fold] = has
        return Block(values, present)

    def not_numbers(self) -> list[str]:
        """Cases with a score that is no finite number, which a rule would take for anything."""
        return [name for name, values in self.arrays() if not np.isfinite(values).all()]

    def walk(self, values: int = BLOCK_VALUES) -> Iterator[slice]:
        """Consecutive cases of about so many named outputs in all, at least one case at a time.

        So nobody needs the whole array at once, and what is done with a block stays in the cache.
        """
        size = max(1, values // max(len(self.columns), 1))
        return (slice(k, min(k + size, len(self))) for k in range(0, len(self), size))

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each case's id and its values in their own shape."""
        offsets = self._offsets()
        for k, (name, shape) in enumerate(zip(self.ids, self.shapes, strict=True)):
            yield name, self.values[offsets[k] : offsets[k + 1]].reshape(shape)

    def take(self, ids: Sequence[str]) -> Predictions:
        """The same scores for some cases, aligned by id.

        Raises:
            ShapeError: A case has no prediction here.
        """
        place = {name: k for k, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in place]
        if missing:
            raise ShapeError(
                f'{len(missing)} cases have no prediction, the first is "{missing[0]}"'
            )
        rows = np.array([place[name] for name in ids], dtype=np.int64)
        offsets = self._offsets()
        runs = [self.values[offsets[r] : offsets[r + 1]] for r in rows]
        return replace(
            self,
            ids=tuple(ids),
            values=np.concatenate(runs) if runs else self.values[:0],
            shapes=tuple(self.shapes[r] for r in rows),
            fold=self.fold[rows],
            seconds=self.seconds[rows],
            peak_bytes=self.peak_bytes[rows],
        )

    def files(self) -> dict[str, bytes]:
        """The files of these predictions, by name."""
        from io import BytesIO

        buffer = BytesIO()
        np.save(buffer, np.asarray(self.values, dtype=np.float32))
        offsets = self._offsets()
        index = {
            "format": FORMAT,
            "columns": list(self.columns),
            "known": {str(k): list(v) for k, v in sorted(self.known.items())},
            "cases": {
                name: {
                    "offset": int(offsets[k]),
                    "shape": list(self.shapes[k]),
                    "fold": int(self.fold[k]),
                    "seconds": float(self.seconds[k]),
                    "peak_bytes": float(self.peak_bytes[k]),
                }
                for k, name in enumerate(self.ids)
            },
        }
        return {
            "values.npy": buffer.getvalue(),
            "index.json": json.dumps(index, ensure_ascii=False).encode(),
        }

    @staticmethod
    def open(folder: Path, prefix: str = "") -> Predictions:
        """Predictions of a folder, their values memory-mapped.

        Args:
            folder: Where the files of `files` were written.
            prefix: Put before their names.

        Raises:
            StudyError: The folder holds none, or those of another format.
        """
        try:
            index = json.loads((folder / f"{prefix}index.json").read_text(encoding="utf-8"))
            values = np.load(folder / f"{prefix}values.npy", mmap_mode="r", allow_pickle=False)
            found, cases = index["format"], index["cases"]
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise StudyError(f"no predictions can be read from {folder}: {error}") from None
        if found != FORMAT:
            raise StudyError(f"{folder} holds predictions of format {found}, not {FORMAT}")
        entries = list(cases.values())
        return Predictions(
            ids=tuple(cases),
            values=values,
            shapes=tuple(tuple(e["shape"]) for e in entries),
            columns=tuple(index["columns"]),
            fold=np.array([e["fold"] for e in entries], dtype=np.int64),
            known={int(k): tuple(v) for k, v in index["known"].items()},
            seconds=np.array([e["seconds"] for e in entries], dtype=np.float64),
            peak_bytes=np.array([e["peak_bytes"] for e in entries], dtype=np.float64),
        )


def join(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different cases as one, for example the folds of a member.

    Raises:
        ShapeError: The parts name different columns, or share a case.
    """
    first = parts[0]
    if any(p.columns != first.columns for p in parts):
        raise ShapeError("these predictions name different columns")
    known: dict[int, tuple[str, ...]] = {}
    for fold, names in (item for p in parts for item in p.known.items()):
        if known.setdefault(fold, names) != names:
            raise ShapeError(f"two parts know other columns for fold {fold}")
    return Predictions(
        ids=tuple(name for p in parts for name in p.ids),
        values=np.concatenate([np.asarray(p.values) for p in parts]),
        shapes=tuple(shape for p in parts for shape in p.shapes),
        columns=first.columns,
        fold=np.concatenate([p.fold for p in parts]),
        known=known,
        seconds=np.concatenate([p.seconds for p in parts]),
        peak_bytes=np.concatenate([p.peak_bytes for p in parts]),
    )
