import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from conftest import truth_of
from foveal.metrics.kappa import quadratic_kappa


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=60))
def test_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    y, z = np.array(pairs).T
    got = float(quadratic_kappa.value(quadratic_kappa.tally(z, truth_of(y)).sum(axis=0)))
    if len({*y.tolist(), *z.tolist()}) == 1:
        assert np.isnan(got)
    else:
        oracle = cohen_kappa_score(y, z, weights="quadratic", labels=np.arange(6))
        assert got == pytest.approx(oracle, abs=1e-9)


def test_weights_count_as_repeated_cases() -> None:
    rng = np.random.default_rng(0)
    y, z, w = rng.integers(0, 4, 50), rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    weighted = quadratic_kappa.tally(z, truth_of(y, w.astype(float))).sum(axis=0)
    repeated = quadratic_kappa.tally(np.repeat(z, w), truth_of(np.repeat(y, w))).sum(axis=0)
    assert quadratic_kappa.value(weighted) == pytest.approx(quadratic_kappa.value(repeated))


def test_pools_add_up() -> None:
    rng = np.random.default_rng(1)
    y, z = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    tally = quadratic_kappa.tally(z, truth_of(y))
    parts = np.stack([tally[:20].sum(axis=0), tally[20:].sum(axis=0)])
    assert quadratic_kappa.value(parts.sum(axis=0)) == quadratic_kappa.value(tally.sum(axis=0))
    assert quadratic_kappa.value(parts).shape == (2,)
