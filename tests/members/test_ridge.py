import numpy as np
import pytest
from sklearn.linear_model import Ridge

from foveal.members.ridge import (
    ALPHAS,
    CLIP,
    cross_fitted,
    inner_folds,
    ridge,
    ridge_path,
    spread,
    standardised,
)


def table(n: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, width))
    y = np.stack([x[:, 0] * 2 + np.sin(3 * x[:, 1]), x[:, 2] > 1, x[:, 3] ** 2], axis=1)
    return x, y + rng.normal(0, 0.1, y.shape), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("shape", [(120, 20), (15, 40)])
def test_ridge_equals_scikit_learn_in_both_spaces(shape: tuple[int, int]) -> None:
    x, y, w = table(*shape)
    alphas = np.array([3.0, 70.0, 3.0])
    slope, intercept = ridge(x, y, w, alphas)
    oracle = Ridge(alpha=alphas).fit(x, y, sample_weight=w / w.mean())
    assert slope == pytest.approx(oracle.coef_.T, abs=1e-8)
    assert intercept == pytest.approx(oracle.intercept_, abs=1e-8)


@pytest.mark.parametrize("shape", [(120, 20), (15, 40)])
def test_the_path_equals_every_single_fit(shape: tuple[int, int]) -> None:
    x, y, w = table(*shape)
    new = np.random.default_rng(1).normal(size=(7, shape[1]))
    for alpha, said in zip(ALPHAS, ridge_path(x, y, w, new), strict=True):
        slope, intercept = ridge(x, y, w, np.full(3, alpha))
        assert said == pytest.approx(new @ slope + intercept, abs=1e-8)


def test_the_penalty_is_judged_on_groups_left_out() -> None:
    """Copies of a case in one group must not talk the penalty down."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 6)
    x = rng.normal(size=(20, 60))[group] + 1e-3 * rng.normal(size=(120, 60))
    y = (0.3 * x[:, 0] + rng.normal(size=20)[group]).round()[:, None]
    w = np.ones(120)
    fold = inner_folds(y, group, seed=0)
    assert all(len(np.unique(fold[group == g])) == 1 for g in range(20))
    honest, said = cross_fitted(x, y, w, fold)
    leaky, _ = cross_fitted(x, y, w, np.arange(120) % 4)
    assert honest > leaky
    inside = fold != 0
    slope, intercept = ridge(x[inside], y[inside], w[inside], honest)
    assert said[~inside] == pytest.approx(x[~inside] @ slope + intercept, abs=1e-8)


def test_every_column_has_a_penalty_of_its_own() -> None:
    x, y, w = table(200, 60)
    y[:, 1] = np.random.default_rng(5).normal(size=200)
    fold = np.arange(200) % 4
    alphas, said = cross_fitted(x, y, w, fold)
    assert alphas[1] > alphas[0]
    for k in range(3):
        alone, column = cross_fitted(x, y[:, [k]], w, fold)
        assert alphas[k] == alone[0]
        assert said[:, k] == pytest.approx(column[:, 0], abs=1e-8)


def test_one_group_has_no_inner_folds() -> None:
    assert inner_folds(np.arange(5.0)[:, None], np.zeros(5, dtype=np.int64), seed=0) is None


def test_standardised_features_are_even_and_never_far_out() -> None:
    x, _, w = table(200, 5)
    x[:, 3], x[0, 0] = 7.0, 1e6
    centre, scale = spread(x, w)
    z = standardised(x, centre, scale)
    assert z[0, 0] == CLIP
    assert np.abs(z[:, 3]).max() < 1e-9
    assert np.average(z[:, 1], weights=w) == pytest.approx(0, abs=1e-9)
    assert np.average(z[:, 1] ** 2, weights=w) == pytest.approx(1)


def test_a_weight_counts_as_so_many_cases() -> None:
    x, _, _ = table(50, 4)
    w = np.random.default_rng(1).integers(1, 5, 50)
    for one, other in zip(
        spread(x, w * 0.5), spread(x.repeat(w, 0), np.ones(w.sum())), strict=True
    ):
        np.testing.assert_allclose(one, other)
