"""Grades and names: what is refused, what is learned, and what a fold may know."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import TargetError
from foveal.manifest import Manifest
from foveal.split import Folds, QueryFolds, Split
from foveal.targets import Identity, Ordinal

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
    assert Ordinal(4).remarks(np.array([0, 2, 2])) == [
        "no case has grade 1",
        "no case has grade 3",
    ]


def test_every_case_is_sure_of_its_grade_and_the_truth_is_what_the_table_says() -> None:
    of = manifest(["0", "1", "2"] * 5, weight=np.arange(15.0))
    grades, split = Ordinal(3).encode(of), Folds(3)(of)
    np.testing.assert_array_equal(Ordinal(3).train(grades), np.eye(3)[grades])
    truth = Ordinal(3).truth(of, grades, split)
    np.testing.assert_array_equal(truth.target, grades)
    np.testing.assert_array_equal(truth.weight, np.arange(15.0))
    np.testing.assert_array_equal(truth.fold, split.fold)
    np.testing.assert_array_equal(truth.group, split.group)


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
    target = Identity(NEW, share)
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
    np.testing.assert_array_equal(truth.weight[rest], own[rest])


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
    np.testing.assert_array_equal(truth.weight, np.arange(30.0))
