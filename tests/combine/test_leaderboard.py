import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import truth_of
from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative
from foveal.combine.leaderboard import (
    Entry,
    Verdict,
    choose,
    cross_fitted,
    fits,
    judged,
    leave_one_fold_out,
    rank,
)
from foveal.decide.thresholds import ClosedFormCuts, ExactCuts
from foveal.manifest import Text, Truth
from foveal.metrics.interval import Resamples, whole_cases
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions

MEAN = CalibratedMean()


def members(n: int = 300, noise: tuple[float, ...] = (0.8, 0.8, 3.0), seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, n)
    ids = [str(k) for k in range(n)]
    made = {
        f"m{k}": Predictions.of(
            ids, (y + rng.normal(0, s, n))[:, None].astype(np.float32), columns=("e",)
        )
        for k, s in enumerate(noise)
    }
    return made, truth_of(y)


def entry(names: tuple[str, ...], blend: Any = MEAN, decode: Any = None) -> Entry:
    decode = decode or ClosedFormCuts(5)
    return Entry(name=f"{blend.name} {names}", members=names, blend=blend, decode=decode)


def in_order(labelled: list) -> np.ndarray:
    rows = np.concatenate([judged for judged, _ in labelled])
    return np.concatenate([labels for _, labels in labelled])[np.argsort(rows)]


def test_the_judged_rows_never_reach_the_fit() -> None:
    predictions, truth = members()
    row = entry(("m0",), decode=ExactCuts(5))
    before = in_order(cross_fitted([row], leave_one_fold_out(predictions, truth))[0])
    poisoned = truth.target.copy()
    poisoned[truth.fold == 2] = 4 - poisoned[truth.fold == 2]
    after = in_order(cross_fitted([row], leave_one_fold_out(predictions, truth_of(poisoned)))[0])
    assert np.array_equal(before[truth.fold == 2], after[truth.fold == 2])
    assert not np.array_equal(before, after)


def test_labels_are_those_of_fitting_by_hand() -> None:
    predictions, truth = members()
    labels = in_order(cross_fitted([entry(("m0",))], leave_one_fold_out(predictions, truth))[0])
    for fold in range(5):
        rest, judged = np.flatnonzero(truth.fold != fold), np.flatnonzero(truth.fold == fold)
        take = [predictions["m0"].take([str(k) for k in rows]) for rows in (rest, judged)]
        lined = CalibratedMean().fit([take[0]], truth.take(rest))
        cuts = ClosedFormCuts(5).fit(lined([take[0]]), truth.take(rest))
        assert np.array_equal(labels[judged], cuts(lined([take[1]])))


class Only:
    name = "only"

    def fit(self, parts: Any, truth: Truth) -> "Only":
        return self

    def __call__(self, parts: Any) -> Predictions:
        return parts[0]


class FirstColumn:
    def fit(self, predictions: Predictions, truth: Truth) -> "FirstColumn":
        return self

    def __call__(self, predictions: Predictions, site: Text | None = None) -> np.ndarray:
        return (predictions.matrix().values[:, 0] > 0.5).astype(np.int64)


def test_scores_are_copied_for_one_fold_at_a_time() -> None:
    cases, columns = 400, 1000
    rng = np.random.default_rng(0)
    ids, names = [str(k) for k in range(cases)], tuple(map(str, range(columns)))
    predictions = {
        name: Predictions.of(ids, rng.random((cases, columns), dtype=np.float32), columns=names)
        for name in ("a", "b")
    }
    rows = [entry((name,), Only(), FirstColumn()) for name in predictions]
    truth = truth_of(rng.integers(0, 2, cases), folds=8)
    tracemalloc.start()
    rank(rows, predictions, truth, metric=quadratic_kappa)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * predictions["a"].values.nbytes


def test_cases_that_say_no_site_are_one_with_a_name() -> None:
    predictions, truth = members()
    site = np.where(np.arange(len(truth.target)) % 2, "a", "")
    (row,) = rank(
        [entry(("m0",))], predictions, replace(truth, site=site), metric=quadratic_kappa
    ).rows
    assert list(row.sites) == ["(none)", "a"]


def test_a_clear_winner_is_chosen_and_a_tie_goes_to_the_simplest() -> None:
    predictions, truth = members(noise=(0.5, 3.0, 3.0))
    rows = [entry(("m1",)), entry(("m0",)), entry(("m0", "m1"))]
    assert rank(rows, predictions, truth, metric=quadratic_kappa).chosen == 1
    same, truth = members(noise=(0.8, 0.8, 0.8))
    labelled = cross_fitted([entry(("m0",))], leave_one_fold_out(same, truth))[0]
    verdict = judged(labelled, truth, quadratic_kappa)
    tally = quadratic_kappa.tally(in_order(labelled), truth)
    assert verdict.score == quadratic_kappa.value(tally.sum(axis=0))
    kinds = [
        entry(("m0", "m1"), NonNegative()),
        entry(("m0", "m1"), LabelAverage(5)),
        entry(("m0", "m1", "m2")),
        entry(("m0", "m1")),
    ]
    ordered = [kinds[2], kinds[3], kinds[1], kinds[0]]
    assert choose(ordered, [verdict] * 4, quadratic_kappa) == 1


