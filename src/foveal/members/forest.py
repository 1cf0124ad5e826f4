"""Extremely random trees as plain arrays: grown by scikit-learn, walked in NumPy.

A forest is the arrays of its nodes, so that a state needs no pickle and says the same for ever::

    nodes = forest(x, y, w, trees=300, seed=0)
    walk(nodes, new)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from foveal.members.ridge import spread

GROWN = 5
"""Trees that are grown at once."""

PAIRS = 1 << 16
"""Of a case and a tree that walk together: memory follows from these, not from all."""


def forest(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, *, trees: int, seed: int
) -> dict[str, np.ndarray]:
    """Extremely random trees for all columns of y at once, as the arrays of their nodes.

    Columns are brought to one spread first: a label that few cases have would otherwise have no
    say in where trees split.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    _, scale = spread(y, w)
    goal = y / scale
    goal = goal.squeeze(axis=1) if y.shape[1] == 1 else goal
    x, parts = x.astype(np.float32), []
    for first in range(0, trees, GROWN):  # scikit-learn's own trees are far larger than these
        dice = np.random.RandomState(np.random.SeedSequence((seed, first)).generate_state(4))
        fitted = ExtraTreesRegressor(
            min(GROWN, trees - first),
            min_samples_leaf=2,
            max_features=0.3,
            random_state=dice,
            n_jobs=1,
        ).fit(x, goal, sample_weight=w)
        part = forest_arrays([one.tree_ for one in fitted.estimators_])
        parts.append({**part, "value": (part["value"] * scale).astype(np.float32)})
    return _joined(parts)


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Several forests as one."""
    starts = np.cumsum([0, *(len(part["left"]) for part in parts[:-1])]).astype(np.int32)
    placed = {
        name: [part[name] + start for part, start in zip(parts, starts, strict=True)]
        for name in ("roots", "left", "right")
    }
    plain = {name: [p[name] for p in parts] for name in ("feature", "threshold", "value")}
    return {name: np.concatenate(arrays) for name, arrays in {**placed, **plain}.items()}


def forest_arrays(trees: Sequence) -> dict[str, np.ndarray]:
    """All nodes of all trees, one after the other; a leaf is its own child."""
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    left, right = [], []
    for start, tree in zip(starts[:-1], trees, strict=True):
        own = np.arange(tree.node_count)
        is_leaf = tree.children_left < 0
        left.append(start + np.where(is_leaf, own, tree.children_left))
        right.append(start + np.where(is_leaf, own, tree.children_right))
    return {
        "roots": starts[:-1].astype(np.int32),
        "left": np.concatenate(left).astype(np.int32),
        "right": np.concatenate(right).astype(np.int32),
        "feature": np.maximum(np.concatenate([t.feature for t in trees]), 0).astype(np.int32),
        "threshold": np.concatenate([t.threshold for t in trees]).astype(np.float64),
        "value": np.concatenate([t.value[:, :, 0] for t in trees]),
    }


def walk(
    nodes: Mapping[str, np.ndarray], x: Float[np.ndarray, "case feature"]
) -> Float[np.ndarray, "case column"]:
    """The mean of what every tree says: few cases walk down many trees at once, many down few."""
    x, roots = np.ascontiguousarray(x, dtype=np.float32), nodes["roots"]
    total = np.zeros((len(x), nodes["value"].shape[1]))
    for start in range(0, len(x), PAIRS):
        block = slice(start, start + PAIRS)
        at_once = max(1, PAIRS // len(x[block]))
        for k in range(0, len(roots), at_once):
            leaves = _leaves(nodes, x[block], roots[k : k + at_once])
            total[block] += nodes["value"][leaves].sum(axis=1, dtype=np.float64)
    return total / len(roots)


def _leaves(
    nodes: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "case feature"],
    roots: Int[np.ndarray, " tree"],
) -> Int[np.ndarray, "case tree"]:
    """Where each case ends in each tree; those that have arrived are left alone."""
    case, place = np.repeat(np.arange(len(x)), len(roots)), np.tile(roots, len(x))
    walking = np.arange(len(place))
    while len(walking):
        at = place[walking]
        goes_left = x[case[walking], nodes["feature"][at]] <= nodes["threshold"][at]
        below = np.where(goes_left, nodes["left"][at], nodes["right"][at])
        goes_on = below != at  # a leaf is its own child
        walking = walking[goes_on]
        place[walking] = below[goes_on]
    return place.reshape(len(x), len(roots))
