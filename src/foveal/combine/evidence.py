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
from jaxtyping import Bool, Float, Int

from foveal.combine.blend import aligned, blended
from foveal.manifest import Truth
from foveal.predictions import Predictions

CANDIDATES = 64
"""Best individuals of every query that weights are fitted on, besides the true one."""

PULL = 1.0
"""Strength of the pull of weights towards 0, in queries."""

NOBODY = -1
"""The place of someone new among individuals."""

NEVER = -1e3
"""The sum of someone new where everybody is known: a chance of 0."""


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
        for rows in first.walk():
            total = _total(parts, rows, self.usual, self.weights)
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
        place = {name: k for k, name in enumerate(aligned(parts).columns)}
        true = np.array([place.get(name, NOBODY) for name in truth.target.tolist()], dtype=int)
        blocks = list(parts[0].walk()) or [slice(0)]
        found = [_candidates(parts, rows, true[rows], usual, spread) for rows in blocks]
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
    parts: Sequence[Predictions],
    rows: slice,
    true: Int[np.ndarray, " query"],
    usual: Float[np.ndarray, " member"],
    spread: Float[np.ndarray, " member"],
) -> tuple[Float[np.ndarray, "query candidate member"], Bool[np.ndarray, "query candidate"]]:
    """Scores of the best individuals by the plain sum and of the true one, and which that is.

    Members that do not know an individual say 0 of it; nobody's individuals are not numbers.
    """
    total = _total(parts, rows, usual, 1 / spread)
    unknown = np.isneginf(total)
    query = np.arange(len(total))
    told = (true != NOBODY) & ~unknown[query, true]
    total[query[told], true[told]] = np.inf
    last = min(CANDIDATES, total.shape[1] - 1)
    best = np.argpartition(-total, last, axis=1)[:, : last + 1]
    scores = np.zeros((*best.shape, len(parts)))
    for k, part in enumerate(parts):
        values, present = (np.take_along_axis(m, best, axis=1) for m in part.matrix(rows))
        scores[..., k] = np.where(present, (values.astype(np.float64) - usual[k]) / spread[k], 0)
    scores[np.take_along_axis(unknown, best, axis=1)] = np.nan
    return scores, told[:, None] & (best == true[:, None])


def _scale(parts: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray]:
    """The mean score of every member, and by how much its scores differ."""
    sums = np.zeros((3, len(parts)))
    for rows in aligned(parts).walk():
        for k, part in enumerate(parts):
            block = part.matrix(rows)
            values = np.where(block.present, block.values, 0).astype(np.float64).ravel()
            sums[:, k] += np.count_nonzero(block.present), values.sum(), np.square(values).sum()
    count, total, square = sums[0].clip(min=1), sums[1], sums[2]
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 1e-12))


def _total(
    parts: Sequence[Predictions],
    rows: slice,
    usual: Sequence[float] | Float[np.ndarray, " member"],
    weights: Sequence[float] | Float[np.ndarray, " member"],
) -> Float[np.ndarray, "query individual"]:
    """Weighed sums over the members that know an individual; minus infinity where none does."""
    blocks = [part.matrix(rows) for part in parts]
    total = np.zeros(blocks[0].values.shape)
    for block, mean, weight in zip(blocks, usual, weights, strict=True):
        over = np.subtract(block.values, mean, dtype=np.float64)
        over *= weight
        total += np.where(block.present, over, 0)
    total[~np.logical_or.reduce([block.present for block in blocks])] = -np.inf
    return total
