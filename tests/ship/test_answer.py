"""The answer's file: every row that was asked for, in its order, read back by a plain reader."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.decide.calibrate import expected
from foveal.decide.retrieve import ChanceOfNew, RankedNames
from foveal.manifest import Truth
from foveal.predictions import Predictions
from foveal.ship.answer import GradeTable, IdentityTable
from foveal.task import Asked, Given

PRIOR = {"grade": 1, "expected": 0.75, "probabilities": [0.5, 0.25, 0.25]}


def asked(*ids: str, scores: bool = False) -> Asked:
    return Asked(ids=ids, id_column="image", target_columns=("grade",), scores=scores)


def shares(predictions: Predictions) -> np.ndarray:
    """All of grade 0 up to a score of 0, half of 1 and 2 from one of 2 on, a line between."""
    part = np.clip(expected(predictions) / 2, 0, 1)[:, None]
    return np.concatenate([1 - part, part / 2, part / 2], axis=1)


def known(ids: list[str], labels: list[int], scores: list[float] | None = None) -> Given:
    """Labels of some cases, and the scores that they came from."""
    predictions = None
    if scores is not None:
        values = np.array(scores, dtype=np.float32)[:, None]
        predictions = Predictions.of(ids, values, columns=("expected",))
    return Given(
        ids=tuple(ids),
        labels=np.array(labels),
        predictions=predictions,
        probabilities=shares,
        prior=PRIOR,
    )


def written(path: Path, question: Asked, answer: Given) -> list[list[str]]:
    GradeTable(3).write(path, question, answer)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_rows_come_in_the_order_asked_and_the_unknown_get_the_prior(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("c", "a", "x", "b"), known(["a", "b", "c"], [0, 1, 2]))
    assert got == [["image", "grade"], ["c", "2"], ["a", "0"], ["x", "1"], ["b", "1"]]


def test_the_prior_answers_everybody_before_anything_is_known(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("a", "b", scores=True), Given(prior=PRIOR))
    prior = ["1", "0.75", "0.5", "0.25", "0.25"]
    assert got[1:] == [["a", *prior], ["b", *prior]]


def test_scores_are_the_expected_grade_and_a_probability_for_every_grade(tmp_path: Path) -> None:
    given_ = known(["a", "b", "c"], [1, 2, 0], [1.0, 2.0, -0.5])
    got = written(tmp_path / "a.csv", asked("c", "x", "b", "a", scores=True), given_)
    assert got == [
        ["image", "grade", "grade_expected", "grade_p0", "grade_p1", "grade_p2"],
        ["c", "0", "0", "1", "0", "0"],
        ["x", "1", "0.75", "0.5", "0.25", "0.25"],
        ["b", "2", "2", "0", "0.5", "0.5"],
        ["a", "1", "1", "0.5", "0.25", "0.25"],
    ]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1)


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(NAMES, unique=True, max_size=6))
def test_any_names_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "names.csv"
    got = written(path, asked(*ids), known(ids[::2], [2] * len(ids[::2])))
    assert [row[0] for row in got[1:]] == ids
    assert [row[1] for row in got[1:]] == ["2" if k % 2 == 0 else "1" for k in range(len(ids))]


def test_a_carriage_return_in_a_name_comes_back(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("a\rb"), known(["a\rb"], [2]))
    assert got[1:] == [["a\rb", "2"]]


def test_what_is_known_of_others_is_left_out(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("b"), known(["a", "b"], [0, 2]))
    assert got[1:] == [["b", "2"]]


def test_an_answer_that_does_not_fit_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    before = written(path, asked("a", "b"), known(["a"], [2]))
    with pytest.raises(ValueError, match="shorter"):
        GradeTable(3).write(path, asked("a", "b"), known(["a", "b"], [0]))
    assert before == written(path, asked("a", "b"), known(["a"], [2]))
    assert list(tmp_path.iterdir()) == [path]


def test_the_prior_by_hand() -> None:
    truth = np.array([0, 0, 3, 4])
    got = GradeTable(5).prior(truth, np.array([1.0, 1.0, 2.0, 0.0]))
    assert got == {"grade": 2, "expected": 1.5, "probabilities": [0.5, 0, 0, 0.5, 0]}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=30))
def test_no_grade_is_a_better_guess_than_the_prior(cases: list[tuple[int, int]]) -> None:
    truth, times = np.array(cases).T
    got = GradeTable(5).prior(truth, times.astype(float))
    cost = [float(times @ (truth - grade) ** 2) for grade in range(5)]
    assert cost[got["grade"]] == min(cost)
    assert got["expected"] == pytest.approx(np.repeat(truth, times).mean())
    shares = [times[truth == grade].sum() / times.sum() for grade in range(5)]
    assert got["probabilities"] == pytest.approx(shares)


def test_what_is_told_of_every_case_out_of_fold() -> None:
    predictions = Predictions.of(
        ["a", "b"], np.array([[0.25], [1.5]], dtype=np.float32), columns=("expected",)
    )
    of = Truth(
        target=np.array([0, 2]), weight=np.ones(2), group=np.arange(2), fold=np.array([0, 1])
    )
    told = GradeTable(3).out_of_fold(np.array([0, 1]), predictions, of)
    right = {"truth": [0, 2], "label": [0, 1], "score": ["0.25", "1.5"], "weight": ["1", "1"]}
    assert told == right


# --- names ----------------------------------------------------------------------------------------

NEW = "new_whale"
WHALES = ("w_a", "w_b", "w_c", "w_d")
GUESS = {"names": [NEW, "w_a"], "numbers": [0.5, 0.25]}
CHANCE = ChanceOfNew(scores=(0.0, 1.0), chances=(1.0, 0.0))


def likes(ids: list[str], values: list[list[float]]) -> Predictions:
    return Predictions.of(ids, np.array(values, dtype=np.float32), columns=WHALES)


def found(predictions: Predictions, *, k: int = 3, new: str | None = NEW, cut: float = 0.5):
    """Answers as they come from scores."""
    return Given(
        ids=predictions.ids,
        labels=RankedNames(k, new, cut)(predictions),
        predictions=predictions,
        probabilities=CHANCE,
        prior=GUESS if new else {"names": ["w_a", "w_b"], "numbers": [0.5]},
    )


def named(path: Path, form: IdentityTable, answer: Given, *ids: str, scores: bool = False):
    question = Asked(ids=ids, id_column="image", target_columns=("whale",), scores=scores)
    form.write(path, question, answer)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


VALUES = [[0.1, 0.9, 0.6, 0.2], [0.4, 0.1, 0.2, 0.3], [0.8, 0.6, 0.9, 0.7]]


def test_names_come_in_the_order_asked_best_first_with_single_spaces(tmp_path: Path) -> None:
    answer = found(likes(["a", "b", "c"], VALUES))
    got = named(tmp_path / "a.csv", IdentityTable(3, NEW), answer, "c", "x", "a", "b")
    assert got == [
        ["image", "whale"],
        ["c", "w_c w_a w_d"],
        ["x", f"{NEW} w_a"],
        ["a", f"w_b w_c {NEW}"],
        ["b", f"{NEW} w_a w_d"],
    ]


def test_scores_are_the_best_individuals_and_the_chance_of_somebody_new(tmp_path: Path) -> None:
    answer = found(likes(["a", "b", "c"], VALUES))
    form = IdentityTable(3, NEW)
    got = named(tmp_path / "a.csv", form, answer, "b", "x", "c", scores=True)
    assert got == [
        ["image", "whale", "whale_score", "whale_new"],
        ["b", f"{NEW} w_a w_d", "0.4", "0.6"],
        ["x", f"{NEW} w_a", "0.5", "0.25"],
        ["c", "w_c w_a w_d", "0.9", "0.1"],
    ]


def test_where_everybody_is_known_there_is_no_chance_of_somebody_new(tmp_path: Path) -> None:
    answer = found(likes(["a", "b", "c"], VALUES), k=2, new=None)
    form = IdentityTable(2)
    got = named(tmp_path / "a.csv", form, answer, "b", "x", scores=True)
    assert got == [
        ["image", "whale", "whale_score"],
        ["b", "w_a w_d", "0.4"],
        ["x", "w_a w_b", "0.5"],
    ]


def test_fewer_names_than_places_leave_no_spaces(tmp_path: Path) -> None:
    one = Predictions.of(["a"], np.array([[0.9]], dtype=np.float32), columns=("w_a",))
    got = named(tmp_path / "a.csv", IdentityTable(5, NEW), found(one, k=5), "a")
    assert got[1:] == [["a", f"w_a {NEW}"]]


def test_the_prior_names_everybody_before_anything_is_known(tmp_path: Path) -> None:
    form = IdentityTable(3, NEW)
    got = named(tmp_path / "a.csv", form, Given(prior=GUESS), "a", "b", scores=True)
    assert got[1:] == [[name, f"{NEW} w_a", "0.5", "0.25"] for name in "ab"]


def test_numbers_have_six_digits_at_most_also_those_of_the_prior(tmp_path: Path) -> None:
    values = likes(["a"], [[1 / 3, 0.2, 0.1, 0.0]])
    answer = replace(found(values, cut=0.9), prior={**GUESS, "numbers": [0.0, 1 / 3]})
    form = IdentityTable(1, NEW)
    got = named(tmp_path / "a.csv", form, answer, "a", "x", scores=True)
    assert got[1][2:] == ["0.333333", "0.666667"]
    assert got[2][2:] == ["0", "0.333333"]


@settings(max_examples=60, deadline=None, database=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 6),
    cut=st.sampled_from([0.0, 0.3, 0.7, float("inf")]),
)
def test_new_stands_in_an_answer_once_at_most(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, cut: float
) -> None:
    values = np.random.default_rng(seed).random((6, 4)).round(1).tolist()
    answer = found(likes(list("abcdef"), values), k=k, cut=cut)
    path = tmp_path_factory.getbasetemp() / "whales.csv"
    for _, cell in named(path, IdentityTable(k, NEW), answer, *"fxbadce")[1:]:
        names = cell.split(" ")
        assert 1 <= len(names) <= max(k, 2)
        assert len(set(names)) == len(names)
        assert set(names) <= {*WHALES, NEW}


def test_the_prior_guess_is_who_was_seen_most_and_new_as_often_as_is_told() -> None:
    who = np.array(["c", "a", NEW, "b", "b", "a", "c"])
    weight = np.array([1.0, 1.0, 3.0, 1.0, 1.0, 5.0, 1.0])  # 6 of a, 2 of b and c
    assert IdentityTable(4, NEW).prior(who, weight) == {
        "names": ["a", "b", "c", NEW],
        "numbers": [0.0, pytest.approx(1 / 7)],
    }
    for share, place in ((0.99, 0), (0.4, 0), (0.3, 1), (0.17, 1), (0.16, 3), (0.0, 3)):
        prior = IdentityTable(4, NEW, share).prior(who, weight)
        assert prior["names"].index(NEW) == place
        assert prior["numbers"] == [0.0, share]
    assert IdentityTable(3, NEW, 0.01).prior(who, weight)["names"] == ["a", "b", "c"]
    assert IdentityTable(2).prior(who, weight) == {"names": ["a", NEW], "numbers": [0.0]}
    nobody_new = IdentityTable(9, "n").prior(who, weight)
    assert nobody_new == {"names": ["a", "n", NEW, "b", "c"], "numbers": [0.0, 0.3]}


def test_what_is_told_of_every_query_out_of_fold() -> None:
    predictions = likes(["a", "b"], VALUES[:2])
    of = Truth(
        target=np.array(["w_c", NEW]), weight=np.array([1.5, 0.25]), group=np.arange(2),
        fold=np.array([0, 1]),
    )  # fmt: skip
    told = IdentityTable(3, NEW).out_of_fold(RankedNames(3, NEW, 0.5)(predictions), predictions, of)
    assert told == {
        "truth": ["w_c", NEW],
        "label": [f"w_b w_c {NEW}", f"{NEW} w_a w_d"],
        "best": ["w_b w_c w_d", "w_a w_d w_c"],
        "score": ["0.9", "0.4"],
        "weight": ["1.5", "0.25"],
    }
