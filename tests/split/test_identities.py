"""Folds that imitate a search among known individuals and new ones."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import SplitError
from foveal.split import QueryFolds, Split
from targeted import manifest


def long_tail(seed: int, individuals: int = 40, unknown: int = 12) -> list[str]:
    rng = np.random.default_rng(seed)
    counts = 1 + rng.geometric(0.35, individuals)
    counts[: individuals // 3] = 1
    names = [f"w{k}" for k in range(individuals) for _ in range(counts[k])]
    return rng.permutation([*names, *["new"] * unknown]).tolist()


def assert_imitates(made: Split, identity: np.ndarray, new: str | None, per_identity: int) -> None:
    hidden_in: dict[str, set[int]] = {}
    for k in range(made.folds):
        learned, asked = made.learns(k), made.fold == k
        assert not np.isin(made.group[asked], made.group[learned]).any()
        known = set(identity[learned].tolist()) - {new}
        for row in np.flatnonzero(asked):
            assert made.kind[row] == ("known" if identity[row] in known else "new")
        everybody = set(identity.tolist()) - {new}
        assert len(everybody - known) <= np.ceil(len(everybody) / made.folds) + 1
        for name in everybody - known:
            hidden_in.setdefault(name, set()).add(k)
        named = identity[asked & (identity != new)]
        assert max(np.unique(named, return_counts=True)[1], default=0) <= per_identity
    assert all(len(folds) == 1 for folds in hidden_in.values())


@given(seed=st.integers(0, 10**6), folds=st.integers(2, 6), per_identity=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_folds_imitate_the_task(seed: int, folds: int, per_identity: int) -> None:
    identity = long_tail(seed)
    split = QueryFolds("new", folds=folds, per_identity=per_identity, seed=seed)
    made = split(manifest(identity))
    assert made.folds == folds
    assert_imitates(made, np.array(identity), "new", per_identity)
    assert (made.fold[np.array(identity) == "new"] >= 0).all()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_encounters_stay_together(seed: int) -> None:
    identity = np.array(long_tail(seed))
    rng = np.random.default_rng(seed)
    encounter = [f"{name}-{rng.integers(3)}" if rng.random() < 0.8 else "" for name in identity]
    made = QueryFolds("new", folds=3, seed=seed)(manifest(identity.tolist(), encounter))
    assert_imitates(made, identity, "new", 1)
    mixed = [f"day {k}" for k in rng.integers(0, 30, len(identity))]  # several animals a day
    made = QueryFolds("new", folds=3, seed=seed)(manifest(identity.tolist(), mixed))
    for k in range(3):
        asked, learned = made.group[made.fold == k], made.group[made.learns(k)]
        assert not set(asked.tolist()) & set(learned.tolist())


def test_folds_have_as_many_queries_of_each_kind() -> None:
    made = QueryFolds("new", new_share=0.4)(manifest(long_tail(3, individuals=200, unknown=60)))
    for kind in ("known", "new"):
        counts = np.bincount(made.fold[made.kind == kind], minlength=5)
        assert np.ptp(counts) <= 2
    share = (made.kind == "new").sum() / (made.fold >= 0).sum()
    assert 0.2 < share < 0.3
    assert any("unknown to a fold" in note for note in made.notes)


def test_where_nobody_need_be_hidden_it_is_said_so() -> None:
    everybody = [f"w{k}" for k in range(6) for _ in range(30)]
    made = QueryFolds("new", folds=3)(manifest(everybody + ["new"] * 180))
    assert "no individuals are unknown to a fold, as if new" in made.notes


@pytest.mark.parametrize("new", ["new", None])
def test_many_who_were_met_once_are_told_of(new: str | None) -> None:
    often = [f"w{k}" for k in range(12) for _ in range(6)]
    for once, is_told in ((3, False), (30, True)):
        rows = [*often, *(f"s{k}" for k in range(once)), *([] if new is None else ["new"] * 20)]
        notes = " ".join(QueryFolds(new, folds=3)(manifest(rows)).notes)
        assert (f"no known query is of {once} of {12 + once} individuals" in notes) is is_told


def test_a_closed_set_hides_nobody_and_says_so() -> None:
    made = QueryFolds(None)(manifest(["a", "a", "b", "b", "b", "c"] * 3))
    assert set(made.kind.tolist()) <= {"known", "gallery"}
    assert "everybody is known" in " ".join(made.notes)


@pytest.mark.parametrize("seed", range(6))
def test_in_a_closed_set_every_query_has_an_answer(seed: int) -> None:
    """Encounters of several individuals take each other's last picture away."""
    identity = [f"w{k // 2}" for k in range(400)]
    encounter = np.random.default_rng(seed).permutation(np.arange(400) // 3)
    made = QueryFolds(None, seed=seed)(manifest(identity, [f"e{k}" for k in encounter]))
    assert {*made.kind.tolist()} == {"known", "gallery"}
    assert_imitates(made, np.array(identity), None, 1)


def test_the_same_seed_gives_the_same_folds_and_another_one_others() -> None:
    identity = long_tail(1)
    one, same, other = (QueryFolds("new", seed=s)(manifest(identity)).fold for s in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_own_folds_name_the_queries_and_empty_cells_the_gallery() -> None:
    identity = ["a", "a", "b", "b", "new", "c", "c"]
    made = QueryFolds("new")(manifest(identity, fold=["x", "", "y", "", "x", "", "y"]))
    assert made.fold.tolist() == [0, -1, 1, -1, 0, -1, 1]
    assert made.kind.tolist() == ["known", "gallery", "known", "gallery", "new", "gallery", "known"]
    together = ["g", "g", "", "", "", "", ""]
    made = QueryFolds("new")(manifest(identity, together, fold=["x", "", "y", "", "x", "", "y"]))
    assert made.kind.tolist()[:2] == ["new", "gallery"]  # its only other picture leaves with it
    with pytest.raises(SplitError, match="one fold only"):
        QueryFolds("new")(manifest(identity, fold=["x", "", "x", "", "x", "", "x"]))


def test_what_cannot_be_imitated_is_an_error() -> None:
    with pytest.raises(SplitError, match="--group"):
        QueryFolds("new")(manifest(["a", "a", "b", "b"], ["g", "g", "h", "h"]))
    with pytest.raises(SplitError, match="each has one picture; cure: two or more of some"):
        QueryFolds("new")(manifest(["a", "b", "c", "new"]))
    with pytest.raises(SplitError, match="no query would be new"):
        QueryFolds("new")(manifest(["a", "a", "b", "b"]))
    with pytest.raises(SplitError, match="at least 2"):
        QueryFolds("new", folds=1)(manifest(["a", "a", "b", "b"]))


def test_a_split_comes_back_from_its_file() -> None:
    made = QueryFolds("new")(manifest(long_tail(2)))
    ids = tuple(f"c{k}" for k in range(len(made.fold)))
    back = Split.from_csv(made.to_csv(ids), ids)
    assert back is not None
    for name in ("fold", "hidden", "group", "kind"):
        assert np.array_equal(getattr(back, name), getattr(made, name))
    assert Split.from_csv(made.to_csv(ids), (*ids[1:], "z")) is None
    assert "gallery" in made.lines()[0]


def test_a_leak_is_never_made() -> None:
    with pytest.raises(SplitError, match="leak"):
        Split(
            fold=np.array([0, 1, -1]),
            hidden=np.array([-1, -1, -1]),
            group=np.array([0, 1, 0]),
            kind=np.array(["known"] * 3),
            imbalance=0.0,
        )


def test_own_folds_say_how_many_each_does_not_know() -> None:
    identity = ["a", "a", "b", "b", "new", "c", "c", "d"]
    made = QueryFolds("new")(manifest(identity, fold=["x", "", "y", "", "x", "", "y", "y"]))
    assert "0 to 1 individuals are unknown" in " ".join(made.notes)  # d has one picture


def test_another_number_of_folds_than_was_asked_for_is_told_of() -> None:
    few = QueryFolds("new", folds=40)(manifest(["a", "a", "b", "b", "c", "c", "new", "new"]))
    made = int(few.fold.max()) + 1
    assert made < 40
    assert f"{made} folds, where folds=40 was asked for" in few.notes
    asked = QueryFolds("new", folds=5)(manifest(long_tail(0)))
    assert not any("asked for" in note for note in asked.notes)


def test_who_has_no_picture_of_any_weight_to_learn_from_is_not_known() -> None:
    names = [f"w{k}" for k in range(10) for _ in range(3)]
    weight = [str(w) for _ in range(10) for w in (1, 1, 0)]
    made = QueryFolds(None, folds=3)(manifest(names, weight=weight))
    counts = np.array(weight) != "0"
    assert (made.fold[~counts] < 0).all()
    for k in range(made.folds):
        learned = {*np.array(names)[made.learns(k) & counts].tolist()}
        assert {*np.array(names)[made.fold == k].tolist()} <= learned
    alone = [str(w) for _ in range(10) for w in (1, 0, 0)]
    with pytest.raises(SplitError, match="no query would be of a known individual"):
        QueryFolds(None, folds=3)(manifest(names, weight=alone))


def test_own_folds_that_tear_a_group_name_who_it_is() -> None:
    identity = ["a", "b"] * 4
    torn = manifest(identity, group=["g", "g", *"cdefhi"], fold=[*"01010101"])
    with pytest.raises(SplitError, match="the fold column puts 1 cases apart") as error:
        QueryFolds("new", folds=2)(torn)
    assert len(error.value.culprits) == 1


def test_in_a_closed_set_own_folds_ask_for_nobody_they_do_not_know() -> None:
    identity = ["w1", "w1", "w2", "w2", "s1", "s2", "s3", "s4"]
    made = QueryFolds(None, folds=2)(manifest(identity, fold=[*"01010101"]))
    assert (made.kind == "known").sum() == 4
    assert not (made.kind == "new").any()
    assert (made.fold[4:] == -1).all()
    assert not made.learns(0)[[4, 6]].any()  # as the column has it
    assert "4 pictures are no queries" in " ".join(made.notes)


def in_encounters(individuals: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """One to fifteen pictures of each, taken two to four at a time."""
    rng = np.random.default_rng(seed)
    identity, group = [], []
    for k in range(individuals):
        left = int(rng.integers(1, 16))
        while left > 0:
            burst = min(left, int(rng.integers(2, 5)))
            identity += [f"w{k}"] * burst
            group += [f"e{len(set(group))}"] * burst
            left -= burst
    return identity, group


@pytest.mark.parametrize("individuals", [25, 60, 200])
def test_encounters_leave_queries_of_both_kinds(individuals: int) -> None:
    """Who was met once can be hidden for nothing; of the others an encounter each is a query."""
    identity, group = in_encounters(individuals)
    made = QueryFolds("new", new_share=0.3)(manifest(identity, group))
    known, new = ((made.kind == kind).sum() for kind in ("known", "new"))
    met = Counter(dict(zip(group, identity, strict=True)).values())
    possible = sum(min(count, 5) for count in met.values() if count > 1)
    assert known > 0.6 * possible
    assert 0.1 <= new / (known + new) <= 0.35
    assert not any("rest on them" in note for note in made.notes if known >= 20 and new >= 20)


def test_few_queries_of_a_kind_are_told() -> None:
    made = QueryFolds("new")(manifest(["a", "a", "b", "b", "c", "c", "d", "e", "f", "new"]))
    told = [note for note in made.notes if "rest on them" in note]
    assert [note.split(" queries")[0] for note in told] == ["only 6", "only 1"]
