"""The cut is the best of all there are, counted on the lists themselves."""

import numpy as np
import pytest

from foveal.decide.newcut import best_new_cut
from foveal.errors import ShapeError
from foveal.manifest import Truth
from foveal.metrics import MapAtK


def queries(seed: int, n: int = 40, k: int = 5, levels: int = 0):
    """Names, scores and truths; a third of the queries is new, some truths are not named."""
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.beta(2, 2, (n, k)), axis=1)
    scores = np.round(scores * levels) / levels if levels else scores
    rank = np.where(rng.random(n) < 1 / 3, 0, rng.integers(1, k + 2, n))
    return scores, rank, rng.uniform(0.5, 2, n)


def listed(scores: np.ndarray, rank: np.ndarray, weight: np.ndarray, cut: float) -> float:
    """MAP@k of the lists that a cut makes."""
    n, k = scores.shape
    lists = np.full((n, k), "", dtype="<U8")
    target = np.full(n, "", dtype="<U8")
    for q in range(n):
        names = [f"id{j}" for j in range(1, k + 1)]
        before = int((scores[q] >= cut).sum())
        lists[q] = [*names[:before], "new", *names[before:]][:k]
        target[q] = "new" if rank[q] == 0 else f"id{rank[q]}"
    of = Truth(target=target, weight=weight, group=np.arange(n), fold=np.zeros(n, dtype=np.int64))
    metric = MapAtK(k)
    return float(metric.value(metric.tally(lists, of).sum(axis=0)))


@pytest.mark.parametrize("levels", [0, 6])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_no_cut_is_better(k: int, levels: int) -> None:
    for seed in range(25):
        scores, rank, weight = queries(seed, 40, k, levels)
        cut, value = best_new_cut(scores, rank, weight)
        assert listed(scores, rank, weight, cut) == pytest.approx(value)
        tried = [listed(scores, rank, weight, c) for c in (*np.unique(scores), np.inf)]
        assert value == pytest.approx(max(tried))


def test_all_new_means_new_first_and_none_new_means_last() -> None:
    scores, rank, weight = queries(0)
    assert best_new_cut(scores, np.zeros_like(rank), weight) == (np.inf, pytest.approx(1))
    cut, value = best_new_cut(scores, np.ones_like(rank), weight)
    assert value == pytest.approx(1)
    assert cut <= scores[:, 0].min()


def test_fewer_identities_than_places_are_no_steps() -> None:
    scores = np.array([[0.9, -np.inf, -np.inf], [0.8, -np.inf, -np.inf]])
    cut, value = best_new_cut(scores, np.array([1, 0]), np.ones(2))
    assert cut == pytest.approx(0.85)  # in the middle of where it is the best
    assert value == 1.0


def test_the_middle_of_two_scores_that_touch_is_still_between_them() -> None:
    for low in (0.5, np.nextafter(0.5, 1)):
        scores = np.array([[np.nextafter(low, 1)], [low]])
        rank = np.array([1, 0])
        cut, value = best_new_cut(scores, rank, np.ones(2))
        assert listed(scores, rank, np.ones(2), cut) == value == 1


def test_the_cut_is_in_the_middle_of_where_it_is_the_best() -> None:
    scores = np.array([[0.9], [0.8], [0.4], [0.2]])
    cut, value = best_new_cut(scores, np.array([1, 1, 0, 0]), np.ones(4))
    assert cut == pytest.approx(0.6)
    assert value == 1


def test_scores_out_of_order_are_refused() -> None:
    with pytest.raises(ShapeError, match="best first"):
        best_new_cut(np.array([[0.1, 0.2]]), np.array([1]), np.ones(1))
