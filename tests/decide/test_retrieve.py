"""Likeness, the best names and the place of "someone new" against plain loops."""

import json
import math
from functools import partialmethod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import truth_of
from foveal.decide import retrieve
from foveal.decide.retrieve import (
    ChanceOfNew,
    NewCut,
    NewProbability,
    RankedNames,
    likeness,
    ranked,
    top,
    unit,
)
from foveal.digests import describe, revive
from foveal.metrics import MapAtK
from foveal.predictions import Predictions

NEW = "new_whale"


# --- likeness -------------------------------------------------------------------------------------


def space(seed: int, queries: int = 9, pictures: int = 17, individuals: int = 6):
    """Queries, a gallery and its owners in no order; some individuals have no picture."""
    rng = np.random.default_rng(seed)
    places = [unit(rng.normal(size=(n, 5)).astype(np.float32)) for n in (queries, pictures)]
    return *places, rng.choice(individuals - 2, pictures) + 1


def slowly(queries: np.ndarray, gallery: np.ndarray, owner: np.ndarray, n: int, nearest: float):
    """The same with plain loops."""
    out = np.zeros((len(queries), n))
    for q, query in enumerate(queries.astype(np.float64)):
        for name in range(n):
            cosines = [
                float(query @ picture)
                for picture, whose in zip(gallery.astype(np.float64), owner, strict=True)
                if whose == name
            ]
            if cosines:
                blend = (1 - nearest) * np.mean(cosines) + nearest * max(cosines)
                out[q, name] = (1 + blend) / 2
    return out


@pytest.mark.parametrize("nearest", [0.0, 0.3, 0.5, 1.0])
def test_likeness_is_the_mean_the_best_or_a_blend_of_cosines(nearest: float) -> None:
    for seed in range(10):
        queries, gallery, owner = space(seed)
        got = likeness(queries, gallery, owner, individuals=6, nearest=nearest)
        np.testing.assert_allclose(got, slowly(queries, gallery, owner, 6, nearest), atol=1e-6)
        assert (got[:, [0, 5]] == 0).all()  # nobody without a picture is like anybody


@settings(max_examples=60, deadline=None, database=None)
@given(
    seed=st.integers(0, 10**6),
    pictures=st.sampled_from([1, 5, 40]),
    individuals=st.sampled_from([3, 5, 12]),
    nearest=st.sampled_from([0.0, 0.5, 1.0]),
    sizes=st.sampled_from([(1, 1, 1), (30, 4, 3), (1000, 7, 2), (9, 1000, 1000)]),
)
def test_how_much_is_compared_at_a_time_changes_nothing(
    seed: int, pictures: int, individuals: int, nearest: float, sizes: tuple[int, ...]
) -> None:
    queries, gallery, owner = space(seed, pictures=pictures, individuals=individuals)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("BLOCK_VALUES", "TILE", "ROWS"), sizes, strict=True):
            patch.setattr(retrieve, name, size)
        got = likeness(queries, gallery, owner, individuals=individuals, nearest=nearest)
    wanted = slowly(queries, gallery, owner, individuals, nearest)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert got.dtype == np.float32


def test_one_individual_may_have_very_many_pictures() -> None:
    queries, gallery, _ = space(0, pictures=300)
    owner = np.where(np.arange(300) % 10 == 0, np.arange(300) % 4, 5)
    got = likeness(queries, gallery, owner, individuals=7, nearest=1.0)
    np.testing.assert_allclose(got, slowly(queries, gallery, owner, 7, 1.0), atol=1e-6)


@pytest.mark.parametrize("nearest", [0.0, 0.5, 1.0])
def test_likeness_lies_between_0_and_1_also_where_rounding_says_more(nearest: float) -> None:
    same = unit(np.full((3, 7), 0.3, dtype=np.float32))
    got = likeness(same, np.concatenate([same, -same]), np.array([1, 1, 1, 0, 0, 0]),
                   individuals=2, nearest=nearest)  # fmt: skip
    assert got.min() >= 0
    assert got.max() <= 1
    np.testing.assert_allclose(got, [[0, 1]] * 3, atol=1e-6)


def test_no_gallery_and_no_query_are_answered_too() -> None:
    queries, gallery, owner = space(0)
    none = likeness(queries, gallery[:0], owner[:0], individuals=3, nearest=0.5)
    np.testing.assert_array_equal(none, np.zeros((len(queries), 3)))
    assert likeness(queries[:0], gallery, owner, individuals=6, nearest=0.5).shape == (0, 6)


def test_unit_rows_have_length_1_and_zeros_stay() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)


# --- the best names -------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, database=None)
@given(
    seed=st.integers(0, 10**6),
    columns=st.integers(1, 12),
    k=st.integers(1, 7),
    levels=st.sampled_from([2, 4, 1000]),
)
def test_top_is_a_full_stable_sort(seed: int, columns: int, k: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, levels, (5, columns)) / levels).astype(np.float32)
    present = rng.random(values.shape) < 0.7
    column, score = top(values, present, k)
    assert column.shape == score.shape == (5, k)
    for row in range(5):
        seen = [c for c in range(columns) if present[row, c]]
        wanted = sorted(seen, key=lambda c: -values[row, c])[:k]
        assert column[row, : len(wanted)].tolist() == wanted
        np.testing.assert_array_equal(score[row, : len(wanted)], values[row, wanted])
        assert (score[row, len(wanted) :] == -np.inf).all()


