"""From pictures in a space to names: cosines, the best k, and where "someone new" belongs.

How alike a query and an individual are is the mean cosine to the individual's pictures, or the best
one, or a blend of both. The mean is exact from one vector an individual, so a gallery of any size
costs one product of queries and individuals. Scores lie between 0 and 1: (1 + cosine) / 2.

All goes block by block: nothing as large as queries x pictures is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.decide.newcut import best_new_cut
from foveal.manifest import Case, Truth
from foveal.predictions import Predictions

BLOCK_VALUES = 1 << 22
"""Most cosines between queries and pictures that are held at a time."""


def unit(vectors: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row feature"]:
    """Every row at length 1; a row of zeros stays."""
    length = np.sqrt(np.einsum("rf,rf->r", vectors, vectors))[:, None]
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32, copy=False)


def likeness(
    queries: Float[np.ndarray, "query feature"],
    gallery: Float[np.ndarray, "picture feature"],
    owner: Int[np.ndarray, " picture"],
    *,
    individuals: int,
    nearest: float = 0.0,
) -> Float[np.ndarray, "query individual"]:
    """How alike every query and every individual are, 0 to 1.

    Args:
        queries: Unit vectors.
        gallery: Unit vectors.
        owner: The individual of every picture, 0 to individuals-1.
        individuals: How many columns; one without a picture gets 0.
        nearest: 0 for the mean over an individual's pictures, 1 for its best picture.
    """
    out = np.zeros((len(queries), individuals), dtype=np.float32)
    count = np.bincount(owner, minlength=individuals)
    if nearest < 1:
        out += (1 - nearest) * (queries @ _means(gallery, owner, count).T)
    if nearest > 0:
        _add_best(out, queries, gallery, owner, count, nearest)
    out += 1
    out *= 0.5
    out[:, count == 0] = 0
    return np.clip(out, 0, 1, out=out)


def _means(
    gallery: Float[np.ndarray, "picture feature"],
    owner: Int[np.ndarray, " picture"],
    count: Int[np.ndarray, " individual"],
) -> Float[np.ndarray, "individual feature"]:
    """The mean vector of every individual, not at length 1: its cosine is the mean of cosines."""
    means = np.zeros((len(count), gallery.shape[1]), dtype=np.float32)
    order = np.argsort(owner, kind="stable")
    seen = np.flatnonzero(count)
    starts = np.concatenate([[0], np.cumsum(count[seen])[:-1]]).astype(np.int64)
    if len(seen):
        means[seen] = np.add.reduceat(gallery[order], starts, axis=0) / count[seen, None]
    return means


def _add_best(
    out: Float[np.ndarray, "query individual"],
    queries: Float[np.ndarray, "query feature"],
    gallery: Float[np.ndarray, "picture feature"],
    owner: Int[np.ndarray, " picture"],
    count: Int[np.ndarray, " individual"],
    share: float,
) -> None:
    """Add a share of the best cosine of every individual, in place."""
    order = np.argsort(owner, kind="stable")
    gallery, seen = gallery[order], np.flatnonzero(count)
    starts = np.concatenate([[0], np.cumsum(count[seen])[:-1]]).astype(np.int64)
    if not len(seen):
        return
    size = max(1, BLOCK_VALUES // len(gallery))
    for first in range(0, len(queries), size):
        cosines = queries[first : first + size] @ gallery.T
        out[first : first + size, seen] += share * np.maximum.reduceat(cosines, starts, axis=1)


# --- names ---------------------------------------------------------------------------------------


def top(
    values: Float[np.ndarray, "query column"], present: Bool[np.ndarray, "query column"], k: int
) -> tuple[Int[np.ndarray, "query k"], Float[np.ndarray, "query k"]]:
    """The best k columns of every query and their scores, falling; -inf where there are fewer.

    Equal scores go by column, so that the answer does not depend on how the queries are cut.
    """
    seen = np.where(present, values, -np.inf).astype(np.float64)
    if seen.shape[1] < k:
        seen = np.pad(seen, ((0, 0), (0, k - seen.shape[1])), constant_values=-np.inf)
    edge = -np.partition(-seen, k - 1, axis=1)[:, k - 1 : k]
    above = seen > edge
    level = (seen == edge) & (np.cumsum(seen == edge, axis=1) <= k - above.sum(1, keepdims=True))
    column = np.nonzero(above | level)[1].reshape(len(seen), k)
    score = np.take_along_axis(seen, column, axis=1)
    order = np.argsort(-score, axis=1, kind="stable")
    return np.take_along_axis(column, order, axis=1), np.take_along_axis(score, order, axis=1)


def ranked(
    predictions: Predictions, k: int
) -> tuple[Shaped[np.ndarray, "query k"], Float[np.ndarray, "query k"]]:
    """The best k names of every query and their scores; an empty name where there are fewer."""
    names = np.array([*predictions.columns, *[""] * k], dtype=np.str_)
    found = [(names[c], s) for c, s in _best_columns(predictions, k)]
    if not found:
        return np.zeros((0, k), dtype=np.str_), np.zeros((0, k))
    return np.concatenate([n for n, _ in found]), np.concatenate([s for _, s in found])


def _best_columns(predictions: Predictions, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    width = len(predictions.columns)
    for rows in predictions.walk(max(1, BLOCK_VALUES // max(width, 1))):
        column, score = top(*predictions.matrix(rows), k)
        yield np.where(np.isfinite(score), column, width), score


@dataclass(frozen=True, slots=True)
class RankedNames:
    """The best k names, "someone new" among them where the scores fall below the cut.

    Attributes:
        k: Names an answer has.
        new: The name of someone new; None where nobody is.
        cut: Names with at least this score come before it.
    """

    k: int
    new: str | None
    cut: float

    def __call__(
        self, predictions: Predictions, cases: Sequence[Case] = ()
    ) -> Shaped[np.ndarray, "query k"]:
        """The answer of every query, best first; an empty name where there are fewer."""
        names, scores = ranked(predictions, self.k)
        if self.new is None:
            return names
        before = (scores >= self.cut).sum(axis=1)
        kind = np.result_type(names.dtype, np.array([self.new]).dtype)
        place = np.arange(self.k)
        shifted = np.concatenate([names[:, :1], names], axis=1)[:, : self.k].astype(kind)
        out = np.where(place < before[:, None], names.astype(kind), shifted)
        return np.where(place == before[:, None], np.array(self.new, dtype=kind), out)


@dataclass(frozen=True, slots=True)
class NewCut:
    """Where "someone new" belongs, by the exact cut for MAP@k on queries with their weights.

    Attributes:
        k: Names an answer has.
        new: The name of someone new; None where everybody is known.
    """

    k: int = 5
    new: str | None = None

    def fit(self, predictions: Predictions, truth: Truth) -> RankedNames:
        """Fit on out-of-fold predictions; the truth of a query is a name, or `new`."""
        if self.new is None:
            return RankedNames(self.k, None, float("-inf"))
        names, scores = ranked(predictions, self.k)
        hits = names == truth.target[:, None]
        rank = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, self.k + 1)
        rank[truth.target == self.new] = 0
        cut, _ = best_new_cut(scores, rank, truth.weight)
        return RankedNames(self.k, self.new, cut)


@dataclass(frozen=True, slots=True)
class ChanceOfNew:
    """The probability that a query is someone new, as steps over its best score."""

    scores: tuple[float, ...]
    chances: tuple[float, ...]

    def __call__(self, predictions: Predictions) -> Float[np.ndarray, " query"]:
        """One probability a query, linear between the steps."""
        best = ranked(predictions, 1)[1][:, 0]
        return np.interp(np.maximum(best, 0), self.scores, self.chances)


@dataclass(frozen=True, slots=True)
class NewProbability:
    """Isotonic regression of "it is someone new" on the best score: it falls."""

    new: str | None = None

    def fit(self, predictions: Predictions, truth: Truth) -> ChanceOfNew:
        """Fit on out-of-fold predictions."""
        from scipy.optimize import isotonic_regression

        best = np.maximum(ranked(predictions, 1)[1][:, 0], 0)
        scores, place = np.unique(best, return_inverse=True)
        weight = np.bincount(place, weights=truth.weight)
        is_new = np.bincount(place, weights=truth.weight * (truth.target == self.new))
        kept = weight > 0
        rising = isotonic_regression(
            is_new[kept] / weight[kept], weights=weight[kept], increasing=False
        ).x
        return ChanceOfNew(tuple(scores[kept].tolist()), tuple(rising.tolist()))
