"""What several members say of who it is, weighed: a choice among individuals, and someone new.

Members score on scales of their own: cosines of two networks differ by tenths where votes of
keypoints differ by hundredths, so that a plain mean hears the loudest. Here a query chooses an
individual with a probability that grows exponentially with a weighted sum of the members' scores,
or someone new, whose sum is a constant. Weights and constant are those of the greatest likelihood
out of fold; the problem is convex, and there is one weight a member.

Reference:
    McFadden, Conditional Logit Analysis of Qualitative Choice Behavior, 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from foveal.combine.blend import aligned, blended
from foveal.manifest import Truth
from foveal.predictions import Predictions

CANDIDATES = 64
"""Best individuals of every query that weights are fitted on, besides the true one."""

PULL = 1.0
"""Strength of the pull of weights towards 0, in queries."""

NEVER = -1e3
"""The sum of someone new where everybody is known: a chance of 0."""

BLOCK_VALUES = 1 << 20
"""Most scores of a member that are held at a time."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """Probabilities of individuals from weighed scores.

    Attributes:
        usual: The score of every member that tells nothing, taken for individuals it does not know.
        weights: Of the members' scores less that.
        new: The sum of someone new.
    """

    usual: tuple[float, ...]
    weights: tuple[float, ...]
    new: float

    def __call__(self, parts: Sequence[Predictions]) -> Predictions:
        """Blend aligned parts, block by block."""
        from scipy.special import softmax

        first = aligned(parts)
        out, width = np.empty(len(first.values), dtype=np.float32), len(first.columns)
        for rows in _walk(first):
            scores = _scores(parts, rows)
            total = np.nan_to_num(scores - self.usual) @ np.asarray(self.weights)
            total[np.isnan(scores).all(axis=2)] = -np.inf
            other = np.full((len(total), 1), self.new)
            chance = softmax(np.hstack([total, other]), axis=1)[:, :width]
            out[rows.start * width : rows.stop * width] = chance.reshape(-1)
        return blended(parts, out)


@dataclass(frozen=True, slots=True)
class ConditionalLogit:
    """One weight a member, by the greatest likelihood of who the queries were.

    Attributes:
        name: On the leaderboard.
        new: The name of someone new; None where everybody is known.
    """

    name: str = "weighted"
    new: str | None = None

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> Weighed:
        """Fit on out-of-fold predictions; the truth of a query is a name, or `new`."""
        from scipy.optimize import minimize

        usual, spread = _scale(parts)
        found = [
            _candidates((_scores(parts, rows) - usual) / spread, truth.target[rows], aligned(parts))
            for rows in _walk(parts[0])
        ]
        scores, is_true = (np.concatenate(part) for part in zip(*found, strict=True))
        is_open = self.new is not None
        told = is_true.any(axis=1) | is_open  # else it could not be chosen
        fitted = minimize(
            _loss,
            np.append(np.ones(len(parts)), 0.0 if is_open else NEVER),
            args=(scores[told], is_true[told], truth.weight[told]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(parts) + [(None, None) if is_open else (NEVER, NEVER)],
        ).x
        weights = tuple((fitted[:-1] / spread).tolist())
        return Weighed(tuple(usual.tolist()), weights, float(fitted[-1]))


def _loss(
    x: Float[np.ndarray, " more"],
    scores: Float[np.ndarray, "query candidate member"],
    is_true: Bool[np.ndarray, "query candidate"],
    weight: Float[np.ndarray, " query"],
) -> tuple[float, Float[np.ndarray, " more"]]:
    """Negative log-likelihood with the pull, and its slope; the last of x is someone new.

    A query whose true individual is no candidate is someone new. A score that is not a number
    belongs to nobody.
    """
    from scipy.special import log_softmax

    weights = x[:-1]
    total = scores @ weights
    log = log_softmax(
        np.hstack([np.where(np.isnan(total), -np.inf, total), np.full((len(total), 1), x[-1])]), 1
    )
    goal = np.hstack([is_true, ~is_true.any(axis=1, keepdims=True)])
    loss = -float(weight @ np.where(goal, log, 0).sum(axis=1))
    over = weight[:, None] * (np.exp(log) - goal)
    slope = np.einsum("qc,qcm->m", over[:, :-1], np.nan_to_num(scores)) + PULL * weights
    return loss + 0.5 * PULL * float(weights @ weights), np.append(slope, over[:, -1].sum())


def _candidates(
    scores: Float[np.ndarray, "query individual member"],
    target: np.ndarray,
    first: Predictions,
) -> tuple[Float[np.ndarray, "query candidate member"], Bool[np.ndarray, "query candidate"]]:
    """Scores of the best individuals by the plain sum and of the true one, and which that is.

    Members that do not know an individual say 0 of it; nobody's individuals are not numbers.
    """
    unknown = np.isnan(scores).all(axis=2)
    scores = np.where(np.expand_dims(unknown, 2), np.nan, np.nan_to_num(scores))
    is_true = (np.array(first.columns, dtype=np.str_) == target[:, None]) & ~unknown
    order = np.where(is_true, -np.inf, np.nan_to_num(-scores.sum(axis=2), nan=np.inf))
    best = np.argpartition(order, min(CANDIDATES, order.shape[1] - 1), axis=1)[:, : CANDIDATES + 1]
    return np.take_along_axis(scores, best[:, :, None], 1), np.take_along_axis(is_true, best, 1)


def _scale(parts: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray]:
    """The mean score of every member, and by how much its scores differ."""
    sums = np.zeros((3, len(parts)))
    for rows in _walk(aligned(parts)):
        scores = _scores(parts, rows).reshape(-1, len(parts))
        powers = (np.isfinite(scores), scores, scores**2)
        sums += np.stack([np.nan_to_num(p).sum(axis=0) for p in powers])
    count, total, square = sums[0].clip(min=1), sums[1], sums[2]
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 1e-12))


def _scores(
    parts: Sequence[Predictions], rows: slice
) -> Float[np.ndarray, "query individual member"]:
    """Scores of every member; not a number where it does not know an individual."""
    blocks = [part.matrix(rows) for part in parts]
    known = [np.where(block.present, block.values, np.nan) for block in blocks]
    return np.stack(known, axis=2).astype(np.float64)


def _walk(first: Predictions) -> list[slice]:
    blocks = list(first.walk(max(1, BLOCK_VALUES // max(len(first.columns), 1))))
    return blocks or [slice(0)]
