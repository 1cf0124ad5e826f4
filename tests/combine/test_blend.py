import dataclasses
from functools import partialmethod

import numpy as np
import pytest
from scipy.optimize import nnls

from conftest import truth_of
from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative, PowerMean, mean
from foveal.errors import ShapeError
from foveal.predictions import Predictions

IDS = [f"case {k}" for k in range(200)]


def parts(seed: int = 0) -> tuple[list[Predictions], np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, len(IDS))
    scores = [0.5 * y + rng.normal(0, 0.3, len(y)), 2.0 * y - 1 + rng.normal(0, 3.0, len(y))]
    made = [Predictions.of(IDS, s[:, None].astype(np.float32), columns=("e",)) for s in scores]
    return made, y


def scores_of(predictions: Predictions) -> np.ndarray:
    return predictions.matrix().values[:, 0]


def test_the_mean_runs_over_those_who_have_the_column() -> None:
    a = Predictions.of(["x", "y"], np.array([[1.0, 2.0], [3.0, 4.0]]), columns=("p", "q"))
    b = Predictions.of(
        ["x", "y"],
        np.array([[5.0, 8.0], [7.0, 8.0]]),
        columns=("p", "q"),
        fold=np.array([0, 1]),
        known={0: ("p",)},
    )
    assert mean([a, b]).matrix().values.tolist() == [[3.0, 2.0], [5.0, 6.0]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = parts()
    whole = mean(made).values
    monkeypatch.setattr(Predictions, "walk", partialmethod(Predictions.walk, 7))
    assert np.array_equal(mean(made).values, whole)


def plane(value: float, *shape: int) -> Predictions:
    return Predictions(
        ids=("a",), values=np.full(6, value, dtype=np.float32), shapes=(shape,), columns=(),
        fold=np.array([-1]), seconds=np.zeros(1), peak_bytes=np.zeros(1),
    )  # fmt: skip


def test_masks_without_columns_average_too() -> None:
    assert mean([plane(1.0, 2, 3), plane(3.0, 2, 3)]).values.tolist() == [2.0] * 6


def test_masks_of_other_shapes_are_refused_though_they_hold_as_many_values() -> None:
    with pytest.raises(ShapeError, match="shapes"):
        mean([plane(1.0, 2, 3), plane(3.0, 3, 2)])


def test_other_cases_are_refused() -> None:
    made, _ = parts()
    with pytest.raises(ShapeError):
        mean([made[0], made[1].take(IDS[::-1])])


def test_the_calibrated_mean_is_on_the_scale_of_the_truth() -> None:
    made, y = parts()
    blended = scores_of(CalibratedMean().fit(made, truth_of(y))(made))
    assert np.polyfit(blended, y, 1)[0] > 0.9
    assert blended.mean() == pytest.approx(y.mean(), abs=1e-3)


def test_non_negative_weights_equal_the_augmented_problem_and_shrink_to_equal() -> None:
    made, y = parts()
    free = NonNegative(shrink=0.0).fit(made, truth_of(y))
    lined = np.stack([line(scores_of(p)) for line, p in zip(free.lines, made, strict=True)], 1)
    assert free.weights == pytest.approx(nnls(lined, y.astype(float))[0])
    strong = NonNegative(shrink=1e9).fit(made, truth_of(y))
    assert strong.weights == pytest.approx((0.5, 0.5), abs=1e-3)
    assert free.weights[0] > NonNegative().fit(made, truth_of(y)).weights[0] > 0.5


def test_label_average_is_the_mean_of_decided_grades() -> None:
    made, y = parts()
    vote = LabelAverage(5).fit(made, truth_of(y))
    labels = [cuts(p) for cuts, p in zip(vote.cuts, made, strict=True)]
    assert scores_of(vote(made)) == pytest.approx(np.mean(labels, axis=0))


def test_seconds_add_up_and_bytes_are_the_most() -> None:
    a = Predictions.of(["x"], np.ones((1, 1)), columns=("e",), seconds=0.2, peak_bytes=5.0)
    b = Predictions.of(["x"], np.ones((1, 1)), columns=("e",), seconds=0.3, peak_bytes=7.0)
    both = mean([a, b])
    assert (both.seconds[0], both.peak_bytes[0]) == (pytest.approx(0.5), 7)


COLUMNS = tuple(f"w{k}" for k in range(6))
FOLD = np.arange(30) % 3


def rows(seed: int, known: dict[int, tuple[str, ...]] | None = None) -> Predictions:
    """Scores between 0 and 1 of 30 queries; each fold may know some individuals only."""
    values = np.random.default_rng(seed).random((30, 6)).astype(np.float32)
    return Predictions.of(IDS[:30], values, columns=COLUMNS, fold=FOLD, known=known)


SOME = (
    {0: COLUMNS[:2], 1: COLUMNS[1:4], 2: ()},
    {0: COLUMNS[1:3], 1: COLUMNS[2:5]},
    {0: COLUMNS[:1], 1: COLUMNS[3:5], 2: COLUMNS[:5]},
)
"""Whom three members know; column 5 is unknown to folds 0 and 1 of them all."""


def test_a_power_of_one_is_the_mean() -> None:
    made = [rows(k, known) for k, known in enumerate(SOME)]
    joined, plain = PowerMean().fit(made, truth_of(np.zeros(30)))(made), mean(made)
    assert np.array_equal(joined.values, plain.values)
    assert joined.known == plain.known


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, 4.0])
def test_a_power_mean_runs_over_those_who_have_the_value(power: float) -> None:
    made = [rows(k, known) for k, known in enumerate(SOME)]
    values = np.stack([p.matrix().values.astype(np.float64) for p in made])
    present = np.stack([p.matrix().present for p in made])
    got = PowerMean("any", power)(made).matrix()
    np.testing.assert_array_equal(got.present, present.any(axis=0))
    for q, column in zip(*np.nonzero(got.present), strict=True):
        had = values[present[:, q, column], q, column]
        wanted = (had**power).mean() ** (1 / power)
        assert got.values[q, column] == pytest.approx(wanted, rel=1e-6)
    assert np.isfinite(got.values).all()


def test_a_column_that_nobody_has_stays_absent() -> None:
    made = [rows(k, known) for k, known in enumerate(SOME)]
    joined = PowerMean("root mean", 0.5)(made)
    assert joined.known == {0: COLUMNS[:3], 1: COLUMNS[1:5]}  # of fold 2 somebody knows all
    assert not joined.matrix().present[FOLD < 2, 5].any()
    assert joined.matrix().present[FOLD == 2].all()
    np.testing.assert_array_equal(joined.fold, FOLD)


def test_new_cases_know_whom_any_fold_knows() -> None:
    made = [
        dataclasses.replace(rows(k, {k: known[0]}), fold=np.full(30, -1))
        for k, known in enumerate(SOME)
    ]
    joined = mean(made)
    assert joined.known == {}
    assert joined.matrix().present.all()


def test_a_higher_power_trusts_the_surest_part_more() -> None:
    made = [rows(k) for k in range(3)]
    low, plain, high = (PowerMean("any", p)(made).values for p in (0.5, 1.0, 4.0))
    least, most = (f([p.values for p in made], axis=0) for f in (np.min, np.max))
    order = np.stack([least, low, plain, high, most])
    assert (np.diff(order, axis=0) >= -1e-6).all()
    assert (np.diff(order, axis=0) > 1e-6).any(axis=1).all()


def test_masks_have_power_means_too() -> None:
    made = [plane(value, 2, 3) for value in (0.25, 1.0)]
    assert PowerMean("root mean", 0.5)(made).values.tolist() == [0.5625] * 6