def said(
    seed: int, queries: int = 12, columns: int = 7, *, levels: int = 8, folds: int = 3
) -> Predictions:
    """Scores with ties; every fold knows other individuals."""
    rng = np.random.default_rng(seed)
    names = tuple(f"w{k}" for k in range(columns))
    known = {f: tuple(n for n in names if rng.random() < 0.7) for f in range(folds)}
    values = (rng.integers(0, levels + 1, (queries, columns)) / levels).astype(np.float32)
    return Predictions.of(
        [f"q{k}" for k in range(queries)],
        values,
        columns=names,
        fold=np.arange(queries) % folds,
        known=known,
    )


def best(predictions: Predictions, row: int) -> list[tuple[str, float]]:
    """The names that a query's fold knows, best first, with a plain sort."""
    names, fold = predictions.columns, int(predictions.fold[row])
    scores = dict(zip(names, predictions.matrix().values[row].tolist(), strict=True))
    seen = [n for n in names if n in predictions.known.get(fold, names)]
    return sorted(((n, scores[n]) for n in seen), key=lambda pair: -pair[1])


def listed(predictions: Predictions, row: int, k: int, new: str | None, cut: float) -> list[str]:
    """The answer, with plain lists."""
    names = best(predictions, row)
    if new is None:
        answer = [n for n, _ in names]
    else:
        before = [n for n, score in names[:k] if score >= cut]
        answer = [*before, new, *(n for n, _ in names if n not in before)]
    return [*answer, *[""] * k][:k]


@settings(max_examples=60, deadline=None, database=None)
@given(
    seed=st.integers(0, 10**6),
    columns=st.integers(1, 9),
    k=st.integers(1, 6),
    cut=st.sampled_from([0.0, 0.25, 0.5, 0.99, 1.0, math.inf]),
    new=st.sampled_from([None, NEW, "n"]),
)
def test_an_answer_has_new_where_it_belongs_and_nobody_twice(
    seed: int, columns: int, k: int, cut: float, new: str | None
) -> None:
    predictions = said(seed, columns=columns)
    got = RankedNames(k, new, cut)(predictions)
    assert got.shape == (len(predictions), k)
    for row, answer in enumerate(got.tolist()):
        assert answer == listed(predictions, row, k, new, cut)
        given_ = [name for name in answer if name]
        assert len(set(given_)) == len(given_)


def test_a_cut_below_every_score_puts_new_behind_all_names() -> None:
    predictions = said(0, columns=3)
    got = RankedNames(4, NEW, -math.inf)(predictions)
    for row, answer in enumerate(got.tolist()):
        assert answer == listed(predictions, row, 4, NEW, -math.inf)


@settings(max_examples=40, deadline=None, database=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8))
def test_nobody_whom_a_fold_does_not_know_is_ever_named(seed: int, k: int) -> None:
    predictions = said(seed)
    for answer in (
        ranked(predictions, k)[0],
        RankedNames(k, NEW, 0.4)(predictions),
        RankedNames(k, None, -math.inf)(predictions),
    ):
        for row, names in enumerate(answer.tolist()):
            known = predictions.known[int(predictions.fold[row])]
            assert set(names) <= {*known, NEW, ""}


def test_how_many_queries_are_ranked_at_a_time_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictions = said(0, queries=23)
    names, scores = ranked(predictions, 4)
    walk = Predictions.walk
    for values in (1, 15, 50):
        monkeypatch.setattr(Predictions, "walk", partialmethod(walk, values))
        again = ranked(predictions, 4)
        np.testing.assert_array_equal(again[0], names)
        np.testing.assert_array_equal(again[1], scores)


def test_no_queries_have_no_answers() -> None:
    assert RankedNames(5, NEW, 0.5)(said(0).take([])).shape == (0, 5)
    assert ranked(said(0).take([]), 3)[1].shape == (0, 3)


# --- the cut --------------------------------------------------------------------------------------


def queries(seed: int, levels: int = 8):
    """Scores of queries, and the truth: new ones, known ones, and ones the fold cannot name."""
    rng = np.random.default_rng(seed)
    predictions = said(seed, queries=30, levels=levels)
    names = rng.choice([NEW, NEW, NEW, *predictions.columns], 30)
    return predictions, truth_of(names, rng.uniform(0.2, 3, 30), folds=3)


@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_no_cut_is_better_than_the_one_that_is_fitted(k: int, levels: int) -> None:
    metric = MapAtK(k)
    for seed in range(6):
        predictions, truth = queries(seed, levels)

        def reached(cut: float, predictions=predictions, truth=truth) -> float:
            answers = RankedNames(k, NEW, cut)(predictions)
            return float(metric.value(metric.tally(answers, truth).sum(axis=0)))

        fitted = NewCut(k, NEW).fit(predictions, truth)
        tried = [-math.inf, math.inf, *np.unique(predictions.values).tolist()]
        assert reached(fitted.cut) == pytest.approx(max(map(reached, tried)))


