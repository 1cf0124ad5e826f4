"""Ridge regression and trees, each column told by the shares of them that serve it.

Lines carry far and trees bend; which of them tells more differs from set to set and from column to
column, so their shares are chosen on grouped folds inside the training cases, as penalties are.
There may be several ridges, each with a look at some of the features, and trees may look at others:
a forest over thousands of weak ones would be slow and no better::

    tensors, notes = fit_mixed(linear, wooden, y, w, group, trees=300, key=job.key)
    mixed(tensors, linear_of_new, wooden_of_new)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foveal.members.forest import forest, walk
from foveal.members.ridge import USUAL_ALPHA, cross_fitted, inner_folds, ridge
from foveal.train.seeds import seed_of

STEPS = 4
"""Of a share: none, a quarter, ... all."""

EVERYTHING = (slice(None),)
"""One ridge, that looks at all features."""


def fit_mixed(
    linear: Float[np.ndarray, "case feature"],
    wooden: Float[np.ndarray, "case other_feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    group: Int[np.ndarray, " case"],
    *,
    trees: int,
    key: tuple[int, ...],
    looks: Sequence[slice] = EVERYTHING,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit all, and say in notes what was chosen.

    Args:
        linear: What ridge regression looks at.
        wooden: What trees look at.
        y: What is to be told, column by column.
        w: How much every case counts.
        group: What must not be split when settings are chosen.
        trees: Of the forest.
        key: Where all randomness comes from.
        looks: The features that each of the ridges looks at.
    """
    seed, count = seed_of(key), y.shape[1]
    fold = inner_folds(y, group, seed)
    if fold is None:  # nothing can be left out to choose by
        alphas = np.full((len(looks), count), USUAL_ALPHA)
        shares = np.repeat([[0.5 / len(looks)]] * len(looks) + [[0.5]], count, axis=1)
    else:
        found = [cross_fitted(linear[:, look], y, w, fold) for look in looks]
        alphas = np.stack([alpha for alpha, _ in found])
        woods = _cross_grown(wooden, y, w, fold, max(1, trees // 4), seed)
        said = np.stack([*(lines for _, lines in found), woods])
        mixtures = _mixtures(len(said))
        errors = [w @ (np.tensordot(mixture, said, axes=1) - y) ** 2 for mixture in mixtures]
        shares = mixtures[np.argmin(errors, axis=0)].T
    slope, intercept = np.zeros((linear.shape[1], count)), np.zeros(count)
    for look, alpha, share in zip(looks, alphas, shares[:-1], strict=True):
        steep, start = ridge(linear[:, look], y, w, alpha)
        slope[look] += share * steep
        intercept += share * start
    nodes = forest(wooden, y, w, trees=trees, seed=seed)
    tensors = {"slope": slope, "intercept": intercept, "wood_share": shares[-1], **nodes}
    return tensors, {"alpha": alphas.tolist(), "shares": shares.tolist()}


def _cross_grown(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
    trees: int,
    seed: int,
) -> Float[np.ndarray, "case column"]:
    """What trees say of cases left out."""
    said = np.zeros(y.shape)
    for k in np.unique(fold):
        inside, out = fold != k, fold == k
        said[out] = walk(forest(x[inside], y[inside], w[inside], trees=trees, seed=seed), x[out])
    return said


def _mixtures(parts: int) -> Float[np.ndarray, "mixture part"]:
    """All shares of so many parts, in `STEPS` steps, that add up to 1."""
    steps = itertools.product(range(STEPS + 1), repeat=parts)
    return np.array([one for one in steps if sum(one) == STEPS]) / STEPS


def mixed(
    t: Mapping[str, np.ndarray],
    linear: Float[np.ndarray, "case feature"],
    wooden: Float[np.ndarray, "case other_feature"],
) -> Float[np.ndarray, "case column"]:
    """What all together say of cases."""
    return linear @ t["slope"] + t["intercept"] + t["wood_share"] * walk(t, wooden)
