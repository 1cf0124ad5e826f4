import itertools

import numpy as np
import pytest

from conftest import truth_of
from foveal.decide.calibrate import Bend
from foveal.decide.thresholds import (
    BaggedExactCuts,
    ClosedFormCuts,
    Cuts,
    ExactCuts,
    FixedCuts,
    best_cuts,
)
from foveal.errors import TargetError
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions


def as_predictions(scores: np.ndarray) -> Predictions:
    ids = [str(k) for k in range(len(scores))]
    return Predictions.of(ids, scores[:, None].astype(np.float32), columns=("expected",))


def kappa(labels: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    tally = quadratic_kappa.tally(labels, truth_of(target, weight))
    return float(np.nan_to_num(quadratic_kappa.value(tally.sum(axis=0))))


def brute_force(scores: np.ndarray, y: np.ndarray, w: np.ndarray, grades: int) -> float:
    values = np.unique(scores)
    edges = [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]
    every = itertools.combinations_with_replacement(edges, grades - 1)
    return max(0.0, *(kappa(Cuts(c).grade(scores), y, w) for c in every))


@pytest.mark.parametrize("seed", range(60))
def test_exact_equals_brute_force_with_ties_and_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grades, n = int(rng.integers(2, 6)), int(rng.integers(4, 11))
    y = rng.integers(0, grades, n)
    scores = np.round(y + rng.normal(0, 1.2, n), 0 if seed % 3 == 0 else 6)
    w = rng.choice([1.0, 2.0, 0.5, 0.0], n) if seed % 2 else np.ones(n)
    w[0] = 1.0
    got = kappa(Cuts(best_cuts(scores, y, w, grades)).grade(scores), y, w)
    assert got == pytest.approx(brute_force(scores, y, w, grades), abs=1e-9)


def test_a_rising_map_of_the_scores_changes_no_label() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 300)
    scores = y + rng.normal(0, 1, 300)
    plain = Cuts(best_cuts(scores, y, np.ones(300), 5)).grade(scores)
    bent = Cuts(best_cuts(np.exp(scores), y, np.ones(300), 5)).grade(np.exp(scores))
    assert np.array_equal(plain, bent)


def test_scores_that_run_against_the_truth_give_one_grade() -> None:
    y = np.arange(50) % 5
    labels = Cuts(best_cuts(-y.astype(float), y, np.ones(50), 5)).grade(-y.astype(float))
    assert kappa(labels, y) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("target", [[0, 0, 4, 1, 2], [3, 3, 3, 3, 3], [4, 4, 4, 0, 1]])
@pytest.mark.parametrize("score", ["constant", "against", "halves"])
def test_scores_that_tell_nothing_give_everybody_the_grade_nearest_to_the_mean(
    score: str, target: list[int], most: int
) -> None:
    half = np.repeat(target, 6)
    y = np.concatenate([half, half])
    w = np.tile(np.random.default_rng(most).integers(1, most + 1, 30) * 0.1, 2)
    told = {"constant": np.ones(60), "against": -1.0 * y, "halves": np.repeat([0.0, 1.0], 30)}
    nearest = np.floor(np.average(y, weights=w) + 0.5)
    for seed in range(3):  # sums in another order are others in their last digits
        order = np.random.default_rng(seed).permutation(60)
        cuts = Cuts(best_cuts(told[score][order], y[order], w[order], 5))
        assert (cuts.grade(told[score]) == nearest).all()


def test_bagged_cuts_of_a_score_that_tells_nothing_give_a_grade_near_the_mean() -> None:
    y, alike = np.array([0, 0, 4, 1, 2] * 12), as_predictions(np.ones(60))
    assert set(BaggedExactCuts(5).fit(alike, truth_of(y))(alike).tolist()) == {1}


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("rule", [ClosedFormCuts(2), ExactCuts(2), BaggedExactCuts(2)])
def test_nan_and_infinity_are_refused(
    wrong: float, rule: ClosedFormCuts | ExactCuts | BaggedExactCuts
) -> None:
    with pytest.raises(TargetError, match="finite"):
        rule.fit(as_predictions(np.array([0.0, wrong, 1.0])), truth_of(np.array([0, 0, 1])))


@pytest.mark.parametrize("kind", [np.int8, np.int16])
@pytest.mark.parametrize("rule", [ClosedFormCuts(20), ExactCuts(20)])
def test_small_integers_give_the_same_cuts(kind: type, rule: ClosedFormCuts | ExactCuts) -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 20, 400)
    x = as_predictions(y + rng.normal(0, 2, 400))
    assert rule.fit(x, truth_of(y.astype(kind))) == rule.fit(x, truth_of(y))


