"""Numbers as people read them: those that are none in words."""

import math

import pytest

from foveal.ship.numbers import number, short, span


def test_a_number_that_is_none_is_a_dash() -> None:
    assert [number(v) for v in (0.5, -1.23456, None, math.nan, math.inf)] == [
        "0.500",
        "-1.235",
        "-",
        "-",
        "-",
    ]
    assert number(0.125, 1) == "0.1"


@pytest.mark.parametrize("ends", [(math.nan, math.nan), (0.5, math.nan), (None, None)])
def test_an_interval_that_nobody_can_tell_is_said_in_words(ends: tuple) -> None:
    assert span(ends) == "too few groups"


def test_an_interval_may_lie_below_0() -> None:
    assert span((-0.5, -0.25)) == "-0.500 to -0.250"


def test_answers_have_six_digits_at_most() -> None:
    assert [short(v) for v in (12.0, 1 / 3, 1e-9, 1234567.0)] == [
        "12",
        "0.333333",
        "1e-09",
        "1.23457e+06",
    ]
