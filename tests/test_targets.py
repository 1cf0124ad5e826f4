"""Grades, labels and names: what is refused, what is learned, and what a fold may know."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import TargetError
from foveal.manifest import Manifest
from foveal.split import Folds, QueryFolds, Split, identities
from foveal.split.record import NONE
from foveal.targets import Identity, Labels, Ordinal

NEW = "new_whale"


def manifest(target: list[str], weight: np.ndarray | None = None) -> Manifest:
    n = len(target)
    roles = {} if weight is None else {"weight": weight.astype(np.str_)}
    return Manifest(
        ids=tuple(f"c{k}" for k in range(n)),
        paths=tuple((f"/{k}.png",) for k in range(n)),
        id_column="id",
        target=np.array(target, dtype=np.str_).reshape(-1, 1),
        target_columns=("who",),
        roles=roles,
    )


# --- grades ---------------------------------------------------------------------------------------


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
    with pytest.raises(TargetError, match="0 to 2") as error:
        Ordinal(3).encode(manifest(["0", cell, "1"]))
    assert error.value.culprits == (f'row 2 (id "c1"): {why}',)


def test_one_grade_alone_is_nothing_to_learn() -> None:
    with pytest.raises(TargetError, match="all 3 cases have grade 2"):
        Ordinal(3).encode(manifest(["2", "2", "2"]))


def test_grades_without_a_case_are_remarked() -> None:
    assert Ordinal(4).remarks(np.array([0, 2, 2])) == ["no case has grade 1, 3"]
    assert Ordinal(3).remarks(np.array([0, 1, 2])) == []


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


# --- labels ---------------------------------------------------------------------------------------


def columns(**cells: list[str]) -> Manifest:
    """A manifest whose target columns have these cells."""
    of = manifest(next(iter(cells.values())))
    return replace(of, target=np.array(list(cells.values())).T, target_columns=tuple(cells))


def labels_of(of: Manifest) -> Labels:
    return Labels(tuple(Labels.measure(of)["labels"]))


FLAGGED = columns(nucleus=["0", "1", " 1 ", "0.0"], golgi=["1.0", "0", "1", "0"])
WORDS = manifest(["golgi", "nucleus", " nucleus  golgi ", ""])


@pytest.mark.parametrize("of", [FLAGGED, WORDS], ids=["columns", "words"])
def test_columns_of_0_and_1_and_words_say_the_same(of: Manifest) -> None:
    target = Labels(("nucleus", "golgi"))
    assert sorted(Labels.measure(of)["labels"]) == ["golgi", "nucleus"]
    encoded = target.encode(of)
    assert encoded.tolist() == [[0, 1], [1, 0], [1, 1], [0, 0]]
    learned = target.train(encoded)
    assert learned.dtype == np.float32
    np.testing.assert_array_equal(learned, encoded)
    names = [set(text.split()) for text in target.names_of(of).tolist()]
    assert names == [{"golgi"}, {"nucleus"}, {"golgi", "nucleus"}, set()]


def test_labels_are_in_the_order_of_their_columns_or_of_the_alphabet() -> None:
    assert Labels.measure(FLAGGED) == {"labels": ["nucleus", "golgi"]}
    assert Labels.measure(WORDS) == {"labels": ["golgi", "nucleus"]}


def test_numbers_are_in_the_order_of_their_size_before_other_words() -> None:
    of = manifest(["10 2", "16 0", "b", "1 a", ""])
    assert Labels.measure(of) == {"labels": ["0", "1", "2", "10", "16", "a", "b"]}
    assert labels_of(of).encode(of).sum(axis=0).tolist() == [1] * 7


def test_an_empty_cell_among_0_and_1_is_no_word() -> None:
    with pytest.raises(TargetError, match=r"1 cells.*are empty.*0 or 1 there too") as refusal:
        Labels.measure(manifest(["0", "1", "", "1"]))
    assert ["c2" in culprit for culprit in refusal.value.culprits] == [True]
    assert Labels.measure(manifest(["0", "1", "", "0 1"])) == {"labels": ["0", "1"]}


def test_one_column_of_0_and_1_is_one_label() -> None:
    of = manifest(["0", "1", "1.0", "0"])
    assert Labels.measure(of) == {"labels": ["who"]}
    assert labels_of(of).encode(of).tolist() == [[0], [1], [1], [0]]
    assert labels_of(of).names_of(of).tolist() == ["", "who", "who", ""]


def test_one_column_with_any_other_number_is_words() -> None:
    of = manifest(["0", "1", "0 2", ""])
    assert Labels.measure(of) == {"labels": ["0", "1", "2"]}
    assert labels_of(of).encode(of).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]


def test_the_same_labels_in_another_order_are_the_same() -> None:
    of = manifest(["b a", "a b", "a  b a", "a"])
    target = labels_of(of)
    assert target.encode(of).tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
    assert len(set(target.names_of(of).tolist())) == 2


@pytest.mark.parametrize("cell", ["2", "", "yes", "nan", "-1", "0.5", "1 0"])
def test_what_is_neither_0_nor_1_is_named_with_row_and_column(cell: str) -> None:
    of = columns(nucleus=["0", "1", "1"], golgi=["1", cell, "0"])
    with pytest.raises(TargetError, match="1 cells are neither 0 nor 1") as error:
        labels_of(of).encode(of)
    assert error.value.culprits == (f'row 2 (id "c1"): golgi is "{cell}"',)


@pytest.mark.parametrize("name", ["golgi body", "a\tb", "a\u00a0b", ""])
def test_labels_with_white_space_in_their_names_are_refused(name: str) -> None:
    of = columns(nucleus=["0", "1"], **{name: ["1", "0"]})
    with pytest.raises(TargetError, match="1 labels have white space") as error:
        labels_of(of).encode(of)
    assert error.value.culprits == (f'"{name}"',)


@pytest.mark.parametrize(
    ("of", "what"),
    [
        (manifest(["0", "0"]), "no label in who"),
        (manifest(["1", "1"]), "all labels in who"),
        (manifest(["", " "]), "no label in who"),
        (manifest(["a b", "b a"]), "all labels in who"),
        (columns(a=["0", "0"], b=["0", "0"]), "no label in a,b"),
        (columns(a=["1", "1"], b=["1", "1"]), "all labels in a,b"),
    ],
)
def test_where_nobody_or_everybody_has_all_labels_there_is_nothing_to_learn(
    of: Manifest, what: str
) -> None:
    with pytest.raises(TargetError, match=f"all cases have {what}.*nothing to learn"):
        labels_of(of).encode(of)


def test_words_that_a_study_does_not_know_are_named_with_the_nearest() -> None:
    with pytest.raises(TargetError, match="1 words are no labels of this study") as error:
        Labels(("nucleus", "golgi")).encode(manifest(["golgi", "nucleus nuclues"]))
    assert error.value.culprits == ('row 2 (id "c1"): nuclues; did you mean "nucleus"?',)


def test_cases_with_no_label_or_several_are_named_where_each_has_one() -> None:
    of = manifest(["a", "b", "a b", "", "b"])
    with pytest.raises(TargetError, match="2 cases have no label or several") as error:
        Labels(("a", "b"), one_each=True).encode(of)
    assert error.value.culprits == ('row 3 (id "c2")', 'row 4 (id "c3")')
    one = Labels(("a", "b"), one_each=True).encode(of.take([0, 1, 4]))
    assert one.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_labels_that_say_nothing_or_little_are_remarked() -> None:
    counts = {"all": 12, "enough": 5, "few": 4, "one": 1, "nobody": 0}
    encoded = np.array([[int(k < n) for n in counts.values()] for k in range(12)])
    assert Labels(tuple(counts)).remarks(encoded) == [
        "every case has label all",
        "only 4 cases have label few: its score will be mostly luck",
        "only 1 cases have label one: its score will be mostly luck",
        "no case has label nobody",
    ]
    assert Labels(("enough",)).remarks(encoded[:, 1:2]) == []


def test_the_truth_of_labels_is_what_the_table_says() -> None:
    of = manifest(["a", "b", "a b"] * 5, weight=np.arange(15.0))
    encoded, split = labels_of(of).encode(of), Folds(3)(of)
    truth = labels_of(of).truth(of, encoded, split)
    np.testing.assert_array_equal(truth.target, encoded)
    np.testing.assert_array_equal(truth.weight, np.arange(15.0) / 7.5)
    np.testing.assert_array_equal(truth.fold, split.fold)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", "the cell is empty"),
        ("two words", '"two words" has white space'),
        ("a\tb", '"a\tb" has white space'),
        (" a", '" a" has white space'),
        ("a\u00a0b", '"a\u00a0b" has white space'),
    ],
)
@pytest.mark.parametrize("new", [None, NEW])
def test_what_is_no_name_is_named_with_its_row(cell: str, why: str, new: str | None) -> None:
    with pytest.raises(TargetError, match='1 values of column "who" are no names') as error:
        Identity(new).encode(manifest(["a", "b", cell, NEW]))
    assert error.value.culprits == (f'row 3 (id "c2"): {why}',)


@pytest.mark.parametrize(
    ("names", "new"), [(["a", "a"], None), (["a", NEW, "a"], NEW), ([NEW, NEW], NEW)]
)
def test_fewer_than_two_individuals_are_nothing_to_tell_apart(
    names: list[str], new: str | None
) -> None:
    with pytest.raises(TargetError, match=rf"names {len({*names} - {new})} individuals"):
        Identity(new).encode(manifest(names))


def test_names_stay_as_they_are_and_the_unknown_have_none_to_learn() -> None:
    names = ["w_b", NEW, "w_a", "w_b"]
    of = manifest(names)
    assert Identity.measure(of) == {"names": 3}
    assert Identity(NEW).encode(of).tolist() == names
    assert Identity(NEW).train(np.array(names)).tolist() == ["w_b", "", "w_a", "w_b"]
    assert Identity(None).train(np.array(names)).tolist() == names


def test_the_share_of_new_queries_is_said() -> None:
    names = np.array(["a", "b", "b", NEW])
    assert "25 % of queries" in Identity(NEW).remarks(names)[0]
    assert "new_share=0.4" in Identity(NEW, 0.4).remarks(names)[0]
    assert "30 % of queries" in Identity("n").remarks(names)[0]
    assert "everybody is taken to be known" in Identity(None).remarks(names)[0]


def herd(seed: int, unknown: int = 12) -> list[str]:
    """Individuals with one to six pictures, and pictures of nobody known, in any order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 7, 30)
    names = [f"w{k}" for k in range(30) for _ in range(counts[k])]
    return rng.permutation([*names, *[NEW] * unknown]).tolist()