def test_neighbouring_floats_are_kept_apart() -> None:
    low = 1.0
    scores = np.array([low, np.nextafter(low, 2)])
    assert Cuts(best_cuts(scores, np.array([0, 1]), np.ones(2), 2)).grade(scores).tolist() == [0, 1]


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_the_closed_form_is_near_the_optimum_of_a_calibrated_score(scale: float) -> None:
    rng = np.random.default_rng(2)
    latent = rng.normal(2, 1.4, 100_000)
    y = np.clip(np.round(latent + rng.normal(0, 0.7, len(latent))), 0, 4).astype(int)
    score = np.clip(latent, 0, 4) * scale
    rule = ClosedFormCuts(5).fit(as_predictions(score), truth_of(y))
    best = Cuts(best_cuts(score, y, np.ones(len(y)), 5))
    assert kappa(best.grade(score), y) - kappa(rule.grade(score), y) < 0.003


def test_the_closed_form_spaces_cuts_by_kappa() -> None:
    rng = np.random.default_rng(3)
    y = rng.choice(5, 20_000, p=[0.49, 0.1, 0.27, 0.05, 0.09])
    score = y + rng.normal(0, 0.5, len(y))
    straight = ClosedFormCuts(5, calibrate=Bend(bends=(0.0,)))
    rule = straight.fit(as_predictions(score), truth_of(y))
    gaps = np.diff(rule.cuts)
    slope = np.polyfit(score, y, 1)[0]
    assert gaps == pytest.approx(np.full(3, gaps[0]))
    assert gaps[0] * slope == pytest.approx(kappa(rule.grade(score), y), abs=0.02)


@pytest.mark.parametrize(
    "rule", [ClosedFormCuts(4), ExactCuts(4), BaggedExactCuts(4), FixedCuts.halves(4)]
)
def test_one_case_and_one_class_survive(rule: ClosedFormCuts) -> None:
    for target in (np.array([2]), np.array([1, 1, 1])):
        scores = as_predictions(np.linspace(0, 1, len(target)))
        labels = rule.fit(scores, truth_of(target))(scores)
        assert set(labels.tolist()) <= {0, 1, 2, 3}


def test_fixed_cuts() -> None:
    assert FixedCuts.halves(3).cuts == (0.5, 1.5)
    assert FixedCuts.fifths(5).cuts == pytest.approx((0.8, 1.6, 2.4, 3.2))


def test_weights_move_every_fitted_rule() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 200)
    scores = as_predictions(y + rng.normal(0, 1, 200))
    heavy = np.where(y == 2, 10.0, 1.0)
    for rule in (ClosedFormCuts(3), ExactCuts(3), BaggedExactCuts(3)):
        assert rule.fit(scores, truth_of(y)) != rule.fit(scores, truth_of(y, heavy))


def test_bagging_takes_the_median_of_resampled_fits() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 100)
    scores = as_predictions(y + rng.normal(0, 1, 100))
    once = [BaggedExactCuts(3, resamples=1, seed=s).fit(scores, truth_of(y)).cuts for s in range(9)]
    assert len(set(once)) > 1
    many = BaggedExactCuts(3, resamples=25).fit(scores, truth_of(y)).cuts
    assert min(c[0] for c in once) <= many[0] <= max(c[0] for c in once)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_grades_below_all_that_cases_have_are_never_given(noise: float) -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(1, 4, 200)
    scores = y + rng.normal(0, noise, 200)
    cuts = ClosedFormCuts(4).fit(as_predictions(scores), truth_of(y))
    assert cuts.cuts[0] == -np.inf
    assert set(cuts.grade(np.linspace(-9, 9, 50)).tolist()) == {1, 2, 3}
    weight = np.where(y == 1, 0.0, 1.0)  # a case that does not count was not seen
    assert ClosedFormCuts(4).fit(as_predictions(scores), truth_of(y, weight)).cuts[1] == -np.inf


def test_a_rare_top_grade_has_knots_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores lie beyond the outermost of evenly spread knots, on a line that is too flat."""
    won = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        y = rng.choice(3, 6600, p=(0.97, 0.01, 0.02))
        scores = 0.2 * (y + rng.normal(0, 0.5, 6600))
        known, fresh = as_predictions(scores[:600]), scores[600:]
        reached = []
        for tail in (0, 5):
            monkeypatch.setattr("foveal.decide.calibrate.TAIL", tail)
            cuts = ClosedFormCuts(3).fit(known, truth_of(y[:600]))
            reached.append(kappa(cuts.grade(fresh), y[600:]))
        won.append(reached[1] - reached[0])
    assert np.mean(won) > 0.05
