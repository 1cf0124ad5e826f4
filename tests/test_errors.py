"""The tree of errors is the one that its page draws, and a word's neighbour is found."""

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal import errors
from foveal.errors import DataError, FovealError, Stopped, nearest

CODES = {
    "FovealError": 1,
    "UsageError": 2,
    "DataError": 3,
    "ManifestError": 3,
    "TargetError": 3,
    "SplitError": 3,
    "ShapeError": 3,
    "UnreadableImage": 3,
    "StudyError": 3,
    "DiskFullError": 3,
    "WeightsError": 3,
    "TrainingError": 3,
    "MemoryBudgetError": 4,
    "Stopped": 75,
}
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
ERRORS = {name: kind for name, kind in KINDS.items() if issubclass(kind, BaseException)}


def test_every_error_has_the_exit_code_that_a_shell_expects() -> None:
    assert {name: kind.exit_code for name, kind in ERRORS.items()} == CODES


def test_the_page_draws_the_tree_as_it_is() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+) +(\d+)? +\S", errors.__doc__, re.MULTILINE)
    parents: dict[int, str] = {-1: "Exception"}
    for branch, name, code in drawn:
        depth = len(branch) // 4
        parents[depth] = name
        assert ERRORS[name].__base__.__name__ == parents[depth - 1]
        assert ERRORS[name].exit_code == int(code or DataError.exit_code)
    assert [name for _, name, _ in drawn] == list(ERRORS)


@pytest.mark.parametrize("kind", [k for k in ERRORS.values() if issubclass(k, DataError)])
def test_errors_of_data_keep_their_culprits_apart_from_the_sentence(kind: type) -> None:
    error = kind("two rows are wrong", ["row 1", "row 2"])
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (str(one), one.culprits) == ("two rows are wrong", ("row 1", "row 2"))
    assert kind("nobody").culprits == ()


def test_a_stop_is_no_error_of_the_data() -> None:
    with pytest.raises(FovealError) as caught:
        raise Stopped("the same call goes on")
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("word", "known", "words"),
    [
        ("grdae", ["image", "grade", "site"], '; did you mean "grade"?'),
        ("folds", ["fold", "folds", "bold"], '; did you mean "folds"?'),
        ("xyz", ["image", "grade"], "; there are: image, grade"),
        ("", ["image"], "; there are: image"),
        ("x", [], ""),
        ("Grade", {"grade": 1, "site": 2}, '; did you mean "grade"?'),
        ("size", (name for name in ("sizes", "seed")), '; did you mean "sizes"?'),
        ("none", (name for name in ("size", "seed")), "; there are: size, seed"),
    ],
)
def test_the_nearest_word_is_named_or_all_are(word: str, known: list, words: str) -> None:
    assert nearest(word, known) == words


def test_of_very_many_words_the_first_are_named() -> None:
    words = [f"w{k}" for k in range(5004)]
    assert nearest("zzz", words) == f"; there are: {', '.join(words[:20])} and 4,984 more"
    assert nearest("zzz", words[:20]).endswith(", w18, w19")


WORDS = st.lists(st.text("abcdef_-é", min_size=1, max_size=12), min_size=1, max_size=8)


@given(WORDS, st.data())
def test_a_known_word_is_nearest_to_itself(words: list[str], data: st.DataObject) -> None:
    word = data.draw(st.sampled_from(words))
    assert nearest(word, words) == f'; did you mean "{word}"?'


@given(WORDS, st.text("uvwxyz", max_size=12))
def test_a_word_like_no_other_gets_them_all(words: list[str], word: str) -> None:
    assert nearest(word, words) == f"; there are: {', '.join(words)}"
