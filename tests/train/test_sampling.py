"""Draws keep the shares that weights ask for, to a single case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.train.sampling import Balanced, PerIndividual, Uniform, systematic

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


WHO = np.repeat([0, 1, 2, 3], [60, 25, 4, 1])
"""Individuals with many pictures and few."""


@settings(max_examples=100, deadline=None, database=None)
@given(
    who=st.lists(st.integers(-1, 5), min_size=1, max_size=40),
    least=st.integers(1, 6),
    together=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_individuals_are_drawn_as_often_as_there_are_cases_and_none_without_weight(
    who: list[int], least: int, together: int, seed: int
) -> None:
    target = np.array([*who, 0])
    weight = np.where(np.random.default_rng(seed).random(len(target)) < 0.3, 0.0, 1.0)
    weight[-1] = 1.0
    draw = PerIndividual(least, together)
    draws = draw(target, weight, np.random.default_rng(seed))
    assert draws.shape == target.shape
    assert (weight[draws] > 0).all()
    np.testing.assert_array_equal(draws, draw(target, weight, np.random.default_rng(seed)))


@pytest.mark.parametrize("least", [1, 4, 10, 50])
def test_an_individual_is_shown_as_if_it_had_the_least_number_of_pictures(least: int) -> None:
    draws = PerIndividual(least)(WHO, np.ones(90), np.random.default_rng(0))
    wanted = np.maximum([60, 25, 4, 1], least)
    assert np.abs(counts(WHO[draws], 4) - wanted / wanted.sum() * 90).max() <= 1
    alike = counts(draws, 90)[WHO == 0]
    assert alike.max() - alike.min() <= 1


def test_a_least_of_one_is_uniform() -> None:
    weight = np.random.default_rng(0).random(90)
    plain = Uniform()(np.eye(4)[WHO], weight, np.random.default_rng(5))
    np.testing.assert_array_equal(PerIndividual()(WHO, weight, np.random.default_rng(5)), plain)


def test_the_unknown_are_never_more_frequent() -> None:
    strangers = np.where(WHO == 3, -1, WHO)
    draws = PerIndividual(10)(strangers, np.ones(90), np.random.default_rng(0))
    wanted = np.array([1, 60, 25, 10])  # one stranger, and individuals 0 to 2
    assert np.abs(counts(strangers[draws] + 1, 4) - wanted / wanted.sum() * 90).max() <= 1


def blocks(who: np.ndarray, name: int) -> list[int]:
    """How many draws of somebody follow each other, everywhere."""
    found, length = [], 0
    for one in [*who.tolist(), None]:
        length, ended = (length + 1, 0) if one == name else (0, length)
        found += [ended] if ended else []
    return found


@pytest.mark.parametrize("together", [2, 3, 4])
def test_pictures_of_an_individual_follow_each_other(together: int) -> None:
    rng = np.random.default_rng(0)
    who = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 10, 12)))
    for seed in range(20):
        mixed, draws = (
            PerIndividual(3, t)(who, np.ones(len(who)), np.random.default_rng(seed))
            for t in (1, together)
        )
        np.testing.assert_array_equal(np.sort(mixed), np.sort(draws))
        for name in range(12):
            found = blocks(who[draws], name)
            assert sum(length % together > 0 for length in found) <= 1  # what was left over


def test_runs_come_in_another_order_each_time() -> None:
    who = np.repeat(np.arange(10), 4)
    orders = {
        tuple(who[PerIndividual(1, 4)(who, np.ones(40), np.random.default_rng(s))][::4].tolist())
        for s in range(10)
    }
    assert len(orders) == 10


def test_the_unknown_are_nobody_together() -> None:
    who = np.repeat([-1, 0], 6)
    pulled_apart = 0
    for seed in range(20):
        shown = who[PerIndividual(1, 6)(who, np.ones(12), np.random.default_rng(seed))]
        assert blocks(shown, 0) == [6]
        pulled_apart += len(blocks(shown, -1)) == 2
    assert pulled_apart > 5
