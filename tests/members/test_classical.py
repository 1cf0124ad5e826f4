import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from foveal.members.classical import evaluate, forest, forest_arrays, walk
from foveal.members.ridge import ridge
from foveal.task import State


def table(
    n: int = 120, width: int = 20, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    return x, x[:, 0] * 2 + np.sin(3 * x[:, 1]) + rng.normal(0, 0.1, n), rng.uniform(0.5, 2, n)


def test_a_walked_forest_equals_scikit_learn() -> None:
    x, y, w = table()
    forest = ExtraTreesRegressor(30, min_samples_leaf=2, random_state=0).fit(
        x.astype(np.float32), y, sample_weight=w
    )
    nodes = forest_arrays([one.tree_ for one in forest.estimators_])
    fresh = np.random.default_rng(1).normal(size=(500, 20)).astype(np.float32)
    assert walk(nodes, fresh) == pytest.approx(forest.predict(fresh), abs=1e-12)


def test_a_state_scores_as_the_mixture_it_names() -> None:
    x, y, w = table()
    slope, intercept = ridge(x, y, w, 1.0)
    nodes = forest(x, y, w, trees=5, seed=0)
    for share in (0.0, 0.25, 1.0):
        state = State(
            {
                "centre": np.zeros(20), "scale": np.ones(20), "slope": slope,
                "intercept": np.array([intercept]), "share": np.array([share]), **nodes,
            }
        )  # fmt: skip
        by_hand = share * (x @ slope + intercept) + (1 - share) * walk(nodes, x)
        assert evaluate(state, x) == pytest.approx(by_hand)
