"""Draws keep the shares that weights ask for, to a single case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import TrainingError
from foveal.train.sampling import Balanced, Mixture, PerIndividual, Uniform, systematic

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


# --- mixtures of rare, middling and common labels -------------------------------------------------


def labels(cases: int = 200, seed: int = 0) -> np.ndarray:
    """Nine labels from rare to common; some cases have none."""
    has = np.random.default_rng(seed).random((cases, 9)) < np.geomspace(0.01, 0.3, 9)
    has[:9] |= np.eye(9, dtype=bool)
    return has.astype(np.float32)


def drawn(target: np.ndarray, weight: np.ndarray, mixture: Mixture, seed: int = 0) -> np.ndarray:
    return mixture(target, weight, np.random.default_rng(seed))


def test_a_case_is_as_rare_as_the_rarest_label_it_has() -> None:
    often = np.array([2, 9, 4, 8, 3, 7])  # places 0, 5, 2, 4, 1, 3
    target = np.concatenate([np.eye(6)[np.repeat(np.arange(6), often)], [[0, 1, 0, 1, 0, 0]]])
    target = np.concatenate([target, np.zeros((1, 6)), [[0, 1, 0, 0, 0.3, 0]]])
    kinds = Mixture().kinds(target, np.ones(len(target)))
    assert kinds.tolist() == [*np.repeat([0, 2, 1, 2, 0, 1], often).tolist(), 2, 2, 0]


def test_labels_are_counted_by_weight() -> None:
    target = np.repeat(np.eye(3), [2, 4, 6], axis=0)
    weight = np.repeat([9.0, 1.0, 0.1], [2, 4, 6])
    assert Mixture().kinds(target, weight).tolist() == np.repeat([2, 1, 0], [2, 4, 6]).tolist()


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.8, 0.1, 0.1), (5.0, 0.0, 5.0)])
def test_any_run_of_draws_has_the_composition_to_less_than_two_cases_of_each_kind(
    shares: tuple[float, float, float],
) -> None:
    target, weight, mixture = labels(), np.ones(200), Mixture(shares)
    wanted = np.array(shares) / sum(shares)
    for seed in range(5):
        kinds = mixture.kinds(target, weight)[drawn(target, weight, mixture, seed)]
        assert counts(kinds, 3).tolist() == (200 * wanted).round().tolist()
        seen = np.concatenate([np.zeros((1, 3)), np.cumsum(np.eye(3)[kinds], axis=0)])
        for length in range(1, 201):
            off = np.abs(seen[length:] - seen[:-length] - length * wanted)
            assert (off < 1 + wanted + 1e-9).all()


def test_a_batch_that_can_have_the_composition_has_it_to_one_case_of_each_kind() -> None:
    target, weight, mixture = labels(), np.ones(200), Mixture()
    for seed in range(20):
        kinds = mixture.kinds(target, weight)[drawn(target, weight, mixture, seed)]
        for start in range(171):
            assert (np.abs(counts(kinds[start : start + 30], 3) - [15, 9, 6]) <= 1).all()


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_what_is_expected_is_what_many_epochs_show(
    shares: tuple[float, float, float],
    is_weighted: bool,  # noqa: FBT001
) -> None:
    target, rng = labels(), np.random.default_rng(0)
    weight = rng.choice([0.0, 0.5, 1.0, 3.0], 200) if is_weighted else np.ones(200)
    mixture, epochs = Mixture(shares), 400
    seen = sum(target[mixture(target, weight, rng)].sum(axis=0) for _ in range(epochs))
    expected = mixture.expected(target, weight)
    assert (expected[weight @ target > 0] > 0).any()
    np.testing.assert_allclose(seen / (200 * epochs), expected, atol=0.004)


def test_within_a_kind_a_case_is_drawn_as_often_as_its_weight_says() -> None:
    target, rng = labels(), np.random.default_rng(0)
    weight = np.where(np.arange(200) % 2, 3.0, 1.0)
    mixture = Mixture()
    kinds = mixture.kinds(target, weight)
    seen = sum(counts(mixture(target, weight, rng), 200) for _ in range(300)) / 300
    for kind, share in enumerate(mixture.shares):
        rows = kinds == kind
        heavy = rows & (weight == 3)
        wanted = 200 * share * weight[heavy].sum() / weight[rows].sum()
        assert seen[heavy].sum() == pytest.approx(wanted, rel=0.03)
        assert seen[rows].sum() == pytest.approx(200 * share)


def test_a_kind_that_no_case_is_of_leaves_its_share_to_the_others() -> None:
    target = np.eye(3)[np.repeat([1, 2], [5, 30])]
    target[:2, [0, 1]] = 1, 1
    target[2:5, 0] = 1  # who has the middling label has the rare one too
    kinds = Mixture().kinds(target, np.ones(35))
    assert set(kinds.tolist()) == {0, 2}
    shown = kinds[drawn(target, np.ones(35), Mixture())]
    assert counts(shown, 3).tolist() == [25, 0, 10]


def test_labels_that_no_case_of_a_training_has_are_none_of_the_rare() -> None:
    target = np.eye(6)[np.repeat([0, 1, 2, 3, 4, 5], [2, 3, 10, 20, 40, 60])]
    absent = np.zeros((len(target), 4))
    weight = np.ones(len(target))
    more = np.hstack([absent, target])
    np.testing.assert_array_equal(Mixture().kinds(more, weight), Mixture().kinds(target, weight))


def test_one_kind_alone_is_all_that_is_shown() -> None:
    for target in (np.zeros((8, 3)), np.eye(3)[[2] * 8], np.ones((8, 3))):
        assert sorted(drawn(target, np.ones(8), Mixture()).tolist()) == list(range(8))


@settings(max_examples=60, deadline=None, database=None)
@given(
    cases=st.integers(1, 40),
    count=st.integers(1, 7),
    shares=st.sampled_from([(0.5, 0.3, 0.2), (1.0, 1.0, 1.0), (0.9, 0.05, 0.05)]),
    seed=st.integers(0, 999),
)
def test_mixtures_have_as_many_draws_as_cases_and_none_without_weight(
    cases: int, count: int, shares: tuple[float, float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((cases, count)) < 0.3).astype(np.float32)
    weight = rng.choice([0.0, 0.5, 2.0], cases)
    weight[0] = 1.0
    mixture = Mixture(shares)
    draws = drawn(target, weight, mixture, seed)
    assert draws.shape == (cases,)
    assert (weight[draws] > 0).all()
    np.testing.assert_array_equal(draws, drawn(target, weight, mixture, seed))
    assert (mixture.expected(target, weight)[weight @ target == 0] == 0).all()


def test_another_generator_draws_another_order() -> None:
    target, weight = labels(), np.ones(200)
    orders = {tuple(drawn(target, weight, Mixture(), seed).tolist()) for seed in range(10)}
    assert len(orders) == 10


def test_nobody_to_draw_is_an_error() -> None:
    target = np.zeros((4, 3))  # common cases alone
    for shares, weight in (((1.0, 0.0, 0.0), np.ones(4)), ((0.5, 0.3, 0.2), np.zeros(4))):
        with pytest.raises(TrainingError, match="--weight"):
            drawn(target, weight, Mixture(shares))
