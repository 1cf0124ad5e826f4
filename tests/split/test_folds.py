import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from conftest import aptos
from foveal.errors import SplitError
from foveal.manifest import Manifest, Window
from foveal.split import (
    Folds,
    Split,
    balanced_folds,
    by_label,
    crossed,
    groups,
    imbalance,
)
from foveal.split.folds import by_grade, by_name
from foveal.split.record import NONE, own_folds


def manifest(target: list[str], **roles: list[str]) -> Manifest:
    n = len(target)
    measured = {"sha256": np.array(roles.pop("sha256"))} if "sha256" in roles else {}
    return Manifest(
        ids=tuple(f"c{k}" for k in range(n)),
        paths=(("x",),) * n,
        id_column="id",
        target=np.array(target)[:, None],
        target_columns=("grade",),
        roles={k: np.array(v) for k, v in roles.items()},
        measured=measured,
    )


def assert_whole(fold: np.ndarray, group: np.ndarray) -> None:
    for g in np.unique(group):
        assert len(np.unique(fold[group == g])) == 1


def test_the_aptos_table_is_split_better_than_by_scikit_learn() -> None:
    group, grade = aptos()
    fold = balanced_folds(group, grade[:, None], folds=5)
    assert_whole(fold, group)
    theirs = np.zeros_like(fold)
    rival = StratifiedGroupKFold(5)
    for k, (_, held) in enumerate(rival.split(grade, grade, group)):
        theirs[held] = k
    assert imbalance(fold, [grade]) < imbalance(theirs, [grade])
    assert np.bincount(fold, minlength=5).min() > 350


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 40))
def test_groups_stay_whole_and_no_fold_is_empty(seed: int, folds: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    count = max(count, folds)
    group = np.concatenate([np.arange(count), rng.integers(0, count, 60)])
    strata = rng.integers(0, 3, (len(group), 2))
    fold = balanced_folds(group, strata, folds=folds, seed=seed)
    assert_whole(fold, group)
    assert set(fold.tolist()) == set(range(folds))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(0, 30), st.integers(1, 3))
def test_no_fold_is_empty_however_many_groups_are_alike(
    seed: int, folds: int, more: int, kinds: int
) -> None:
    """Groups that are alike are dealt, to all folds or none, before the rest is searched for."""
    rng = np.random.default_rng(seed)
    size = np.where(np.arange(folds + more) < rng.integers(0, 4), 40, rng.integers(1, 3))
    group = np.repeat(np.arange(folds + more), size)
    strata = rng.integers(0, kinds, folds + more)[group][:, None]
    fold = balanced_folds(group, strata, folds=folds, seed=seed)
    assert_whole(fold, group)
    assert set(fold.tolist()) == set(range(folds))


def test_without_groups_every_cell_is_even_to_one_case() -> None:
    rng = np.random.default_rng(0)
    strata = np.stack([rng.integers(0, 4, 997), rng.integers(0, 3, 997)], axis=1)
    both = np.column_stack([strata, crossed(*strata.T)])
    fold = balanced_folds(np.arange(997), both, folds=5)
    for cell in np.unique(strata, axis=0):
        counts = np.bincount(fold[(strata == cell).all(axis=1)], minlength=5)
        assert counts.max() - counts.min() <= 1


