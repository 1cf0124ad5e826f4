"""Names: what is refused, and what a fold may know."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import TargetError
from foveal.manifest import Manifest
from foveal.split import QueryFolds, Split, identities
from foveal.split.record import NONE
from foveal.targets.identity import Identity
from targeted import manifest

NEW = "new_whale"


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
    with pytest.raises(TargetError, match='"who" are no names: empty, or with spaces') as error:
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
    assert "25 % of queries" in Identity(NEW).remarks(names, np.ones(len(names)))[0]
    assert "new_share=0.4" in Identity(NEW, 0.4).remarks(names, np.ones(len(names)))[0]
    assert "30 % of queries" in Identity("n").remarks(names, np.ones(len(names)))[0]
    assert "everybody is taken to be known" in Identity(None).remarks(names, np.ones(len(names)))[0]


def herd(seed: int, unknown: int = 12) -> list[str]:
    """Individuals with one to six pictures, and pictures of nobody known, in any order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 7, 30)
    names = [f"w{k}" for k in range(30) for _ in range(counts[k])]
    return rng.permutation([*names, *[NEW] * unknown]).tolist()


def dealt(seed: int, unknown: int = 12, weight: np.ndarray | None = None) -> tuple[Manifest, Split]:
    of = manifest(herd(seed, unknown), weight=weight)
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
    of = manifest(names, weight=np.arange(30.0))
    truth = Identity(None).truth(of, np.array(names), QueryFolds(None, folds=3)(of))
    assert truth.target.tolist() == names
    np.testing.assert_array_equal(truth.weight, np.arange(30.0) / 15)


def test_individuals_that_do_not_count_are_nobody_to_tell_apart() -> None:
    of = manifest(["a", "b", NEW, "a"], weight=["0", "1", "1", "0"])
    with pytest.raises(TargetError, match="names 1 individuals that count"):
        Identity(NEW).encode(of)


@pytest.mark.parametrize("word", ["NA", "nan", "None"])
def test_a_word_for_what_is_not_known_is_no_individual(word: str) -> None:
    of = manifest(["a", word, "b", word])
    with pytest.raises(TargetError, match=f'2 values .* say "{word}".*cure: new={word}') as error:
        Identity(new="new").encode(of)
    assert len(error.value.culprits) == 2
    assert Identity(new=word).encode(of).tolist() == ["a", word, "b", word]
