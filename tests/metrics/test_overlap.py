import numpy as np
import pytest
from sklearn.metrics import f1_score, fbeta_score

from conftest import truth_of
from foveal.metrics.overlap import FBeta, MacroF1
from foveal.metrics.ranking import MapAtK


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_equals_scikit_learn(beta: float) -> None:
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, (4, 9, 7)), rng.integers(0, 2, (4, 9, 7))
    got = FBeta(beta).value(FBeta(beta).tally(z, truth_of(y)).sum(axis=0))
    assert got == pytest.approx(fbeta_score(y.ravel(), z.ravel(), beta=beta))


def test_macro_f1_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y, z = rng.integers(0, 2, (40, 5)), rng.integers(0, 2, (40, 5))
    y[:, 4] = z[:, 4] = 0
    got = MacroF1().value(MacroF1().tally(z, truth_of(y)).sum(axis=0))
    assert got == pytest.approx(f1_score(y, z, average="macro", zero_division=0))


def test_map_at_k_by_hand() -> None:
    guesses = np.array([["a", "b", "c"], ["b", "a", "c"], ["x", "y", "z"], ["q", "q", "a"]])
    metric = MapAtK(k=3)
    sums = metric.tally(guesses, truth_of(np.array(["a", "a", "a", "a"]))).sum(axis=0)
    assert metric.value(sums) == pytest.approx((1 + 1 / 2 + 0 + 1 / 3) / 4)
