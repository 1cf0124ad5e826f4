"""Grades: what is refused, and what is learned."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.errors import TargetError
from foveal.split import Folds
from foveal.targets.ordinal import Ordinal
from targeted import manifest


def test_grades_are_read_as_numbers_and_counted() -> None:
    of = manifest(["0", "3", "1.0", " 2 ", "3"])
    assert Ordinal.measure(of) == {"grades": 4}
    assert Ordinal(5).encode(of).tolist() == [0, 3, 1, 2, 3]
    assert Ordinal.measure(manifest(["x", "", "-1", "0.5"])) == {"grades": 1}


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", "the cell is empty"),
        ("mild", '"mild" is no number'),
        ("nan", '"nan" is no number'),
        ("inf", '"inf" is no number'),
        ("-1", "-1 is negative"),
        ("1.5", "1.5 is fractional"),
        ("3", "3 is too large"),
    ],
)
def test_what_is_no_grade_is_named_with_its_row(cell: str, why: str) -> None:
    with pytest.raises(TargetError, match="are no grades") as error:
        Ordinal(3).encode(manifest(["0", cell, "1"]))
    assert ("of 0 to 2" in str(error.value)) is (cell == "3")
    assert error.value.culprits == (f'row 2 (id "c1"): {why}',)


@pytest.mark.parametrize(
    ("cell", "cure"),
    [
        ("", "leave rows with an empty cell out"),
        ("mild", "number words 0, 1, 2, ... in their order"),
        ("1,0", "a point in place of a decimal comma"),
        ("-1", "correct what is no whole number"),
        ("1.5", "correct what is no whole number"),
        ("3", "correct what is too large, or grades=K for K grades"),
    ],
)
def test_what_is_no_grade_gets_the_cure_of_its_kind(cell: str, cure: str) -> None:
    with pytest.raises(TargetError) as error:
        Ordinal(3).encode(manifest(["0", cell, "1"]))
    assert f"cure: {cure}" in str(error.value)
    assert ("grades=K" in str(error.value)) is (cell == "3")


def test_words_alone_are_no_grades_of_any_scale() -> None:
    with pytest.raises(TargetError, match=r'2 values of column "who" are no grades; cure: number'):
        Ordinal(1).encode(manifest(["mild", "severe"]))


def test_one_grade_alone_is_nothing_to_learn() -> None:
    with pytest.raises(TargetError, match="all 3 cases have grade 2"):
        Ordinal(3).encode(manifest(["2", "2", "2"]))


def test_grades_without_a_case_are_remarked() -> None:
    assert Ordinal(4).remarks(np.array([0, 2, 2]), np.ones(3)) == ["no case has grade 1, 3"]
    assert Ordinal(3).remarks(np.array([0, 1, 2]), np.ones(3)) == []


def test_years_are_no_grades() -> None:
    years = manifest(["2000", "2001", "2002"])
    with pytest.raises(TargetError, match="grades 0 to 2002; a scale has at most 100"):
        Ordinal(**Ordinal.measure(years)).encode(years)


def test_every_case_is_sure_of_its_grade_and_the_truth_is_what_the_table_says() -> None:
    of = manifest(["0", "1", "2"] * 5, weight=np.arange(15.0))
    grades, split = Ordinal(3).encode(of), Folds(3)(of)
    np.testing.assert_array_equal(Ordinal(3).train(grades), np.eye(3)[grades])
    truth = Ordinal(3).truth(of, grades, split)
    np.testing.assert_array_equal(truth.target, grades)
    np.testing.assert_array_equal(truth.weight, np.arange(15.0) / 7.5)
    np.testing.assert_array_equal(truth.fold, split.fold)
    np.testing.assert_array_equal(truth.group, split.group)


def test_grades_that_do_not_count_are_as_if_nobody_had_them() -> None:
    grades, weight = ["0", "1", "1", "2"], np.array([1.0, 0.0, 0.0, 1.0])
    said = Ordinal(3).remarks(np.array([0, 1, 1, 2]), weight)
    assert said == ["no case of a weight above 0 has grade 1"]
    roles = {"weight": np.array(["0", "1", "1", "0"])}
    with pytest.raises(TargetError, match="all 2 cases that count have grade 1"):
        Ordinal(3).encode(replace(manifest(grades), roles=roles))


def test_ten_is_not_written_with_a_line_below() -> None:
    with pytest.raises(TargetError, match="no grades"):
        Ordinal(11).encode(manifest(["0", "1_0", "1"]))
