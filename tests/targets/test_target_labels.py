"""Labels: as columns or as words, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.errors import TargetError
from foveal.manifest import Manifest
from foveal.split import Folds
from foveal.targets.labels import Labels
from foveal.train.sampling import Mixture
from targeted import manifest


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
    assert Labels.measure(FLAGGED)["labels"] == ["nucleus", "golgi"]
    assert Labels.measure(WORDS)["labels"] == ["golgi", "nucleus"]


def test_numbers_are_in_the_order_of_their_size_before_other_words() -> None:
    of = manifest(["10 2", "16 0", "b", "1 a", ""])
    assert Labels.measure(of)["labels"] == ["0", "1", "2", "10", "16", "a", "b"]
    assert labels_of(of).encode(of).sum(axis=0).tolist() == [1] * 7


def test_an_empty_cell_among_0_and_1_is_no_word() -> None:
    with pytest.raises(TargetError, match=r"1 cells.*are empty.*0 or 1 there too") as refusal:
        Labels.measure(manifest(["0", "1", "", "1"]))
    assert ["c2" in culprit for culprit in refusal.value.culprits] == [True]
    assert Labels.measure(manifest(["0", "1", "", "0 1"]))["labels"] == ["0", "1"]


@pytest.mark.parametrize("word", ["NA", "N/A", "nan", "NaN", "null", "NULL", "None", " NA "])
@pytest.mark.parametrize("one_each", [False, True])
def test_a_word_for_what_is_not_known_is_no_label(word: str, *, one_each: bool) -> None:
    with pytest.raises(TargetError, match=r'1 cells of column "who" say that nothing') as refusal:
        Labels.measure(manifest(["a", "b", word, "a"]), one_each=one_each)
    assert refusal.value.culprits == (f'row 3 (id "c2"): {word.strip()}',)
    assert ("an empty cell" in str(refusal.value)) is not one_each
    with pytest.raises(TargetError, match=r"1 cells.*all others are 0 or 1") as refusal:
        Labels.measure(manifest(["0", "1", word, "1"]), one_each=one_each)
    assert refusal.value.culprits == ('row 3 (id "c2")',)


@pytest.mark.parametrize("name", ["none", "na", "Na", "NONE", "NA1"])
def test_a_name_that_is_like_such_a_word_is_a_label(name: str) -> None:
    for one_each in (False, True):
        found = Labels.measure(manifest([name, "b", "b"]), one_each=one_each)["labels"]
        assert set(found) == {name, "b"}
    assert set(Labels.measure(manifest([f"{name} NA", "b"]))["labels"]) == {name, "NA", "b"}


def test_one_column_of_0_and_1_is_one_label() -> None:
    of = manifest(["0", "1", "1.0", "0"])
    assert Labels.measure(of)["labels"] == ["who"]
    assert labels_of(of).encode(of).tolist() == [[0], [1], [1], [0]]
    assert labels_of(of).names_of(of).tolist() == ["", "who", "who", ""]


def test_one_column_with_any_other_number_is_words() -> None:
    of = manifest(["0", "1", "0 2", ""])
    assert Labels.measure(of)["labels"] == ["0", "1", "2"]
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


def test_a_column_without_a_name_is_refused() -> None:
    of = columns(nucleus=["0", "1"], **{"": ["1", "0"]})
    with pytest.raises(TargetError, match="1 labels have white space") as error:
        labels_of(of).encode(of)
    assert error.value.culprits == ('""',)


@pytest.mark.parametrize("name", ["Pleural Effusion", "a\tb", "a\u00a0b"])
def test_columns_may_have_white_space_in_their_names(name: str) -> None:
    of = columns(nucleus=["0", "1"], **{name: ["1", "0"]})
    assert labels_of(of).encode(of).tolist() == [[0, 1], [1, 0]]
    assert labels_of(of).names_of(of).tolist() == ["_".join(name.split()), "nucleus"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("nucleus_p", 'the column of the probability of "nucleus"'), ("a b", '"a b" is as "a_b"')],
)
def test_names_that_an_answer_would_hold_twice_are_refused(name: str, why: str) -> None:
    of = columns(nucleus=["0", "1"], a_b=["1", "1"], **{name: ["1", "0"]})
    with pytest.raises(TargetError, match="1 labels have names that answers have") as error:
        labels_of(of).encode(of)
    assert why in error.value.culprits[0]


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["alpha", "alpha/beta", "beta"], "/"),
        (["alpha", "beta", "alpha+beta"], "+"),
        (["alpha-beta-gamma", "alpha", "beta", "gamma"], "-"),
        (["rust & miner", "rust", "miner"], "&"),
        (["rust and miner", "rust", ""], "and"),
    ],
)
def test_a_mark_between_words_that_are_labels_without_it_is_refused(
    cells: list[str], mark: str
) -> None:
    with pytest.raises(TargetError, match="separated by spaces") as error:
        Labels.measure(manifest(cells))
    assert f"'{mark}'" in str(error.value)


@pytest.mark.parametrize("cells", [["T-cell", "B-cell", "cell"], ["+", "-", "+ a"], ["a/b", "a"]])
def test_a_mark_that_no_labels_stand_around_belongs_to_a_name(cells: list[str]) -> None:
    assert set(Labels.measure(manifest(cells))["labels"]) == {w for c in cells for w in c.split()}


def test_labels_that_only_upper_and_lower_case_tell_apart_are_remarked() -> None:
    of = manifest(["Cat", "cat dog", "dog"] * 5)
    said = labels_of(of).remarks(labels_of(of).encode(of), of.weight)
    assert said == ["upper and lower case alone tell labels apart: Cat, cat"]


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
    of = columns(a=["1", "0", "1", "0", "0"], b=["0", "1", "1", "0", "1"])
    with pytest.raises(TargetError, match="2 cases have no label or several") as error:
        Labels(("a", "b"), one_each=True).encode(of)
    assert error.value.culprits == ('row 3 (id "c2")', 'row 4 (id "c3")')
    one = Labels(("a", "b"), one_each=True).encode(of.take([0, 1, 4]))
    assert one.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_labels_that_say_nothing_or_little_are_remarked() -> None:
    counts = {"all": 12, "enough": 5, "few": 4, "one": 1, "nobody": 0}
    encoded = np.array([[int(k < n) for n in counts.values()] for k in range(12)])
    assert Labels(tuple(counts)).remarks(encoded, np.ones(len(encoded))) == [
        "every case has label all",
        "no case has label nobody",
        "fewer than 5 cases have label few (4), one (1): its score will be mostly luck",
    ]
    assert Labels(("enough",)).remarks(encoded[:, 1:2], np.ones(len(encoded))) == []


def test_what_batches_make_of_labels_is_told_by_weight() -> None:
    encoded = np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
    of = Labels(("a", "b"), drawn=Mixture((0.5, 0.0, 0.5)))
    alike, other = (of.remarks(encoded, np.array(w))[-1] for w in ([1.0] * 4, [1.0, 1, 1, 3]))
    assert "a 75 to" in alike
    assert "a 50 to" in other


def test_very_many_labels_take_a_line_a_kind() -> None:
    names = tuple(f"l{k}" for k in range(300))
    encoded = np.zeros((12, 300), dtype=np.int64)
    encoded[0, 100:] = encoded[:, 200:] = 1
    said = Labels(names).remarks(encoded, np.ones(len(encoded)))
    assert len(said) == 3
    assert all("and 80 more" in line for line in said)
    assert all(line.count(",") == 19 for line in said)


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["0|3|6", "0|3", "3|6", "6", "0"], "|"),
        (["0;3;6", "0;3", "3;6", "6", "0"], ";"),
        (["0,3,6", "0,3", "3,6", "6", "0"], ","),
        (["0, 3, 6", "0, 3", "3, 6", "6", "0"], ","),
        (["['0', '3', '6']", "['0']", "['3', '6']", "['6']", "[]"], "["),
        (["a b", "b|c", "a|b", "c a"], "|"),
    ],
)
def test_another_mark_between_labels_is_refused_and_named(cells: list[str], mark: str) -> None:
    with pytest.raises(TargetError, match=r"separated by spaces.*cure: spaces") as error:
        Labels.measure(manifest(cells))
    assert f"seem to use '{mark}'" in str(error.value)
    assert f'row 2 (id "c1"): {cells[1]}' in error.value.culprits


@pytest.mark.parametrize("cells", [["2,4-D", "2,4-DB atrazine"], ["a|b", "c|d e"], ["3'-cap", "x"]])
def test_a_mark_that_belongs_to_names_is_left_alone(cells: list[str]) -> None:
    names = {word for cell in cells for word in cell.split()}
    assert {*Labels.measure(manifest(cells))["labels"]} == names


def test_true_and_false_are_1_and_0() -> None:
    of = columns(a=["True", "false", "1"], b=["FALSE", "TRUE", "0"])
    assert labels_of(of).encode(of).tolist() == [[1, 0], [0, 1], [1, 0]]


SPACED = ["grey leaf spot", " common rust ", "blight", "", "common rust"]


def test_where_each_case_has_one_label_a_whole_cell_is_its_name() -> None:
    of = manifest([cell for cell in SPACED if cell])
    names = tuple(Labels.measure(of, one_each=True)["labels"])
    assert names == ("blight", "common rust", "grey leaf spot")
    target = Labels(names, one_each=True)
    assert target.encode(of).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    words = ["grey_leaf_spot", "common_rust", "blight", "common_rust"]
    assert target.names_of(of).tolist() == words
    with pytest.raises(TargetError, match="1 cases have no label") as error:
        target.encode(manifest(SPACED))
    assert error.value.culprits == ('row 4 (id "c3")',)


@pytest.mark.parametrize("rest", [[], ["x y"], ["c", "b c", "b d e"]])
def test_several_classes_in_a_cell_are_no_class_of_their_own(rest: list[str]) -> None:
    with pytest.raises(TargetError, match="seem to have several labels, where each has") as error:
        Labels.measure(manifest(["a", "b", "a b", "b", *rest]), one_each=True)
    assert error.value.culprits[0] == 'row 3 (id "c2"): a b'


@pytest.mark.parametrize(
    "names",
    [
        ["blue", "dark blue", "dark red", "light blue", "light red", "red"],
        ["rust", "common rust"],
        ["l 1", "l 2", "r 1", "r 2", "l 3"],
    ],
)
def test_names_may_share_words(names: list[str]) -> None:
    assert Labels.measure(manifest(names), one_each=True)["labels"] == sorted(names)


def test_a_class_in_two_spellings_is_refused() -> None:
    with pytest.raises(TargetError, match=r"1 classes.*two ways; cure") as error:
        Labels.measure(manifest(["2", "2.0", "1.0", "3"]), one_each=True)
    assert error.value.culprits == ('"2.0" is "2"',)
    with pytest.raises(TargetError, match=r"1 classes.*two ways; cure") as error:
        Labels.measure(manifest(["red  cell", "red cell", "white"]), one_each=True)
    assert error.value.culprits == ('"red  cell" is "red cell"',)


def test_the_truth_of_labels_is_what_the_table_says() -> None:
    of = manifest(["a", "b", "a b"] * 5, weight=np.arange(15.0))
    encoded, split = labels_of(of).encode(of), Folds(3)(of)
    truth = labels_of(of).truth(of, encoded, split)
    np.testing.assert_array_equal(truth.target, encoded)
    np.testing.assert_array_equal(truth.weight, np.arange(15.0) / 7.5)
    np.testing.assert_array_equal(truth.fold, split.fold)


def test_labels_of_cases_that_do_not_count_are_nothing_to_learn() -> None:
    of = manifest(["x", "", "", "x"], weight=["0", "1", "1", "0"])
    with pytest.raises(TargetError, match="all cases that count have no label"):
        Labels(("x",)).encode(of)


@pytest.mark.parametrize(
    ("of", "one_each"),
    [
        (replace(manifest(["a", "a", "b"]), roles={"weight": np.array(["1", "1", "0"])}), True),
        (columns(big=["1", "1"], small=["0", "0"]), False),
    ],
)
def test_where_every_label_is_alike_in_all_cases_there_is_nothing_to_learn(
    of: Manifest, *, one_each: bool
) -> None:
    names = tuple(Labels.measure(of, one_each=one_each)["labels"])
    with pytest.raises(TargetError, match=r"have the same .*nothing to learn"):
        Labels(names, one_each=one_each).encode(of)


def test_whether_the_table_has_words_is_measured() -> None:
    assert Labels.measure(WORDS)["words"]
    assert "words" not in Labels.measure(FLAGGED)
