from dataclasses import replace

import numpy as np
import pytest

from conftest import truth_of
from foveal.manifest import Truth
from foveal.metrics.interval import bootstrap, group_sums, paired_error, resampled, resampled_sums
from foveal.metrics.kappa import quadratic_kappa


def example(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    return y, np.clip(y + rng.integers(-1, 2, n), 0, 3)


def test_group_sums_keep_the_total() -> None:
    y, z = example()
    tally = quadratic_kappa.tally(z, truth_of(y))
    group = np.arange(400) // 7
    assert group_sums(tally, group).sum(axis=0) == pytest.approx(tally.sum(axis=0))


def test_the_interval_has_the_width_of_a_plain_bootstrap() -> None:
    y, z = example()
    tally = quadratic_kappa.tally(z, truth_of(y))
    low, high = bootstrap(quadratic_kappa, tally, np.arange(400))
    rng = np.random.default_rng(5)
    draws = [tally[rng.integers(0, 400, 400)].sum(axis=0) for _ in range(2000)]
    oracle = np.quantile([quadratic_kappa.value(d) for d in draws], [0.025, 0.975])
    assert (low, high) == pytest.approx(oracle, abs=0.01)


def test_grouped_cases_widen_the_interval() -> None:
    y, z = example(80)
    y, z, group = np.repeat(y, 10), np.repeat(z, 10), np.repeat(np.arange(80), 10)
    tally = quadratic_kappa.tally(z, truth_of(y))
    alone = np.diff(bootstrap(quadratic_kappa, tally, np.arange(800)))
    together = np.diff(bootstrap(quadratic_kappa, tally, group))
    assert together > 2 * alone


class Share:
    """The mean of 0s and 1s."""

    name = "share"

    def tally(self, labels: np.ndarray, truth: Truth) -> np.ndarray:
        return np.stack([labels, np.ones_like(labels)], axis=1)

    def pieces(self, tally: np.ndarray, labels: np.ndarray, truth: Truth) -> tuple:
        return tally, truth.group

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]


@pytest.mark.parametrize("groups", [4, 6, 12])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(groups: int) -> None:
    """Four groups: plain quantiles of resamples hold it in 4 of 5 cases."""
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        chance = np.clip(rng.normal(0.6, 0.15, groups), 0, 1)
        hits = rng.binomial(40, chance).astype(float)
        tally = np.stack([hits, np.full(groups, 40.0)], axis=1)
        low, high = bootstrap(Share(), tally, np.arange(groups))
        held.append(low <= 0.6 <= high)
    assert np.mean(held) > (0.85 if groups < 6 else 0.9)


@pytest.mark.parametrize("groups", [1, 3, 4])
def test_too_few_groups_have_no_interval(groups: int) -> None:
    y, z = example(40)
    tally = quadratic_kappa.tally(z, truth_of(y))
    assert np.isfinite(bootstrap(quadratic_kappa, tally, np.arange(40) % groups)).all() == (
        groups > 3
    )


def test_a_row_compared_with_itself_has_no_error() -> None:
    y, z = example()
    tally = quadratic_kappa.tally(z, truth_of(y))
    drawn = resampled(tally, np.arange(400))
    assert paired_error(quadratic_kappa, drawn, drawn) == 0


def test_the_error_of_a_difference_is_that_of_resamples_of_the_same_groups() -> None:
    y, z = example()
    tallies = [quadratic_kappa.tally(given, truth_of(y)) for given in (z, z[::-1])]
    group = np.arange(400) // 8
    got = paired_error(quadratic_kappa, *(resampled(tally, group) for tally in tallies))
    one, other = (quadratic_kappa.value(resampled_sums(group_sums(t, group))) for t in tallies)
    assert got == pytest.approx(np.std(one - other) * np.sqrt(50 / 49))


def test_draws_depend_on_the_seed_alone() -> None:
    sums = np.arange(12.0).reshape(6, 2)
    assert np.array_equal(resampled_sums(sums, seed=1), resampled_sums(sums, seed=1))
    assert not np.array_equal(resampled_sums(sums, seed=1), resampled_sums(sums, seed=2))


def test_groups_that_do_not_count_are_no_evidence() -> None:
    y, z = example(40)
    group, weight = np.arange(40), np.where(np.arange(40) < 8, 1.0, 0.0)
    truth = replace(truth_of(y), group=group, weight=weight)
    pieces = quadratic_kappa.pieces(quadratic_kappa.tally(z, truth), z, truth)
    few = truth.take(np.arange(8))
    alone = quadratic_kappa.tally(z[:8], few), few.group
    assert bootstrap(quadratic_kappa, *pieces) == bootstrap(quadratic_kappa, *alone)
