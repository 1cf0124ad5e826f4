"""Draws keep the shares that weights ask for, to a single case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.train.sampling import Balanced, Uniform, systematic

RARE = np.repeat([0, 1, 2], [80, 15, 5])


def counts(draws: np.ndarray, cases: int) -> np.ndarray:
    return np.bincount(draws, minlength=cases)


@settings(max_examples=60, deadline=None, database=None)
@given(
    count=st.integers(1, 300),
    weight=st.sampled_from([1.0, 0.1, 1 / 3, 7.7, 1e-9, 1e9]),
    seed=st.integers(0, 999),
)
def test_equal_weights_show_every_case_exactly_once(count, weight, seed):
    draws = systematic(np.full(count, weight), np.random.default_rng(seed))
    assert sorted(draws.tolist()) == list(range(count))


@settings(max_examples=100, deadline=None, database=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.5, 40.0]), min_size=1, max_size=30),
    seed=st.integers(0, 999),
)
def test_a_case_is_drawn_as_often_as_its_weight_says_give_or_take_one(weights, seed):
    weight = np.array([*weights, 1.0])
    seen = counts(systematic(weight, np.random.default_rng(seed)), len(weight))
    wanted = weight / weight.sum() * len(weight)
    assert seen.sum() == len(weight)
    assert (seen >= np.floor(wanted - 1e-9)).all()
    assert (seen <= np.ceil(wanted + 1e-9)).all()
    assert (seen[weight == 0] == 0).all()


def test_over_many_epochs_the_mean_count_is_the_weight():
    weight = np.array([0.2, 1.0, 3.1, 0.7, 0.0])
    rng = np.random.default_rng(0)
    seen = sum(counts(systematic(weight, rng), 5) for _ in range(2000)) / 2000
    np.testing.assert_allclose(seen, weight, atol=0.05)


def test_the_order_is_shuffled_and_follows_from_the_generator():
    weight = np.ones(50)
    first, again, other = (systematic(weight, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != np.sort(first)).any()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_balanced_lifts_a_grade_by_the_power_of_its_share(power):
    weight = np.ones(100)
    draws = Balanced(power=power)(np.eye(3)[RARE], weight, np.random.default_rng(0))
    share = np.array([0.8, 0.15, 0.05]) ** (1 - power)
    wanted = share / share.sum() * 100
    assert len(draws) == 100
    assert np.abs(counts(RARE[draws], 3) - wanted).max() <= 1


def test_balanced_without_power_is_uniform():
    target, weight = np.eye(3)[RARE], np.random.default_rng(0).random(100)
    plain = Uniform()(target, weight, np.random.default_rng(5))
    balanced = Balanced(power=0.0)(target, weight, np.random.default_rng(5))
    np.testing.assert_array_equal(np.sort(plain), np.sort(balanced))


def test_balanced_counts_weights_and_leaves_out_who_has_none():
    weight = np.where(np.arange(100) % 2, 1.0, 0.0)
    target = np.eye(4)[RARE]  # nobody has grade 3
    draws = Balanced(power=1.0)(target, weight, np.random.default_rng(0))
    assert (draws % 2 == 1).all()
    assert np.abs(counts(RARE[draws], 3) - 100 / 3).max() <= 1


def test_targets_may_be_blends():
    target = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    rng = np.random.default_rng(0)
    draw = Balanced(power=1.0)
    seen = sum(counts(draw(target, np.ones(4), rng), 4) for _ in range(500)) / 500
    lift = target @ [1 / 0.875, 1 / 0.125]
    np.testing.assert_allclose(seen, 4 * lift / lift.sum(), atol=0.05)
