from dataclasses import replace

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression

from conftest import truth_of
from foveal.decide.calibrate import Affine, Bend, GradeProbabilities, groups_seen
from foveal.predictions import Predictions


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


def scored(x: np.ndarray) -> Predictions:
    ids = [str(k) for k in range(len(x))]
    return Predictions.of(ids, x[:, None].astype(np.float32), columns=("expected",))


def test_probabilities_are_isotonic_regression_and_sum_to_one() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 300)
    x = y + rng.normal(0, 1, 300)
    x = x.astype(np.float32).astype(np.float64)
    given = GradeProbabilities(4).fit(scored(x), truth_of(y))(scored(x))
    assert given.sum(axis=1) == pytest.approx(np.ones(300))
    assert (given >= 0).all()
    oracle = IsotonicRegression().fit(x, y >= 2).predict(x)
    assert given[:, 2:].sum(axis=1) == pytest.approx(oracle)


def test_probabilities_beyond_the_fitted_scores_stay_probabilities() -> None:
    y = np.array([0, 1, 1, 2])
    given = GradeProbabilities(3).fit(scored(np.arange(4.0)), truth_of(y))(
        scored(np.array([-9.0, 1.5, 99.0]))
    )
    assert given.sum(axis=1) == pytest.approx(np.ones(3))
    assert given[0].argmax() == 0
    assert given[2].argmax() == 2


def test_a_bent_meaning_is_found_and_a_straight_one_kept() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 4, 4000)
    for means in (x, x**2 / 4):
        y = np.clip(np.round(means + rng.normal(0, 0.5, 4000)), 0, 4).astype(int)
        curve = Bend().fit(x, truth_of(y))
        inside = np.linspace(0.5, 3.5, 7)
        wanted = inside if means is x else inside**2 / 4
        assert curve(inside) == pytest.approx(wanted, abs=0.2)
        straight = Bend(bends=(0.0,)).fit(x, truth_of(y))
        assert straight(np.array([1.0, 2.0, 3.0])) == pytest.approx(
            np.polyval(np.polyfit(x, y, 1), [1, 2, 3]), abs=0.02
        )


def test_the_curve_rises_and_its_inverse_undoes_it() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(2, 1, 300)
    y = np.clip(np.round(x + np.sin(3 * x)), 0, 4).astype(int)
    curve = Bend().fit(x, truth_of(y))
    assert (np.diff(curve.grades) > 0).all()
    cuts = np.array([0.5, 1.5, 2.5])
    assert curve(curve.inverse(cuts)) == pytest.approx(cuts)


def test_two_groups_do_not_talk_the_line_out_of_the_identity() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0] * 30)
    truth = replace(truth_of(np.array([2, 2, 1, 1] * 30)), group=np.arange(120) // 60)
    assert groups_seen(truth) == pytest.approx(2)
    curve = Bend().fit(x, truth)
    assert curve(np.array([3.0])) > curve(np.array([0.0]))


def test_a_score_against_the_truth_is_worth_the_mean() -> None:
    y = np.arange(400) % 5
    curve = Bend().fit(-y.astype(float), truth_of(y))
    assert curve(np.array([-4.0, 0.0])) == pytest.approx([2.0, 2.0], abs=0.1)
