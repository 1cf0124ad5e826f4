"""From pictures in a space to names: cosines, the best k, and where "someone new" belongs.

How alike a query and an individual are is the mean cosine to the individual's pictures, or the best
one, or a blend of both. The mean is exact from one vector an individual, so a gallery of any size
costs one product of queries and individuals. Scores lie between 0 and 1: (1 + cosine) / 2.

All goes block by block: nothing as large as queries x pictures is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.decide.newcut import best_new_cut
from foveal.manifest import Text, Truth
from foveal.predictions import Predictions

BLOCK_VALUES = 1 << 22
"""Most scores or cosines that are held at a time."""

TILE = 1 << 10
"""Pictures, and queries, that are compared at a time."""

ROWS = 32
"""Queries whose scores stay in the cache while they are finished."""


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
    queries, gallery = (np.asarray(v, dtype=np.float32) for v in (queries, gallery))
    count = np.bincount(owner, minlength=individuals)
    if nearest < 1:
        out = queries @ (0.5 * (1 - nearest) * _means(gallery, owner, count)).T
    else:
        out = np.zeros((len(queries), individuals), dtype=np.float32)
    if nearest > 0:
        _add_best(out, queries, gallery, owner, count, 0.5 * nearest)
    absent = np.flatnonzero(count == 0)
    for first in range(0, len(out), ROWS):
        some = out[first : first + ROWS]
        some += 0.5
        np.clip(some, 0, 1, out=some)
        some[:, absent] = 0
    return out


def _means(
    gallery: Float[np.ndarray, "picture feature"],
    owner: Int[np.ndarray, " picture"],
    count: Int[np.ndarray, " individual"],
) -> Float[np.ndarray, "individual feature"]:
    """The mean vector of every individual, not at length 1: its cosine is the mean of cosines."""
    from scipy.sparse import csc_array

    share = (1 / count[owner]).astype(np.float32)
    shape = len(count), len(owner)
    return csc_array((share, owner, np.arange(len(owner) + 1)), shape=shape) @ gallery


def _add_best(
    out: Float[np.ndarray, "query individual"],
    queries: Float[np.ndarray, "query feature"],
    gallery: Float[np.ndarray, "picture feature"],
    owner: Int[np.ndarray, " picture"],
    count: Int[np.ndarray, " individual"],
    share: float,
) -> None:
    """Add a share of the best cosine of every individual, in place; one without pictures gets any.

    Some whole individuals at a time, those with the most pictures first: the first picture of each,
    then the second of those that have one, and so on, so that the best are maxima of whole layers.
    """
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(count)
    last = 0
    while last < len(count):
        first, begin = last, ends[last] - count[last]
        last = max(first + 1, int(np.searchsorted(ends, begin + TILE, side="right")))
        pictures, counts = order[begin : ends[last - 1]], count[first:last]
        if not len(pictures):
            continue
        place = np.argsort(np.argsort(-counts, kind="stable"))
        layer = np.arange(len(pictures)) - np.repeat(np.cumsum(counts) - counts, counts)
        vectors = share * gallery[pictures[np.lexsort((np.repeat(place, counts), layer))]]
        widths, layers = np.unique(np.bincount(layer), return_counts=True)
        size = max(1, min(TILE, BLOCK_VALUES // len(pictures)))
        for row in range(0, len(queries), size):
            cosines = vectors @ queries[row : row + size].T
            best = _best_of_layers(cosines, widths[::-1], layers[::-1])
            out[row : row + size, first:last] += np.take(best, place, axis=0, mode="clip").T


def _best_of_layers(
    cosines: Float[np.ndarray, "picture query"],
    widths: Int[np.ndarray, " run"],
    layers: Int[np.ndarray, " run"],
) -> Float[np.ndarray, "individual query"]:
    """The maximum over layers of pictures, each run of them narrower than the last; in place."""
    best, at = cosines[: widths[0]], 0
    for width, deep in zip(widths, layers, strict=True):
        run = cosines[at : at + width * deep].reshape(deep, width, -1)
        np.maximum(best[:width], run.max(axis=0), out=best[:width])
        at += width * deep
    return best


# --- names ---------------------------------------------------------------------------------------


def top(
    values: Float[np.ndarray, "query column"], present: Bool[np.ndarray, "query column"], k: int
) -> tuple[Int[np.ndarray, "query k"], Float[np.ndarray, "query k"]]:
    """The best k columns of every query and their scores, falling; -inf where there are fewer.

    Equal scores go by column, so that the answer does not depend on how the queries are cut.
    """
    falling = np.where(present, -values, np.inf)
    if falling.shape[1] < k:
        falling = np.pad(falling, ((0, 0), (0, k - falling.shape[1])), constant_values=np.inf)
    edge = np.partition(falling, k - 1, axis=1)[:, k - 1 : k]
    kept = falling <= edge
    tied = np.flatnonzero(np.count_nonzero(kept, axis=1) > k)
    if len(tied):
        above, level = falling[tied] < edge[tied], falling[tied] == edge[tied]
        room = k - above.sum(axis=1, keepdims=True)
        kept[tied] = above | (level & (np.cumsum(level, axis=1) <= room))
    column = np.nonzero(kept)[1].reshape(len(kept), k)
    score = -np.take_along_axis(falling, column, axis=1).astype(np.float64)
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
    for rows in predictions.walk():
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
        self, predictions: Predictions, site: Text | None = None
    ) -> Shaped[np.ndarray, "query k"]:
        """The answer of every query, best first; an empty name where there are fewer."""
        names, scores = ranked(predictions, self.k)
        if self.new is None:
            return names
        before = (np.isfinite(scores) & (scores >= self.cut)).sum(axis=1)
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
    """Isotonic regression of "it is someone new" on the best score: it falls.

    Where both occur, no chance is nearer to 0 or 1 than half a query in all it was fitted on.
    """

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
        is_mixed = 0 < is_new.sum() < weight.sum()
        least = 0.5 / (1 + int((truth.weight > 0).sum())) if is_mixed else 0.0
        chances = np.clip(rising, least, 1 - least)
        knots = ends_of_steps(chances)
        return ChanceOfNew(tuple(scores[kept][knots].tolist()), tuple(chances[knots].tolist()))


def ends_of_steps(curve: Float[np.ndarray, " place"]) -> Bool[np.ndarray, " place"]:
    """Where a step begins or ends; what lies between adds nothing to a line through.

    Example:
        >>> ends_of_steps(np.array([0.0, 0.0, 0.0, 0.5, 0.5])).tolist()
        [True, False, True, True, True]
    """
    edge = np.ones(len(curve) + 1, dtype=bool)
    edge[1:-1] = np.diff(curve) != 0
    return edge[1:] | edge[:-1]
