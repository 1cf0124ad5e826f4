"""The threshold is the best of all there are, counted by brute force."""

import numpy as np
import pytest

from foveal.decide import sweep
from foveal.decide.sweep import Best, Cells, Histograms, best_threshold
from foveal.errors import TargetError


def cells(seed: int, n: int = 200, levels: int = 0, lattice: int = 1) -> Cells:
    """Scores that know a little of how positive a cell is; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    area = rng.integers(0, lattice + 1, n) if lattice > 1 else np.ones(n, dtype=np.int64)
    positive = rng.binomial(area, rng.beta(0.3, 2, n))
    scores = np.clip(positive / np.maximum(area, 1) * 0.3 + rng.beta(1, 3, n), 0, 1)
    scores = np.round(scores * levels) / levels if levels else scores
    return scores.astype(np.float32), positive, area


def brute(volumes: list[Cells], beta: float) -> float:
    scores, positive, area = (np.concatenate(part) for part in zip(*volumes, strict=True))
    found = []
    for threshold in np.unique(scores):
        given = scores >= threshold
        hit, size = positive[given].sum(), area[given].sum()
        below = beta**2 * positive.sum() + size
        found.append((1 + beta**2) * hit / below)
    return max(found)


def reached(volumes: list[Cells], best: Best, beta: float) -> float:
    scores, positive, area = (np.concatenate(part) for part in zip(*volumes, strict=True))
    given = scores >= np.float32(best.threshold)
    return (1 + beta**2) * positive[given].sum() / (beta**2 * positive.sum() + area[given].sum())


@pytest.mark.parametrize("bins", [4, 64, 1 << 16])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("levels", [0, 7])
@pytest.mark.parametrize("lattice", [1, 1024])
def test_it_is_the_best_of_all_thresholds(
    monkeypatch: pytest.MonkeyPatch, bins: int, beta: float, levels: int, lattice: int
) -> None:
    monkeypatch.setattr(sweep, "BINS", bins)
    monkeypatch.setattr(sweep, "CHUNK", 50)
    for seed in range(12):
        volumes = [cells(seed, 200, levels, lattice), cells(seed + 100, 30, levels, lattice)]
        best = best_threshold(volumes, beta=beta)
        assert best.value == pytest.approx(brute(volumes, beta), abs=1e-12)
        assert reached(volumes, best, beta) == pytest.approx(best.value, abs=1e-12)


def test_whole_pixels_may_say_yes_and_no() -> None:
    scores, positive, area = cells(3, 500, levels=40)
    told = scores, positive > 0, area > 0
    assert best_threshold([told]) == best_threshold([(scores, positive, area)])
    outside = scores, positive > 0, np.arange(500) % 3 > 0
    counted = scores, (positive > 0) & outside[2], outside[2].astype(int)
    assert best_threshold([(scores, counted[1], outside[2])]) == best_threshold([counted])


def test_histograms_of_parts_add_up() -> None:
    one, two = cells(0), cells(1, 333)
    both = Histograms.of([one, two])
    added = Histograms.of([one]) + Histograms.of([two])
    np.testing.assert_array_equal(both.positive, added.positive)
    np.testing.assert_array_equal(both.area, added.area)
    assert both.area.sum() == 533


def test_scores_of_one_and_of_nothing_have_a_place() -> None:
    scores = np.array([0.0, 1.0, 1.0], dtype=np.float32)
    best = best_threshold([(scores, np.array([0, 1, 1]), np.ones(3))])
    assert best.value == 1.0
    assert 0 < best.threshold <= 1


def test_without_a_positive_pixel_there_is_nothing_to_fit() -> None:
    with pytest.raises(TargetError, match="no positive pixel"):
        best_threshold([(np.ones(3, dtype=np.float32), np.zeros(3), np.ones(3))])


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.nan])
@pytest.mark.parametrize("kind", [bool, np.int64])
def test_scores_that_are_no_shares_are_refused(wrong: float, kind: type) -> None:
    scores = np.array([0.2, wrong, 0.7], dtype=np.float32)
    with pytest.raises(TargetError, match="from 0 to 1"):
        best_threshold([(scores, np.array([0, 1, 1], dtype=kind), np.ones(3, dtype=kind))])


def test_half_precision_is_cut_where_its_values_lie() -> None:
    scores, positive, area = cells(3, 3000)
    half = scores.astype(np.float16)
    wide = [(half.astype(np.float32), positive, area)]
    assert best_threshold([(half, positive, area)]) == best_threshold(wide)