def test_the_cut_follows_the_weights() -> None:
    predictions, truth = queries(0)
    is_new = truth.target == NEW
    heavy = [
        NewCut(5, NEW).fit(predictions, truth_of(truth.target, np.where(is_new, new, 1.0), folds=3))
        for new in (1e3, 1e-3)
    ]
    first = [(fit(predictions)[:, 0] == NEW).mean() for fit in heavy]
    assert first[0] == 1
    assert first[1] < 0.5


def test_where_everybody_is_known_nothing_is_cut() -> None:
    predictions, truth = queries(0)
    fitted = NewCut(4, None).fit(predictions, truth)
    assert fitted == RankedNames(4, None, -math.inf)
    for row, answer in enumerate(fitted(predictions).tolist()):
        assert answer == listed(predictions, row, 4, None, 0.0)


@pytest.mark.parametrize(
    "fitted", [RankedNames(5, NEW, 0.125), RankedNames(3, None, -math.inf), RankedNames(1, "", 0.5),
               RankedNames(5, NEW, math.inf)],
)  # fmt: skip
def test_a_rule_for_names_comes_back_from_json(fitted: RankedNames) -> None:
    again = revive(json.loads(json.dumps(describe(fitted))))
    assert again == fitted
    np.testing.assert_array_equal(again(said(0)), fitted(said(0)))


# --- the probability ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, database=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 1000]))
def test_the_chance_of_somebody_new_falls_with_the_best_score(seed: int, levels: int) -> None:
    predictions, truth = queries(seed, levels)
    fitted = NewProbability(NEW).fit(predictions, truth)
    chances = fitted(predictions)
    least = 0.5 / (1 + np.count_nonzero(truth.weight))
    assert least <= chances.min() <= chances.max() <= 1 - least
    score = ranked(predictions, 1)[1][:, 0]
    assert (np.diff(chances[np.argsort(score)]) <= 1e-12).all()
    share = truth.weight[truth.target == NEW].sum() / truth.weight.sum()
    assert np.average(chances, weights=truth.weight) == pytest.approx(share, abs=least)
    again = revive(json.loads(json.dumps(describe(fitted))))
    assert isinstance(again, ChanceOfNew)
    np.testing.assert_array_equal(again(predictions), chances)


def test_the_chance_is_linear_between_the_scores_that_were_seen() -> None:
    fitted = ChanceOfNew((0.2, 0.6), (0.9, 0.1))
    values = np.array([[0.1], [0.2], [0.3], [0.6], [0.9]], dtype=np.float32)
    got = fitted(Predictions.of(list("abcde"), values, columns=("w",)))
    np.testing.assert_allclose(got, [0.9, 0.9, 0.7, 0.1, 0.1], atol=1e-6)


def test_queries_of_no_weight_say_nothing_of_the_chance() -> None:
    predictions, truth = queries(1, 1000)
    counted = np.arange(30) % 3 != 0
    kept = [predictions.ids[k] for k in np.flatnonzero(counted)]
    mute = truth_of(truth.target, np.where(counted, truth.weight, 0.0), folds=3)
    assert NewProbability(NEW).fit(predictions, mute) == NewProbability(NEW).fit(
        predictions.take(kept), truth.take(counted)
    )


def test_where_everybody_is_known_nobody_is_new() -> None:
    predictions, truth = queries(0)
    assert (NewProbability(None).fit(predictions, truth)(predictions) == 0).all()


def test_a_fold_that_knows_nobody_finds_everybody_new() -> None:
    predictions = Predictions.of(
        ["a", "b"], np.ones((2, 2)), columns=("p", "q"), fold=np.array([0, 1]), known={0: ()}
    )
    names = RankedNames(3, NEW, 0.5)(predictions)
    assert names.tolist() == [[NEW, "", ""], ["p", "q", NEW]]
    chances = NewProbability(NEW).fit(predictions, truth_of(np.array([NEW, "p"]), folds=2))
    np.testing.assert_allclose(chances(predictions), [5 / 6, 1 / 6])  # two queries say no more


def test_what_is_kept_of_the_chance_of_somebody_new_grows_with_its_steps_alone() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((3000, 2)).astype(np.float32)
    is_new = rng.random(3000) > values.max(axis=1)
    of = Predictions.of([str(k) for k in range(3000)], values, columns=("a", "b"))
    fitted = NewProbability(NEW).fit(of, truth_of(np.where(is_new, NEW, "a")))
    assert len(fitted.scores) <= 2 * len(set(fitted.chances))
    best = np.sort(values.max(axis=1))
    chances = np.interp(best, fitted.scores, fitted.chances)
    assert (np.diff(chances) <= 0).all()
    assert chances.mean() == pytest.approx(is_new.mean(), abs=0.01)
