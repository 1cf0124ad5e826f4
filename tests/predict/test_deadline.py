"""The reserve by hand, and the clock from both sides."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.predict.deadline import Deadline


@pytest.mark.parametrize(
    ("limit", "working"),
    [(100.0, 90.0), (32400.0, 29160.0), (40.0, 36.0), (30.0, 27.0), (29.0, 26.0), (4.0, 1.0),
     (3.0, 0.0), (1.0, -2.0)],
)  # fmt: skip
def test_a_tenth_and_three_seconds_at_least_are_kept(limit: float, working: float) -> None:
    assert Deadline(limit, 1000.0).end() == pytest.approx(1000 + working)


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(0, 1e7))
def test_a_longer_limit_never_ends_earlier(one: float, other: float, started: float) -> None:
    shorter, longer = sorted((one, other))
    assert Deadline(shorter, started).end() <= Deadline(longer, started).end()
    assert Deadline(longer, started).end() <= started + longer - 3 + 1e-6


@pytest.mark.parametrize("limit", [0.5, 2.9, 60.0, 7200.0])
def test_it_has_passed_once_the_limit_is_used_up(limit: float) -> None:
    assert Deadline(limit, time.monotonic() - limit).passed()


@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_a_limit_within_the_reserve_leaves_time_for_nothing(limit: float) -> None:
    assert Deadline(limit, time.monotonic()).passed()


def test_time_counts_from_the_start_that_was_given() -> None:
    hour = 3600.0
    now = time.monotonic()
    assert not Deadline(hour, now).passed()
    assert not Deadline(hour, now + 10 * hour).passed()
    assert Deadline(hour, now - 0.95 * hour).passed()
    assert not Deadline(2 * hour, now - 0.95 * hour).passed()


@given(st.floats(-5, 5))
def test_it_passes_when_the_clock_reaches_the_end(away: float) -> None:
    deadline = Deadline(100.0, time.monotonic() - 90 + away)
    before = time.monotonic()
    passed = deadline.passed()
    after = time.monotonic()
    assert after >= deadline.end() if passed else before < deadline.end()


def test_three_of_the_longest_write_are_kept() -> None:
    assert Deadline(100.0, 0.0).end(2.0) == pytest.approx(90)
    assert Deadline(100.0, 0.0).end(8.0) == pytest.approx(76)
    begun = Deadline(100.0, time.monotonic() - 80)
    assert not begun.passed()
    assert begun.passed(8.0)


def test_what_would_end_after_the_limit_is_not_begun() -> None:
    begun = Deadline(100.0, time.monotonic() - 80)
    assert begun.has_time_for(10.0)
    assert not begun.has_time_for(21.0)
