import numpy as np
import pytest
from scipy.optimize import nnls

from conftest import truth_of
from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative, mean
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
    monkeypatch.setattr(
        Predictions,
        "walk",
        lambda self: (slice(k, k + 7) if k + 7 < 200 else slice(k, 200) for k in range(0, 200, 7)),
    )
    assert np.array_equal(mean(made).values, whole)


def test_masks_without_columns_average_too() -> None:
    def one(value: float) -> Predictions:
        return Predictions(
            ids=("a",), values=np.full(6, value, dtype=np.float32), shapes=((2, 3),), columns=(),
            fold=np.array([-1]), seconds=np.zeros(1), peak_bytes=np.zeros(1),
        )  # fmt: skip

    assert mean([one(1.0), one(3.0)]).values.tolist() == [2.0] * 6


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


def test_costs_add_up() -> None:
    a = Predictions.of(["x"], np.ones((1, 1)), columns=("e",), seconds=0.2, peak_bytes=5.0)
    b = Predictions.of(["x"], np.ones((1, 1)), columns=("e",), seconds=0.3, peak_bytes=7.0)
    both = mean([a, b])
    assert (both.seconds[0], both.peak_bytes[0]) == (pytest.approx(0.5), 7)