def dealt(seed: int, unknown: int = 12, weight: np.ndarray | None = None) -> tuple[Manifest, Split]:
    of = manifest(herd(seed, unknown), weight)
    return of, QueryFolds(NEW, folds=3, seed=seed)(of)


@settings(max_examples=40, deadline=None, database=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([None, 0.05, 0.28, 0.5, 0.9]),
    unknown=st.sampled_from([0, 3, 12]),
)
def test_every_fold_has_the_expected_share_of_new_queries(
    seed: int, share: float | None, unknown: int
) -> None:
    n = len(herd(seed, unknown))
    own = np.random.default_rng(seed).uniform(0.2, 3, n).round(3)
    of, split = dealt(seed, unknown, own)
    target, own = Identity(NEW, share), own / own.mean()
    truth = target.truth(of, target.encode(of), split)
    wanted = share or (unknown / n if unknown else 0.3)
    for k in range(3):
        asked = split.fold == k
        is_new = asked & (truth.target == NEW)
        assert truth.weight[is_new].sum() / truth.weight[asked].sum() == pytest.approx(wanted)
        assert truth.weight[asked].sum() == pytest.approx(own[asked].sum())
        for kind in (is_new, asked & ~is_new):  # within a kind the user's weights hold
            factor = truth.weight[kind] / own[kind]
            np.testing.assert_allclose(factor, factor[0])
    rest = split.fold == -1
    np.testing.assert_allclose(truth.weight[rest], own[rest])