def labelled(n: int, groups: int, seed: int, **roles: list[str]) -> Manifest:
    """Cases of several labels, down to one of six cases; each group has labels that it favours."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    favoured = rng.normal(0, 1, (groups, 6))[group]
    has = favoured + np.array([1, 0, -1, -1.5, -2, -9]) + rng.normal(0, 1, (n, 6)) > 0
    has[:, 5] = group % (groups // 6) == 0
    names = [" ".join(f"l{k}" for k in np.flatnonzero(row)) for row in has]
    made = manifest(names, group=[str(g) for g in group], **roles)
    return replace(made, measured={"label_names": np.array(names)})


def has_of(made: Manifest) -> np.ndarray:
    sets = [text.split() for text in made.measured["label_names"].tolist()]
    return np.array([[f"l{k}" in own for k in range(6)] for own in sets])


@pytest.mark.parametrize("seed", range(4))
def test_every_label_is_spread_evenly_over_whole_groups(seed: int) -> None:
    made = labelled(400, 60, seed)
    split = Folds(5, strata=by_label)(made)
    assert_whole(split.fold, split.group)
    has = has_of(made)
    theirs = np.zeros_like(split.fold)
    classes = np.unique(made.target, return_inverse=True)[1].reshape(-1)
    with warnings.catch_warnings(action="ignore"):  # of label sets rarer than folds
        rival = StratifiedGroupKFold(5).split(classes, classes, split.group)
        for k, (_, held) in enumerate(rival):
            theirs[held] = k
    cells = [np.where(column, 0, NONE) for column in has.T]
    assert split.counted == "labels"
    assert split.imbalance == imbalance(split.fold, cells)
    assert split.imbalance < 0.6 * imbalance(theirs, cells)
    rare = np.array([has[split.fold == k, 5].any() for k in range(5)])
    assert rare.all()  # the rarest label's groups are enough for a part in every fold


def test_imbalance_is_the_share_that_would_have_to_move() -> None:
    fold = np.array([0, 0, 0, 1])
    label, absent = np.array([0, 0, NONE, 0]), np.full(4, NONE)
    assert imbalance(fold, [label]) == pytest.approx(0.5 / 3)
    assert imbalance(fold, [label, absent]) == pytest.approx(0.5 / 3)
    assert imbalance(fold, [absent]) == 0


def test_labels_are_even_in_every_site_too() -> None:
    site = [str(k % 3) for k in range(400)]
    made = labelled(400, 100, 0, site=site)
    split = Folds(4, strata=by_label)(made)
    has, place = has_of(made), np.array(site)
    cells = [np.where(column & (place == s), 0, NONE) for column in has.T for s in "012"]
    assert split.imbalance == pytest.approx(imbalance(split.fold, cells))


def test_the_table_of_folds_counts_every_label_of_a_case() -> None:
    made = labelled(60, 20, 1)
    split = Folds(3, strata=by_label)(made)
    head, *rows = [line.split() for line in split.lines()]
    assert head == ["fold", *(f"l{k}" for k in range(6)), "cases"]
    counts = np.array([[int(cell) for cell in row[1:-1]] for row in rows])
    assert counts.sum(axis=0).tolist() == has_of(made).sum(axis=0).tolist()
    assert [int(row[-1]) for row in rows] == np.bincount(split.fold).tolist()


def test_the_same_seed_gives_the_same_folds_and_another_one_others() -> None:
    strata = np.random.default_rng(0).integers(0, 3, (200, 2))
    one, same, other = (balanced_folds(np.arange(200), strata, folds=5, seed=s) for s in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_equal_pictures_share_a_fold_and_it_is_said() -> None:
    shas = [str(k // 2) for k in range(20)]
    split = Folds(5)(manifest(["0", "1"] * 10, sha256=shas))
    assert_whole(split.fold, np.arange(20) // 2)
    assert "10 pictures equal" in split.notes[0]


def test_groups_and_equal_pictures_join_into_one() -> None:
    joined, _ = groups(manifest(["0"] * 5, group=["a", "a", "b", "", ""], sha256=list("xyyzw")))
    assert joined.tolist() == [0, 0, 0, 1, 2]


def test_fewer_groups_than_folds_is_said_and_one_is_an_error() -> None:
    split = Folds(5)(manifest(["0", "1"] * 6, group=["a", "b", "c"] * 4))
    assert set(split.fold.tolist()) == {0, 1, 2}
    assert "3 folds instead of 5" in split.notes[0]
    with pytest.raises(SplitError, match="--group"):
        Folds(5)(manifest(["0", "1"], group=["a", "a"]))
    with pytest.raises(SplitError, match="at least 2"):
        Folds(1)(manifest(["0", "1"]))


def test_own_folds_are_obeyed_and_a_torn_group_is_named() -> None:
    own = manifest(["0", "1"] * 3, fold=["b", "a", "b", "a", "c", "c"])
    assert Folds(5)(own).fold.tolist() == [1, 0, 1, 0, 2, 2]
    torn = manifest(["0", "1"] * 2, fold=["a", "a", "b", "b"], group=["g", "h", "g", "i"])
    with pytest.raises(SplitError) as error:
        Folds(5)(torn)
    assert "c2" in error.value.culprits[0]
    with pytest.raises(SplitError, match="one fold only"):
        Folds(5)(manifest(["0", "1"], fold=["a", "a"]))
    with pytest.raises(SplitError, match="empty"):
        Folds(5)(manifest(["0", "1"], fold=["a", ""]))


def test_one_site_is_left_out_at_a_time() -> None:
    split = Folds("site")(manifest(["0", "1"] * 3, site=["x", "x", "y", "y", "z", "z"]))
    assert any("other groups at these 3 sites" in note for note in split.notes)
    assert split.fold.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.imbalance == 0  # of grades: that a site lies in one fold is what was asked for
    with pytest.raises(SplitError, match="--site"):
        Folds("site")(manifest(["0", "1"]))


def test_a_case_without_a_site_is_of_no_site_that_could_be_left_out() -> None:
    some = manifest(["0", "1"] * 3, site=["x", "", "y", "y", "", "x"])
    with pytest.raises(SplitError, match=r"2 rows .* empty cell in the site column; cure") as error:
        Folds("site")(some)
    assert error.value.culprits == (some.name(1), some.name(4))
    assert Folds(2)(some).fold.max() == 1


def test_sites_are_balanced_too() -> None:
    rng = np.random.default_rng(3)
    grade, site = rng.integers(0, 3, 400), (rng.random(400) < 0.2).astype(int)
    made = manifest([str(g) for g in grade], site=[str(s) for s in site])
    fold = Folds(4)(made).fold
    assert np.ptp(np.bincount(fold[site == 1], minlength=4)) <= 3


def test_parts_of_a_case_are_units_with_names_and_windows() -> None:
    table = manifest(["m0", "m1"])
    windows = [Window(top=0, left=64 * k, height=32, width=64) for k in range(2)]
    made = Split(
        fold=np.array([0, 1, 0, 1]),
        hidden=np.full(4, -1),
        group=np.arange(4),
        kind=np.array(["part"] * 4),
        imbalance=0.0,
        row=np.array([0, 0, 1, 1]),
        window=(*windows, *windows),
    )
    units = made.units(table)
    assert units.ids == ("c0/0", "c0/1", "c1/0", "c1/1")
    assert units.case(3).window == windows[1]
    assert units.case(3).paths == table.case(1).paths
    back = Split.from_csv(made.to_csv(table.ids), table.ids)
    assert back is not None
    assert back.window == made.window
    assert back.row is not None
    assert back.row.tolist() == [0, 0, 1, 1]
    assert back.units(table).ids == units.ids
    whole = Folds(2)(manifest(["0", "1"] * 4))
    assert whole.units(table) is table


def own(fold: list[str]) -> Manifest:
    return manifest([str(k % 2) for k in range(len(fold))], fold=fold)


def test_own_folds_that_are_numbers_keep_their_order() -> None:
    of = own([str(k % 12) for k in range(36)])
    np.testing.assert_array_equal(own_folds(of, empty_is_none=False), np.arange(36) % 12)


def test_a_fold_that_would_learn_from_nothing_that_counts_is_named() -> None:
    of = own(["a", "b", "a", "b"])
    made = Folds(2)(of)
    assert made.require_weight(np.ones(4)) is made
    with pytest.raises(SplitError, match="weight of 0") as error:
        made.require_weight(np.array([1.0, 0.0, 2.0, 0.0]))
    assert error.value.culprits == ("fold 0",)


def test_folds_that_learn_from_cases_that_are_all_alike_are_told_of() -> None:
    split = Folds(2)(manifest(["0", "0", "1", "1"], group=["a", "a", "b", "b"]))
    alone = [note for note in split.notes if "alone" in note]
    assert len(alone) == 2
    assert 'fold 0 learns from cases of "' in alone[0]
    assert not any("alone" in n for n in Folds(2)(manifest(["0", "1"] * 4)).notes)


def test_own_folds_say_where_others_were_asked_for() -> None:
    own = manifest(["0", "1"] * 3, fold=["b", "a", "b", "a", "c", "c"])
    assert "3 folds by their column, where folds=5 was asked for" in Folds(5)(own).notes
    assert not Folds(3)(own).notes


def test_names_of_any_kind_come_back_from_the_file() -> None:
    made = Folds(2)(manifest(["0", "1"] * 4))
    ids = ("a\rb", 'c"d', "e,f", "g\nh", "i\r\nj", "k", " l", "")
    back = Split.from_csv(made.to_csv(ids), ids)
    assert back is not None
    np.testing.assert_array_equal(back.fold, made.fold)


def test_grades_are_one_class_however_they_are_written() -> None:
    made = Folds(2, strata=by_grade)(manifest(["0", "0.0", "1", "1.0", "2", "2e0"] * 4))
    assert set(made.kind.tolist()) == {"0", "1", "2"}
    assert all(np.ptp(np.bincount(made.fold[made.kind == k])) == 0 for k in "012")


def test_a_class_that_one_fold_has_alone_is_told_of() -> None:
    grade = ["0", "1", "2"] * 8
    group = ["one" if g == "2" else f"{k}" for k, g in enumerate(grade)]
    (note,) = Folds(3)(manifest(grade, group=group)).notes
    assert note.startswith('all cases of "2" are in fold ')
    assert "never saw it; cure: another --group" in note


def test_labels_are_told_of_one_by_one_not_by_what_occurs_together() -> None:
    names = ["a", "b", "a b", "a b", "c", "a c", "b", "a"] * 2
    made = manifest(names, group=[f"{k // 2 if 'c' not in n else 9}" for k, n in enumerate(names)])
    notes = Folds(2, strata=by_label)(
        replace(made, measured={"label_names": np.array(names)})
    ).notes
    assert [note.split('"')[1] for note in notes] == ["c"]


def test_cases_of_no_weight_are_no_part_of_the_balance() -> None:
    rng = np.random.default_rng(0)
    grades = rng.permutation(["0", "1"] * 100).tolist()
    weight = np.zeros(200)
    weight[rng.choice(200, 20, replace=False)] = 1
    made = Folds(5)(manifest(grades, weight=[str(w) for w in weight]))
    counted = [sorted(np.array(grades)[(weight > 0) & (made.fold == k)]) for k in range(5)]
    zeros = [row.count("0") for row in counted]
    assert max(map(len, counted)) - min(map(len, counted)) <= 1
    assert max(zeros) - min(zeros) <= 1
    assert np.bincount(made.fold).min() > 30  # the others are spread too
    assert sum(map(int, made.lines()[1].split()[1:-1])) == len(counted[0])


def test_a_fold_whose_grades_do_not_count_is_told_of() -> None:
    grades = ["0"] * 40 + ["1"] * 20
    weight = ["1"] * 41 + ["0"] * 19
    notes = Folds(5)(manifest(grades, weight=weight)).notes
    assert any('learns from cases of "0" alone' in note for note in notes)


def test_folds_that_tear_a_group_have_a_cure_of_their_own() -> None:
    twice = manifest(["0", "1"] * 4, site=list("aabbccdd"), sha256=list("stuvwxys"))
    with pytest.raises(SplitError, match="cure: leave all but one of them out") as error:
        Folds("site")(twice)
    assert len(error.value.culprits) == 1
    own = replace(twice, roles={"fold": np.array(list("01010101"))})
    with pytest.raises(SplitError, match=r"one fold a group$"):
        Folds(2)(replace(own, measured={"sha256": np.array(list("aabbccdd"))}))
    with pytest.raises(SplitError, match="near_duplicates=false"):
        Folds(2, near=True)(replace(own, measured={"look": np.array(list("aabbccdd"))}))


def test_classes_by_name_are_spread_as_labels_would_be() -> None:
    rng = np.random.default_rng(0)
    names = rng.choice(list("abcd"), 300, p=[0.6, 0.2, 0.15, 0.05])
    of = manifest(names.tolist(), site=rng.choice(list("xy"), 300).tolist())
    of = replace(of, measured={"label_names": names})
    made = Folds(5, strata=by_name)(of)
    counts = [np.bincount(made.fold[names == name], minlength=5) for name in "abcd"]
    assert all(np.ptp(count) <= 1 for count in counts)
    assert made.lines()[0].split() == ["fold", "a", "b", "c", "d", "cases"]
