from dataclasses import replace

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression

from conftest import truth_of
from foveal.decide.calibrate import (
    Affine,
    Bend,
    GradeOdds,
    GradeProbabilities,
    Line,
    RisingCurve,
    groups_seen,
    line_of_odds,
)
from foveal.errors import ShapeError
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


def test_probabilities_of_grades_are_no_expected_grade() -> None:
    shares = np.full((3, 5), 0.2, dtype=np.float32)
    given = Predictions.of(["a", "b", "c"], shares, columns=tuple("01234"))
    with pytest.raises(ShapeError, match=r"there are 5; cure.*np\.arange"):
        GradeProbabilities(5).fit(given, truth_of(np.array([0, 2, 4])))


def of_noise(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Grades 0 to 3, the last one rare, and a score of each."""
    y = rng.choice(4, n, p=(0.5, 0.3, 0.18, 0.02))
    return y, y + rng.normal(0, 0.8, n)


def test_a_line_of_odds_is_logistic_regression_where_nothing_pulls() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.normal(0, 1, 300), rng.uniform(0, 2, 300)
    has = rng.random(300) < 1 / (1 + np.exp(0.4 - 1.7 * x))
    line = line_of_odds(x, has, w, slope=2.0, prior=1e-9)
    oracle = LogisticRegression(C=np.inf, tol=1e-9).fit(x[:, None], has, sample_weight=w)
    assert line.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert line.intercept == pytest.approx(oracle.intercept_[0], rel=1e-4)
    pulled = line_of_odds(x, has, w, slope=2.0, prior=1e9)
    assert (pulled.intercept, pulled.slope) == pytest.approx((0, 2), abs=1e-6)


@pytest.mark.parametrize("n", [40, 200, 2000])
def test_no_grade_is_impossible_and_fresh_cases_surprise_less_than_by_isotonic_steps(
    n: int,
) -> None:
    surprise = np.zeros(3)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        (y, x), (fresh, z) = of_noise(rng, n), of_noise(rng, 500)
        given = GradeProbabilities(4).fit(scored(x), truth_of(y))(scored(z))
        assert given.sum(axis=1) == pytest.approx(np.ones(500))
        assert (given > 0).all()
        steps = [
            IsotonicRegression(out_of_bounds="clip").fit(x, y >= k).predict(z) for k in (1, 2, 3)
        ]
        above = np.stack([np.ones(500), *steps, np.zeros(500)], axis=1)
        share = np.bincount(y, minlength=4) / n
        for k, table in enumerate((given, above[:, :-1] - above[:, 1:], np.tile(share, (500, 1)))):
            chance = np.maximum(table[np.arange(500), fresh], 1e-3)
            surprise[k] -= np.log(chance).mean() / 10
    assert surprise[0] < min(surprise[1], surprise[2])


def test_a_grade_that_no_case_has_is_unlikely_and_repeated_cases_count_once() -> None:
    y, x = of_noise(np.random.default_rng(3), 100)
    fit = GradeProbabilities(6).fit
    given = fit(scored(x), truth_of(y))(scored(x))
    assert 0 < given[:, 5].max() < 0.05
    once = fit(scored(x), truth_of(y))
    ids = np.tile(np.arange(100), 5)
    five = fit(scored(x[ids]), replace(truth_of(y[ids]), group=ids))
    assert [line.slope for line in five.lines] == pytest.approx(
        [line.slope for line in once.lines], rel=0.02
    )


def test_lines_that_cross_leave_no_grade_impossible() -> None:
    meaning = RisingCurve((0.0, 2.0), (0.0, 2.0))
    given = GradeOdds(meaning, (Line(0.0, 0.1), Line(0.0, 9.0)))(scored(np.array([0.0, 1.9, 2.0])))
    assert given.sum(axis=1) == pytest.approx(np.ones(3))
    assert (given > 0).all()
    assert given[2, 1] == pytest.approx(1e-4, rel=0.5)


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
