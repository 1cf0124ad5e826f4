"""One class a case: rare classes are named as often as the score that counts them wants."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from foveal.decide.classes import (
    POWERS,
    ClassProbabilities,
    EvenClasses,
    Likeliest,
    OffsetClasses,
)
from foveal.decide.labels import LEAST_SCORE
from foveal.manifest import Truth
from foveal.predictions import Predictions

SHARES = np.array([0.7, 0.2, 0.07, 0.03])


def predicted(scores: np.ndarray) -> Predictions:
    columns = tuple(f"c{k}" for k in range(scores.shape[1]))
    ids = [str(k) for k in range(len(scores))]
    return Predictions.of(ids, scores.astype(np.float32), columns=columns)


def truth_of(classes: np.ndarray, weight: np.ndarray | None = None) -> Truth:
    n = len(classes)
    return Truth(
        target=np.eye(len(SHARES), dtype=np.int64)[classes],
        weight=np.ones(n) if weight is None else weight,
        group=np.arange(n),
        fold=np.arange(n) % 4,
    )


def cases(seed: int, n: int = 3000) -> tuple[Predictions, Truth, np.ndarray]:
    """Calibrated probabilities of classes that are not equally frequent."""
    rng = np.random.default_rng(seed)
    true = rng.choice(4, n, p=SHARES)
    seen = np.eye(4)[true] * 1.5 + rng.normal(0, 1, (n, 4))
    odds = np.exp(1.5 * seen) * SHARES
    return predicted(odds / odds.sum(axis=1, keepdims=True)), truth_of(true), true


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_named_where_macro_f1_wants_them_on_fresh_cases(seed: int) -> None:
    told, truth, _ = cases(seed)
    fresh, _, true = cases(seed + 100)
    even, plain = (
        kind().fit(told, truth)(fresh).argmax(axis=1) for kind in (EvenClasses, Likeliest)
    )
    macro = [f1_score(true, given, average="macro") for given in (even, plain)]
    assert macro[0] > macro[1]


def test_the_power_is_the_best_there_is_counted_by_scikit_learn() -> None:
    told, truth, true = cases(0, n=500)
    scores = np.log(np.maximum(told.matrix().values, LEAST_SCORE))
    share = truth.target.mean(axis=0)
    values = [
        f1_score(true, (scores - power * np.log(share)).argmax(axis=1), average="macro")
        for power in POWERS
    ]
    best = POWERS[int(np.argmax(values))]
    np.testing.assert_allclose(EvenClasses().fit(told, truth).offset, -best * np.log(share))


def test_weights_count_and_a_class_that_nobody_has_is_not_favoured() -> None:
    told, _, true = cases(1, n=600)
    some = np.flatnonzero(true != 3)
    weight = (true != 3).astype(float)
    found = EvenClasses().fit(told, truth_of(true, weight)).offset
    assert found[3] == 0
    only = EvenClasses().fit(predicted(told.matrix().values[some]), truth_of(true[some])).offset
    np.testing.assert_allclose(found, only)


def test_one_class_a_case_and_scores_of_0_are_possible() -> None:
    given = OffsetClasses((0.0, 9.0)).given(np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]))
    assert given.tolist() == [[False, True], [False, True], [False, True]]
    given = OffsetClasses((0.0, 0.0)).given(np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]))
    assert given.tolist() == [[True, False]] * 3


def test_shares_of_classes_sum_to_one_and_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    odds = rng.normal(size=(2000, 4))
    chance = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    true = np.array([rng.choice(4, p=row) for row in chance])
    told = predicted(chance**2 / (chance**2).sum(axis=1, keepdims=True))  # too sure, by a power
    truth = truth_of(true)
    found = ClassProbabilities().fit(told, truth)
    shares = found(told)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == chance.argmax(axis=1)).all()
    assert found.power == pytest.approx(1 / 2, abs=0.05)