def test_members_below_the_floor_are_marked() -> None:
    predictions, truth = members(noise=(0.6, 0.5, 3.0))
    rows = [entry((m,)) for m in predictions]
    rows = [
        Entry(name=r.members[0], members=r.members, blend=r.blend, decode=r.decode) for r in rows
    ]
    board = rank(rows, predictions, truth, metric=quadratic_kappa, floor="m0")
    assert [row.below_floor for row in board.rows] == [False, False, True]


def test_a_member_below_the_floor_is_not_chosen_however_near() -> None:
    predictions, truth = members(noise=(0.81, 0.8))
    rows = [entry(("m0",)), entry(("m1",))]
    free = rank(rows, predictions, truth, metric=quadratic_kappa)
    assert free.rows[0].score < free.rows[1].score
    assert free.chosen == 0  # within one standard error, and first in order
    assert rank(rows, predictions, truth, metric=quadratic_kappa, floor="m1").chosen == 1


class Plain:
    """A score that is its tally."""

    name = "plain"
    pieces = whole_cases

    def tally(self, labels: Any, truth: Truth) -> np.ndarray:
        return np.asarray(labels)[:, None]

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.asarray(sums)[..., 0]


def test_an_ensemble_below_the_floor_is_not_chosen_however_near() -> None:
    """The floor is surely below the best, and it among noise around the best."""
    noise = np.random.default_rng(0).normal(0, 1, 1000)
    entries = [entry(("floor",)), entry(("a", "b")), entry(("a", "b", "c"))]
    verdicts = [
        Verdict(score=score, folds={}, sites={}, resamples=Resamples(totals[:, None], 50))
        for score, totals in ((0.5, 0 * noise), (0.4, noise), (0.6, 0 * noise))
    ]
    assert choose(entries, verdicts, Plain()) == 1
    assert choose(entries, verdicts, Plain(), "floor") == 2


def test_the_nested_score_of_a_choice_among_noise_is_not_above_its_own() -> None:
    rng = np.random.default_rng(7)
    gaps = []
    for seed in range(5):
        predictions, truth = members(n=80, noise=(4.0,) * 8, seed=seed + int(rng.integers(100)))
        rows = [entry((m,)) for m in predictions]
        board = rank(rows, predictions, truth, metric=quadratic_kappa)
        gaps.append(max(r.score for r in board.rows) - board.nested)
    assert np.mean(gaps) > 0


def test_ensembles_of_independent_members_win() -> None:
    predictions, truth = members(n=600, noise=(1.2, 1.2, 1.2))
    rows = [*(entry((m,)) for m in predictions), entry(("m0", "m1", "m2"))]
    board = rank(rows, predictions, truth, metric=quadratic_kappa)
    assert board.chosen == 3
    assert set(board.rows[3].folds) == {0, 1, 2, 3, 4}
    assert board.rows[3].interval[0] < board.rows[3].score < board.rows[3].interval[1]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_as_much_is_fitted_as_was_said(folds: int) -> None:
    predictions, truth = members()
    truth = truth_of(truth.target, folds=folds)
    rows, asked = [entry(("m0",)), entry(("m0", "m1"))], []
    rank(rows, predictions, truth, metric=quadratic_kappa, ask=lambda: asked.append(1))
    assert len(asked) == fits(rows, truth)


def test_two_folds_cannot_tell_what_the_choice_is_worth() -> None:
    predictions, truth = members()
    rows = [entry((m,)) for m in predictions]
    two = rank(rows, predictions, replace(truth, fold=truth.fold % 2), metric=quadratic_kappa)
    assert two.nested is None
    assert two.nested_interval is None
    assert rank(rows, predictions, truth, metric=quadratic_kappa).nested is not None


@pytest.mark.parametrize("folds", [3, 5])
def test_folds_without_weight_cannot_tell_what_the_choice_is_worth(folds: int) -> None:
    predictions, truth = members()
    rows = [entry((m,)) for m in predictions]
    fold = truth.fold % folds
    for counting, is_told in ((2, False), (3, True)):
        weight = (fold < counting).astype(np.float64)
        board = rank(
            rows, predictions, replace(truth, fold=fold, weight=weight), metric=quadratic_kappa
        )
        assert np.isfinite(board.rows[board.chosen].score)
        assert (board.nested is not None) == is_told
