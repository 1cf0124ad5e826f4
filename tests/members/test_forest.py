from itertools import pairwise

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import average_precision_score

from foveal.members.forest import forest, forest_arrays, walk


def table(
    n: int = 120, width: int = 20, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, two columns to be told from them, weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    y = np.stack([x[:, 0] * 2 + np.sin(3 * x[:, 1]), x[:, 2] > 1], axis=1)
    return x, y + rng.normal(0, 0.1, y.shape), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_walked_forest_equals_scikit_learn(columns: int) -> None:
    x, y, w = table()
    y = y[:, 0] if columns == 1 else y
    forest = ExtraTreesRegressor(30, min_samples_leaf=2, random_state=0).fit(
        x.astype(np.float32), y, sample_weight=w
    )
    nodes = forest_arrays([one.tree_ for one in forest.estimators_])
    fresh = np.random.default_rng(1).normal(size=(500, 20)).astype(np.float32)
    theirs = forest.predict(fresh).reshape(500, columns)
    assert walk(nodes, fresh) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 7, 49, 50, 51, 120, 249])
def test_cases_and_trees_walk_in_blocks_as_they_walk_together(
    monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    nodes = forest(x, y, np.ones(50), trees=5, seed=0)
    whole = walk(nodes, x)
    assert whole.shape == (50, 2)
    monkeypatch.setattr("foveal.members.forest.PAIRS", pairs)
    np.testing.assert_array_equal(walk(nodes, x), whole)
    assert walk(nodes, x[:0]).shape == (0, 2)


def test_a_rare_label_has_as_much_say_as_frequent_ones() -> None:
    """Without that trees split for what most cases differ in."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1800, 30))
    strength = x.reshape(1800, 10, 3).sum(axis=2) + rng.normal(size=(1800, 10))
    share = np.array([0.6] * 3 + [0.96] * 7)
    y = np.stack([s > np.quantile(s, q) for s, q in zip(strength.T, share, strict=True)], axis=1)
    y = y.astype(float)
    seen, fresh = slice(900), slice(900, None)
    nodes = forest(x[seen], y[seen], np.ones(900), trees=40, seed=0)
    plain = ExtraTreesRegressor(40, min_samples_leaf=2, max_features=0.3, random_state=0)
    theirs = plain.fit(x[seen], y[seen]).predict(x[fresh])
    found, alike = (
        np.mean([average_precision_score(y[fresh, k], said[:, k]) for k in range(3, 10)])
        for said in (walk(nodes, x[fresh]), theirs)
    )
    assert found > alike + 0.05


@pytest.mark.parametrize("trees", [3, 5, 13])
def test_trees_that_are_grown_in_parts_are_all_there_and_all_different(trees: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    nodes = forest(x, y, np.ones(60), trees=trees, seed=0)
    roots = nodes["roots"].tolist()
    assert len(roots) == trees
    edges = [*roots, len(nodes["left"])]
    for start, stop in pairwise(edges):
        for name in ("left", "right"):
            assert ((start <= nodes[name][start:stop]) & (nodes[name][start:stop] < stop)).all()
    marks = {nodes["threshold"][root] for root in roots}
    assert len(marks) >= trees - 2  # a few never split
    alone = [walk({**nodes, "roots": nodes["roots"][k : k + 1]}, x) for k in range(trees)]
    np.testing.assert_allclose(walk(nodes, x), np.mean(alone, axis=0), atol=1e-12)


def test_one_that_never_changes_stays_as_it_is() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = np.stack([x[:, 0], np.full(60, 0.25)], axis=1)
    said = walk(forest(x, y, np.ones(60), trees=5, seed=0), x)
    assert said[:, 1] == pytest.approx(np.full(60, 0.25))
