import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression

from conftest import truth_of
from foveal.decide.calibrate import Affine, GradeProbabilities


def test_the_line_is_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    y, w = rng.integers(0, 5, 80), rng.uniform(0, 2, 80)
    x = 0.5 * y + rng.normal(0, 0.4, 80)
    line = Affine().fit(x, truth_of(y, w))
    oracle = LinearRegression().fit(x[:, None], y, sample_weight=w)
    assert (line.slope, line.intercept) == pytest.approx((oracle.coef_[0], oracle.intercept_))


def test_a_falling_or_flat_score_becomes_the_mean() -> None:
    y = np.array([0, 1, 2, 3])
    for x in (-y.astype(float), np.ones(4)):
        line = Affine().fit(x, truth_of(y))
        assert line(x) == pytest.approx(np.full(4, 1.5))


def test_probabilities_are_isotonic_regression_and_sum_to_one() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 300)
    x = y + rng.normal(0, 1, 300)
    given = GradeProbabilities(4).fit(x, truth_of(y))(x)
    assert given.sum(axis=1) == pytest.approx(np.ones(300))
    assert (given >= 0).all()
    oracle = IsotonicRegression().fit(x, y >= 2).predict(x)
    assert given[:, 2:].sum(axis=1) == pytest.approx(oracle)


def test_probabilities_beyond_the_fitted_scores_stay_probabilities() -> None:
    y = np.array([0, 1, 1, 2])
    given = GradeProbabilities(3).fit(np.arange(4.0), truth_of(y))(np.array([-9.0, 1.5, 99.0]))
    assert given.sum(axis=1) == pytest.approx(np.ones(3))
    assert given[0].argmax() == 0
    assert given[2].argmax() == 2