def test_folds_without_a_new_query_leave_the_share_as_expected() -> None:
    of = manifest(["a", "b"] * 6 + [NEW] * 4)
    fold = np.array([0, 0, 1, 1] * 3 + [0] * 4)
    _, split = dealt(0)
    kind = np.array([identities.KNOWN] * 12 + [identities.NEW] * 4)
    n, free = len(fold), np.full(len(fold), NONE)
    split = replace(split, fold=fold, hidden=free, group=np.arange(n), kind=kind)
    truth = Identity(NEW, 0.3).truth(of, Identity(NEW).encode(of), split)
    assert truth.weight[12:].sum() / truth.weight.sum() == pytest.approx(0.3)


@pytest.mark.parametrize(("new", "why"), [("", "empty"), ("nova ballena", "white space")])
def test_the_word_for_somebody_new_is_a_name_too(new: str, why: str) -> None:
    with pytest.raises(TargetError, match=f"new=: .*{why}"):
        Identity(new).encode(manifest(["a", "b", "c"]))


def test_a_query_of_no_weight_keeps_none() -> None:
    own = (np.arange(len(herd(0))) % 2).astype(float)
    of, split = dealt(0, weight=own)
    target = Identity(NEW, 0.4)
    assert (target.truth(of, target.encode(of), split).weight[own == 0] == 0).all()


@settings(max_examples=40, deadline=None, database=None)
@given(seed=st.integers(0, 10**6), unknown=st.sampled_from([0, 12]))
def test_a_fold_calls_new_whom_it_cannot_know(seed: int, unknown: int) -> None:
    of, split = dealt(seed, unknown)
    names = Identity(NEW).encode(of)
    truth = Identity(NEW).truth(of, names, split)
    hidden = 0
    for k in range(3):
        known = set(names[split.learns(k)].tolist()) - {NEW}
        for row in np.flatnonzero(split.fold == k):
            assert truth.target[row] == (names[row] if names[row] in known else NEW)
            hidden += names[row] != NEW and names[row] not in known
    assert hidden > 0 or unknown


def test_where_everybody_is_known_the_truth_is_what_the_table_says() -> None:
    names = [f"w{k % 6}" for k in range(30)]
    of = manifest(names, np.arange(30.0))
    truth = Identity(None).truth(of, np.array(names), QueryFolds(None, folds=3)(of))
    assert truth.target.tolist() == names
    np.testing.assert_array_equal(truth.weight, np.arange(30.0) / 15)
