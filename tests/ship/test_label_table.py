"""The answer of labels has the table's own form, and the report counts them as others do."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from foveal.decide.labels import LabelCuts, LabelOdds
from foveal.digests import describe, revive
from foveal.manifest import Truth
from foveal.predictions import Predictions
from foveal.ship.labels import LabelTable
from foveal.ship.panels.labels import _average_precision, _f1
from foveal.task import Asked, Given

NAMES = ("golgi", "membrane", "nucleus")
PRIOR = {"labels": [False, False, True], "probabilities": [0.25, 0.125, 2 / 3]}
VALUES = [[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.5, 0.5, 0.5], [0.7, 0.2, 0.1]]
HAS = [[True, False, True], [False, False, False], [True, True, True], [True, False, False]]
CUTS, AS_THEY_ARE = LabelCuts((0.5, 0.5, 0.5)), LabelOdds((0.0,) * 3, (1.0,) * 3)


def scored(ids: str = "abcd") -> Predictions:
    return Predictions.of(list(ids), np.array(VALUES, dtype=np.float32), columns=NAMES)


def known(ids: str = "abcd") -> Given:
    """Labels of some cases, and the scores that they came from."""
    predictions = scored(ids)
    return Given(
        ids=predictions.ids,
        labels=CUTS(predictions),
        predictions=predictions,
        probabilities=AS_THEY_ARE,
        prior=PRIOR,
    )


def asked(*ids: str, columns: tuple[str, ...] = ("places",), **more: object) -> Asked:
    return Asked(**{"ids": ids, "id_column": "id", "target_columns": columns, "scores": False,
                    **more})  # fmt: skip


FORM = LabelTable(NAMES)


def written(path: Path, question: Asked, answer: Given, form: LabelTable = FORM) -> list[list[str]]:
    form.write(path, question, answer)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


# --- the answer -----------------------------------------------------------------------------------


def test_words_come_in_the_order_asked_and_the_unknown_get_the_prior(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("c", "x", "a", "b", "d"), known())
    assert got == [
        ["id", "places"],
        ["c", "golgi membrane nucleus"],
        ["x", "nucleus"],
        ["a", "golgi nucleus"],
        ["b", ""],
        ["d", "golgi"],
    ]


def test_columns_of_0_and_1_are_answered_in_columns(tmp_path: Path) -> None:
    got = written(tmp_path / "a.csv", asked("c", "x", "a", "b", columns=NAMES), known())
    assert got == [
        ["id", *NAMES],
        ["c", "1", "1", "1"],
        ["x", "0", "0", "1"],
        ["a", "1", "0", "1"],
        ["b", "0", "0", "0"],
    ]


@pytest.mark.parametrize("columns", [("places",), NAMES])
def test_scores_are_a_probability_of_every_label(tmp_path: Path, columns: tuple) -> None:
    answer = replace(known(), probabilities=LabelOdds((0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))
    question = asked("b", "x", "a", columns=columns, scores=True)
    got = written(tmp_path / "a.csv", question, answer)
    assert got[0] == ["id", *columns, "golgi_p", "membrane_p", "nucleus_p"]
    assert [row[0] for row in got] == ["id", "b", "x", "a"]
    assert [row[-3:] for row in got[1:]] == [
        ["0.2", "0.5", "0.731059"],
        ["0.25", "0.125", "0.666667"],
        ["0.9", "0.5", "0.731059"],
    ]


@pytest.mark.parametrize("columns", [("places",), NAMES])
def test_the_prior_answers_everybody_before_anything_is_known(
    tmp_path: Path, columns: tuple
) -> None:
    question = asked("a", "b", columns=columns, scores=True)
    got = written(tmp_path / "a.csv", question, Given(prior=PRIOR))
    told = ["nucleus"] if columns == ("places",) else ["0", "0", "1"]
    assert got[1:] == [[name, *told, "0.25", "0.125", "0.666667"] for name in "ab"]


def test_labels_without_scores_have_the_probabilities_of_the_prior(tmp_path: Path) -> None:
    bare = replace(known(), predictions=None, probabilities=None)
    got = written(tmp_path / "a.csv", asked("a", scores=True), bare)
    assert got[1:] == [["a", "golgi nucleus", "0.25", "0.125", "0.666667"]]


def test_what_is_known_of_others_is_left_out(tmp_path: Path) -> None:
    assert written(tmp_path / "a.csv", asked("d"), known())[1:] == [["d", "golgi"]]


def test_one_column_of_0_and_1_stays_one(tmp_path: Path) -> None:
    one = Predictions.of(["a", "b"], np.array([[0.9], [0.1]], np.float32), columns=("golgi",))
    answer = Given(ids=one.ids, labels=LabelCuts((0.5,))(one), prior={"labels": [True],
                   "probabilities": [0.75]})  # fmt: skip
    question = asked("b", "x", "a", columns=("golgi",))
    got = written(tmp_path / "a.csv", question, answer, LabelTable(("golgi",)))
    assert got == [["id", "golgi"], ["b", "0"], ["x", "1"], ["a", "1"]]


def test_an_answer_that_does_not_fit_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    before = written(path, asked("a", "b"), known())
    with pytest.raises(ValueError, match="shorter"):
        FORM.write(path, asked("a"), replace(known(), labels=np.array(HAS[:2])))
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == before
    assert list(tmp_path.iterdir()) == [path]


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=4
).filter(lambda word: not any(letter.isspace() for letter in word))
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1)


@settings(max_examples=60, deadline=None, database=None)
@given(
    names=st.lists(WORDS, unique=True, min_size=2, max_size=5),
    ids=st.lists(IDS, unique=True, max_size=5),
    seed=st.integers(0, 99),
)
def test_any_names_of_cases_and_labels_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], ids: list[str], seed: int
) -> None:
    labels = np.random.default_rng(seed).random((len(ids), len(names))) < 0.5
    answer = Given(ids=tuple(ids), labels=labels, prior={"labels": [False] * len(names),
                   "probabilities": [0.5] * len(names)})  # fmt: skip
    path, form = tmp_path_factory.getbasetemp() / "labels.csv", LabelTable(tuple(names))
    rows = written(path, asked(*ids, columns=("a, b",)), answer, form)
    assert rows[0] == ["id", "a, b"]
    assert [row[0] for row in rows[1:]] == ids
    own = [[n for n, has in zip(names, row, strict=True) if has] for row in labels.tolist()]
    assert [row[1].split() for row in rows[1:]] == own
    columns = written(path, asked(*ids, columns=tuple(names), scores=True), answer, form)
    assert columns[0] == ["id", *names, *(f"{name}_p" for name in names)]
    flags = [[str(int(has)) for has in row] for row in labels.tolist()]
    assert [row[1 : len(names) + 1] for row in columns[1:]] == flags


def test_the_form_comes_back_from_a_file() -> None:
    assert revive(describe(FORM)) == FORM


def test_the_prior_gives_what_more_than_half_of_the_weight_has() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]])
    got = FORM.prior(truth, np.array([1.0, 3.0, 0.0, 2.0]))
    assert got == {
        "labels": [False, False, True],
        "probabilities": [0.5, 0.0, pytest.approx(4 / 6)],
    }


def test_what_is_told_of_every_case_out_of_fold() -> None:
    of = Truth(
        target=np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]),
        weight=np.array([1.0, 2.0, 0.5, 1.0]),
        group=np.arange(4), fold=np.array([0, 1, 0, 1]),
    )  # fmt: skip
    told = FORM.out_of_fold(np.array(HAS), scored(), of)
    assert told == {
        "truth": ["golgi", "membrane nucleus", "", "golgi membrane nucleus"],
        "label": ["golgi nucleus", "", "golgi membrane nucleus", "golgi"],
        "weight": ["1", "2", "0.5", "1"],
        "score:golgi": ["0.9", "0.2", "0.5", "0.7"],
        "score:membrane": ["0.1", "0.3", "0.5", "0.2"],
        "score:nucleus": ["0.5", "0.4", "0.5", "0.1"],
    }


# --- the report -----------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 5, 40, 10**6])
def test_the_average_precision_is_that_of_scikit_learn_ties_included(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for n in (1, 2, 7, 60, 500):
        true = rng.random(n) < 0.3
        true[rng.integers(n)] = True
        score = np.round(np.clip(0.2 * true + rng.random(n), 0, 1) * levels) / levels
        for weight in (np.ones(n), rng.uniform(0.1, 3, n)):
            wanted = average_precision_score(true, score, sample_weight=weight)
            assert _average_precision(score, true, weight) == pytest.approx(wanted, abs=1e-9)


def test_equal_scores_are_as_good_as_chance_and_no_case_is_no_precision() -> None:
    true, even = np.array([True, False, False, True, False]), np.ones(5)
    assert _average_precision(np.full(5, 0.5), true, even) == pytest.approx(0.4)
    assert _average_precision(true.astype(float), true, even) == 1
    assert np.isnan(_average_precision(np.full(5, 0.5), np.zeros(5, dtype=bool), even))
    assert np.isnan(_average_precision(np.full(5, 0.5), true, even * ~true))


def test_the_interval_of_f1_is_around_what_scikit_learn_finds() -> None:
    rng = np.random.default_rng(0)
    true, group = rng.random((200, 40)) < 0.4, np.arange(200) // 2
    given_ = true ^ (rng.random(true.shape) < 0.2)
    for weight in (np.ones(200), rng.uniform(0.1, 3, 200)):
        found = _f1(true, given_, weight, group)
        values = [value for _, value, _ in found]
        assert values == pytest.approx(f1_score(true, given_, sample_weight=weight, average=None))
        assert all(0 < low < value < high < 1 for low, value, high in found)
        own = _f1(true[:, [35]], given_[:, [35]], weight, group)
        assert found[35] == pytest.approx(own[0])


def test_a_rare_label_that_is_always_right_has_no_doubt_and_one_of_nobody_no_f1() -> None:
    """Most resamples hold no case of it, and say nothing of it."""
    true, even, group = np.arange(40) == 7, np.ones(40), np.arange(40)
    both = np.stack([true, true & False], axis=1)
    right, nobody = _f1(both, both, even, group)
    assert right == (1, 1, 1)
    assert np.isnan(nobody).all()


@pytest.mark.parametrize(("words", "cells"), [(True, ["golgi", ""]), (False, ["1", "0"])])
def test_a_column_of_words_may_be_called_like_its_only_label(
    tmp_path: Path, *, words: bool, cells: list[str]
) -> None:
    question = asked("a", "b", columns=("golgi",))
    answer = Given(
        ids=("a", "b"),
        labels=np.array([[True], [False]]),
        prior={"labels": [False], "probabilities": [0.1]},
    )
    got = written(tmp_path / "a.csv", question, answer, LabelTable(("golgi",), words=words))
    assert [row[1] for row in got] == ["golgi", *cells]
