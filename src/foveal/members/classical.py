"""A member without a network: picture features into ridge regression and extremely random trees.

The floor that a network must pass, and on a few hundred pictures hard to beat. Its state is plain
arrays: a forest is the arrays of its nodes, walked in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.manifest import Case
from foveal.members.pictures import Prepared, all_readable, readable, score_each
from foveal.members.ridge import (
    USUAL_ALPHA,
    Learns,
    cross_fitted,
    inner_folds,
    ridge,
    spread,
    standardised,
)
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classical:
    """Features, ridge and trees; their penalty and shares chosen inside the training cases.

    Attributes:
        name: Of the member.
        features: From a case to numbers.
        trees: Of the forest.
        learns: What is told from them.
    """

    kind: ClassVar[str] = "classical"

    features: Prepared
    name: str = "floor"
    trees: int = 300
    learns: Learns

    def fit(self, job: Job) -> State:
        """Learn from the training rows of a job."""
        table = self.features(job.cases, job.resources)
        all_readable(job, table)
        rows = job.counted
        raw = np.stack([table(row) for row in rows.tolist()])
        y = self.learns.goal(job.target[rows])
        w, group = job.weight[rows], job.group[rows]
        seed = int(np.random.SeedSequence(job.key).generate_state(1)[0] % 2**31)
        centre, scale = spread(raw, w)
        x = standardised(raw, centre, scale)
        alpha, share = self._chosen(x, y, w, group, seed)
        nodes = forest(x, y, w, trees=self.trees, seed=seed)
        slope, intercept = ridge(x, y, w, alpha)
        job.report({"done": 1.0})
        tensors = {
            "centre": centre,
            "scale": scale,
            "slope": slope,
            "intercept": intercept,
            "share": share,
            **nodes,
        }
        return State(tensors, {"alpha": alpha.tolist(), "ridge_share": share.tolist()})

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        table = self.features(cases, resources)
        rows = readable(cases, rows, resources, table)
        raw = [table(row) for row in rows.tolist()]
        return score_each(
            states,
            lambda state: np.clip(evaluate(state, np.stack(raw)), *self.learns.limits),
            [cases[row].id for row in rows.tolist()],
            columns=self.learns.columns,
            reading=self.features.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Any features and any number of trees can be built."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the features are shared by all folds."""
        return 2.0 + cases * self.trees * 4e-5

    def _chosen(
        self, x: np.ndarray, y: np.ndarray, w: np.ndarray, group: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every column's ridge penalty and share of ridge, by grouped folds of the cases."""
        fold, columns = inner_folds(y, group, seed), y.shape[1]
        if fold is None:
            return np.full(columns, USUAL_ALPHA), np.full(columns, 0.5)
        alpha, linear = cross_fitted(x, y, w, fold)
        wooden = np.zeros(y.shape)
        for k in np.unique(fold):
            inside, out = fold != k, fold == k
            nodes = forest(
                x[inside], y[inside], w[inside], trees=max(1, self.trees // 4), seed=seed
            )
            wooden[out] = walk(nodes, x[out])
        mixed = [w @ (s * linear + (1 - s) * wooden - y) ** 2 for s in SHARES]
        return alpha, np.array(SHARES)[np.argmin(mixed, axis=0)]


def evaluate(
    state: State, x: Float[np.ndarray, "case feature"]
) -> Float[np.ndarray, "case column"]:
    """Scores of raw features by a fitted state."""
    t = state.tensors
    x, share = standardised(x, t["centre"], t["scale"]), t["share"]
    return share * (x @ t["slope"] + t["intercept"]) + (1 - share) * walk(t, x)


def forest(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, *, trees: int, seed: int
) -> dict[str, np.ndarray]:
    """Extremely random trees for all columns of y at once, as the arrays of their nodes.

    Columns are brought to one spread first: a label that few cases have would otherwise have no
    say in where trees split.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    scale = np.maximum(y.std(axis=0), LEAST_SPREAD)
    goal = y / scale
    fitted = ExtraTreesRegressor(
        trees, min_samples_leaf=2, max_features=0.3, random_state=seed, n_jobs=1
    ).fit(x.astype(np.float32), goal.squeeze(axis=1) if y.shape[1] == 1 else goal, sample_weight=w)
    nodes = forest_arrays([one.tree_ for one in fitted.estimators_])
    return {**nodes, "value": (nodes["value"] * scale).astype(np.float32)}


LEAST_SPREAD = 1e-3
"""Of a column to be learned; one that as good as never changes stays quiet."""


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
        "value": np.concatenate([t.value[:, :, 0] for t in trees]).astype(np.float64),
    }


PAIRS = 1 << 16
"""Of a case and a tree that walk together: memory follows from these, not from all."""


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
