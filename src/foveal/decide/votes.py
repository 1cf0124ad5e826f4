"""Votes of local features: whom does every part of a query resemble, and how much more than others?

A feature asks for the nearest feature of every individual. The nearest individuals get a vote, as
large as how much nearer they are than the next one; what looks alike everywhere (water, fur, paper)
is near to many and says nothing. An individual with many pictures has no more votes than one with
a single picture that fits as well.

Reference:
    McCann and Lowe, Local Naive Bayes Nearest Neighbor for Image Classification, 2012; for
    individual animals Crall and others, HotSpotter, 2013.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

VOTED = 3
"""Individuals that a feature votes for."""

FEATURES, TILE = 1 << 10, 1 << 12
"""Features of queries, and about how many of the gallery, that are compared at a time."""


def votes(
    queries: Float[np.ndarray, "feature value"],
    query: Int[np.ndarray, " feature"],
    gallery: Float[np.ndarray, "known_feature value"],
    owner: Int[np.ndarray, " known_feature"],
    *,
    count: int,
    individuals: int,
    farthest: float = 2.0,
    ask: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "query individual"]:
    """How much the features of every query speak for every individual, 0 to 1.

    Args:
        queries: Features of all queries.
        query: Which query each belongs to, 0 to count-1.
        gallery: Features of all individuals.
        owner: The individual of each, 0 to individuals-1.
        count: Queries; one without features gives nobody a vote.
        individuals: Columns; one without features gets no vote.
        farthest: The largest squared distance there can be; 2 of unit vectors without negative
            numbers.
        ask: Called before every block of features; may raise.

    Returns:
        The root of the mean vote of a query's features, as a share of the largest one possible.
    """
    out = np.zeros((count, individuals))
    order = np.argsort(owner, kind="stable")
    present, starts = np.unique(owner[order], return_index=True)
    if len(present):
        known = _with_length(gallery[order])
        for first in range(0, len(queries), FEATURES):
            ask()
            some = slice(first, first + FEATURES)
            near = _nearness(queries[some], known, starts)
            column, vote = _voted(near)
            np.add.at(out, (query[some, None], present[column]), vote)
    features = np.bincount(query, minlength=count)[:, None]
    return np.sqrt(np.clip(out / (farthest * np.maximum(features, 1)), 0, 1)).astype(np.float32)


def _with_length(gallery: Float[np.ndarray, "feature value"]) -> Float[np.ndarray, "feature more"]:
    """Doubled, with the negative squared length beside: one product then gives distances."""
    gallery = np.asarray(gallery, dtype=np.float32)
    length = np.einsum("fv,fv->f", gallery, gallery)
    return np.concatenate([2 * gallery, -length[:, None]], axis=1)


def _nearness(
    queries: Float[np.ndarray, "feature value"],
    known: Float[np.ndarray, "known_feature more"],
    starts: Int[np.ndarray, " individual"],
) -> Float[np.ndarray, "feature individual"]:
    """Squared length of a feature less its squared distance to the nearest one of everybody."""
    asked = np.concatenate([queries, np.ones((len(queries), 1))], axis=1).astype(np.float32)
    near = np.empty((len(starts), len(asked)), dtype=np.float32)
    ends = np.append(starts[1:], len(known))
    last = 0
    while last < len(starts):
        first, begin = last, starts[last]
        last = max(first + 1, int(np.searchsorted(ends, begin + TILE, side="right")))
        alike = known[begin : ends[last - 1]] @ asked.T
        np.maximum.reduceat(alike, starts[first:last] - begin, axis=0, out=near[first:last])
    return near.T


def _voted(
    near: Float[np.ndarray, "feature individual"],
) -> tuple[Int[np.ndarray, "feature voted"], Float[np.ndarray, "feature voted"]]:
    """The nearest individuals of every feature, and how much nearer they are than the next."""
    others = min(VOTED, near.shape[1] - 1)
    if not others:
        return np.zeros((len(near), 1), dtype=np.int64), np.zeros((len(near), 1))
    best = np.argpartition(-near, others, axis=1)[:, : others + 1]
    value = np.take_along_axis(near, best, axis=1)
    return best, value - value.min(axis=1, keepdims=True)
