"""Ridge regression and trees, each column told by the share of both that serves it.

Lines carry far and trees bend; which of them tells more differs from set to set and from column to
column, so the share is chosen on grouped folds inside the training cases, as the penalty is. The
two may look at different features: a forest over thousands of weak ones would be slow and no
better::

    tensors, notes = fit_mixed(linear, wooden, y, w, group, trees=300, key=job.key)
    mixed(tensors, linear_of_new, wooden_of_new)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foveal.members.forest import forest, walk
from foveal.members.ridge import USUAL_ALPHA, cross_fitted, inner_folds, ridge
from foveal.train.seeds import seed_of

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of ridge, to choose from."""

USUAL_SHARE = 0.5
"""Where nothing can be left out to choose by."""


def fit_mixed(
    linear: Float[np.ndarray, "case feature"],
    wooden: Float[np.ndarray, "case other_feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    group: Int[np.ndarray, " case"],
    *,
    trees: int,
    key: tuple[int, ...],
    ask: Callable[[], None] = lambda: None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit both, and say in notes what was chosen.

    Args:
        linear: What ridge regression looks at.
        wooden: What trees look at.
        y: What is to be told, column by column.
        w: How much every case counts.
        group: What must not be split when settings are chosen.
        trees: Of the forest.
        key: Where all randomness comes from.
        ask: Called before every forest and every regression; may raise.
    """
    ask()
    seed = seed_of(key)
    fold, columns = inner_folds(y, group, seed), y.shape[1]
    alpha, share = np.full(columns, USUAL_ALPHA), np.full(columns, USUAL_SHARE)
    if fold is not None:
        alpha, lines = cross_fitted(linear, y, w, fold)
        woods = np.zeros(y.shape)
        for k in np.unique(fold):
            ask()
            inside, out = fold != k, fold == k
            grown = max(1, trees // 4)
            nodes = forest(wooden[inside], y[inside], w[inside], trees=grown, seed=seed)
            woods[out] = walk(nodes, wooden[out])
        errors = [w @ (s * lines + (1 - s) * woods - y) ** 2 for s in SHARES]
        share = np.array(SHARES)[np.argmin(errors, axis=0)]
    ask()
    nodes = forest(wooden, y, w, trees=trees, seed=seed)
    ask()
    slope, intercept = ridge(linear, y, w, alpha)
    tensors = {"slope": slope, "intercept": intercept, "share": share, **nodes}
    return tensors, {"alpha": alpha.tolist(), "ridge_share": share.tolist()}


def mixed(
    t: Mapping[str, np.ndarray],
    linear: Float[np.ndarray, "case feature"],
    wooden: Float[np.ndarray, "case other_feature"],
) -> Float[np.ndarray, "case column"]:
    """What both together say of cases."""
    share = t["share"]
    return share * (linear @ t["slope"] + t["intercept"]) + (1 - share) * walk(t, wooden)
