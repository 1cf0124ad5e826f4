"""Mean average precision at k against a plain loop, one case after the other."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import truth_of
from foveal.metrics.ranking import MapAtK


def precision_by_loop(guesses: Sequence[str], right: str, k: int) -> float:
    """Average precision at k of one case, as competitions write it."""
    hits, total = 0, 0.0
    for place, guess in enumerate(guesses[:k]):
        if guess == right and guess not in guesses[:place]:
            hits += 1
            total += hits / (place + 1)
    return total


def value(metric: MapAtK, guesses: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    return float(metric.value(metric.tally(guesses, truth_of(right, weight)).sum(axis=0)))


NAMES = st.sampled_from(["a", "b", "c", "whale", "née", ""])


@settings(max_examples=200, deadline=None, database=None)
@given(st.data(), st.integers(1, 7), st.integers(1, 6), st.integers(1, 8))
def test_equals_the_loop_for_any_guesses_and_weights(
    data: st.DataObject, k: int, places: int, cases: int
) -> None:
    draw = data.draw
    guesses = draw(st.lists(st.lists(NAMES, min_size=places, max_size=places), min_size=cases,
                            max_size=cases))  # fmt: skip
    right = draw(st.lists(NAMES, min_size=cases, max_size=cases))
    weight = np.array(draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=cases,
                                    max_size=cases)))  # fmt: skip
    each = [precision_by_loop(g, r, k) for g, r in zip(guesses, right, strict=True)]
    got = value(MapAtK(k=k), np.array(guesses), np.array(right), weight)
    assert got == pytest.approx(np.average(each, weights=weight))


@pytest.mark.parametrize(
    ("guesses", "wanted"),
    [
        ("abcde", 1.0),
        ("baaaa", 1 / 2),
        ("bbabb", 1 / 3),
        ("bcdea", 1 / 5),
        ("bcdefa", 0.0),
        ("bcdef", 0.0),
        ("aaaaa", 1.0),
    ],
)
def test_the_first_of_equal_names_counts_and_none_after_place_five(
    guesses: str, wanted: float
) -> None:
    got = value(MapAtK(), np.array([list(guesses)]), np.array(["a"]), np.ones(1))
    assert got == pytest.approx(wanted)


def test_a_name_is_only_found_whole() -> None:
    guesses = np.array([["humpback_1", "humpback"], ["Fin", "fin "]])
    assert value(MapAtK(), guesses, np.array(["humpback", "fin"]), np.ones(2)) == 0.25


def test_identities_may_be_numbers() -> None:
    guesses, right = np.array([[3, 1, 2], [5, 5, 4]]), np.array([2, 5])
    assert value(MapAtK(k=3), guesses, right, np.ones(2)) == pytest.approx((1 / 3 + 1) / 2)


def test_weights_count_as_repeated_cases() -> None:
    rng = np.random.default_rng(0)
    guesses, right = rng.choice(list("abcdefg"), (40, 5)), rng.choice(list("abcdefg"), 40)
    times = rng.integers(0, 4, 40)
    weighted = value(MapAtK(), guesses, right, times.astype(float))
    repeated = np.repeat(guesses, times, axis=0), np.repeat(right, times)
    assert weighted == pytest.approx(value(MapAtK(), *repeated, np.ones(times.sum())))


def test_tallies_of_pools_add_up() -> None:
    rng = np.random.default_rng(1)
    guesses, right = rng.choice(list("abcdefg"), (30, 5)), rng.choice(list("abcdefg"), 30)
    metric, weight = MapAtK(k=4), rng.random(30) + 0.1
    tally = metric.tally(guesses, truth_of(right, weight))
    parts = np.stack([tally[:7].sum(axis=0), tally[7:].sum(axis=0)])
    alone = [value(metric, guesses[s], right[s], weight[s]) for s in (slice(7), slice(7, None))]
    assert metric.value(parts) == pytest.approx(alone)
    whole = np.average(alone, weights=[weight[:7].sum(), weight[7:].sum()])
    assert metric.value(parts.sum(axis=0)) == pytest.approx(whole)


def test_a_pool_without_weight_has_no_score() -> None:
    tally = MapAtK().tally(np.array([["a"], ["a"]]), truth_of(np.array(["a", "b"]), np.zeros(2)))
    got = MapAtK().value(np.stack([tally.sum(axis=0), np.array([2.0, 1.0])]))
    np.testing.assert_array_equal(got, [np.nan, 0.5])
