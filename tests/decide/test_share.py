"""Masks by a threshold or by a share are the best that any threshold, any share can give."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.decide.share import AboveThreshold, Absolute, HighestShare, Share, rank_share
from foveal.digests import describe, revive
from foveal.lattice import Planes
from foveal.manifest import Case, Truth
from foveal.members.volumes import as_predictions
from foveal.metrics.overlap import CellFBeta
from foveal.predictions import Predictions

KINDS = [Absolute, Share]
SHAPES = ((5, 7), (3, 9), (6, 4))


def predictions(planes: list[np.ndarray]) -> Predictions:
    cases = [Case(id=f"v{k}", paths=()) for k in range(len(planes))]
    zeros = [0.0] * len(planes)
    return as_predictions(
        cases, [p.astype(np.float32) for p in planes], seconds=zeros, peak_bytes=0
    )


def volumes(
    seed: int, levels: int = 0, lattice: int = 4, weights: str = "even"
) -> tuple[Predictions, Truth]:
    """Scores that know a little of the truth, 0 outside the region; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    scores, positive, area = [], [], []
    for k, shape in enumerate(SHAPES):
        most = rng.integers(1, lattice**2 + 1, shape) * (rng.random(shape) < 0.8)
        hit = rng.binomial(most, rng.beta(0.4, 1.5, shape))
        score = 0.4 * hit / np.maximum(most, 1) + 0.6 * rng.beta(1 + k, 3, shape)
        score = np.ceil(score * levels) / levels if levels else score
        scores.append(np.where(most > 0, np.clip(score, 1e-6, 1), 0))
        positive.append(hit.astype(np.float32))
        area.append(most.astype(np.float32))
    n = len(SHAPES)
    truth = Truth(
        target=Planes(tuple(positive), tuple(area)),
        weight=np.ones(n) if weights == "even" else rng.uniform(0.2, 3, n),
        group=np.arange(n),
        fold=np.arange(n),
    )
    return predictions(scores), truth


def value(labels: list[np.ndarray], truth: Truth, beta: float) -> float:
    metric = CellFBeta(beta)
    return float(metric.value(metric.tally(labels, truth).sum(axis=0)))


def planes_of(said: Predictions) -> list[np.ndarray]:
    return [p for _, p in said.arrays()]


def any_threshold(said: Predictions, truth: Truth, beta: float) -> float:
    """The best that one threshold for all gives, all of them tried."""
    planes = planes_of(said)
    tried = np.unique(np.concatenate([p[p > 0] for p in planes]))
    return max(value([(p >= t) for p in planes], truth, beta) for t in tried)


def highest(plane: np.ndarray, count: int) -> np.ndarray:
    """The highest cells of a plane, so many or, where some are equal, fewer."""
    inside = np.sort(plane[plane > 0])[::-1]
    if count == 0:
        return np.zeros(plane.shape, dtype=bool)
    least = inside[count - 1]
    if count < len(inside) and inside[count] == least:
        return (plane > least) & (plane > 0)
    return plane >= least


def any_share(said: Predictions, truth: Truth, beta: float) -> float:
    """The best that one share of every plane gives, all of them tried."""
    planes = planes_of(said)
    sizes = [int((p > 0).sum()) for p in planes]
    shares = {j / n for n in sizes for j in range(1, n + 1)}
    found = []
    for share in shares:
        counts = [int(np.floor(share * n + 1e-9)) for n in sizes]
        found.append(
            value([highest(p, c) for p, c in zip(planes, counts, strict=True)], truth, beta)
        )
    return max(found)


BEST = {Absolute: any_threshold, Share: any_share}


@pytest.mark.parametrize("weights", ["even", "uneven"])
@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_best_of_all(kind: type, beta: float, levels: int, weights: str) -> None:
    for seed in range(15):
        said, truth = volumes(seed, levels, weights=weights)
        got = value(kind(beta).fit(said, truth)(said), truth, beta)
        assert got == pytest.approx(BEST[kind](said, truth, beta), abs=1e-9)
        assert got > 0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_move_the_decision(kind: type) -> None:
    said, truth = volumes(3)
    found = set()
    for k in range(3):
        weight = np.where(np.arange(3) == k, 1.0, 1e-9)
        fitted = kind(1.0).fit(said, replace(truth, weight=weight))
        alone = kind(1.0).fit(said.take([f"v{k}"]), truth.take(np.array([k])))
        assert fitted(said.take([f"v{k}"]))[0].tolist() == alone(said.take([f"v{k}"]))[0].tolist()
        found.add(fitted)
    assert len(found) == 3


@pytest.mark.parametrize("beta", [0.25, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_outside_the_region_nothing_is_ever_given(kind: type, beta: float) -> None:
    for seed in range(5):
        said, truth = volumes(seed)
        for label, plane in zip(kind(beta).fit(said, truth)(said), planes_of(said), strict=True):
            assert label.shape == plane.shape
            assert label.dtype == bool
            assert not label[plane == 0].any()


@pytest.mark.parametrize("fitted", [AboveThreshold(0.0), HighestShare(1.0)])
def test_where_everything_is_given_the_outside_still_is_not(fitted: object) -> None:
    said, _ = volumes(0)
    for label, plane in zip(fitted(said), planes_of(said), strict=True):
        np.testing.assert_array_equal(label, plane > 0)


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), levels=st.sampled_from([0, 4, 30]))
@settings(max_examples=60, deadline=None, database=None)
def test_a_share_is_never_more_and_equal_scores_stand_or_fall_together(
    seed: int, share: float, levels: int
) -> None:
    said, _ = volumes(seed % 1000, levels)
    for label, plane in zip(HighestShare(share)(said), planes_of(said), strict=True):
        inside = plane > 0
        assert label.sum() <= share * inside.sum() + 1e-3
        if label.any():
            lowest = plane[label].min()
            np.testing.assert_array_equal(label, (plane >= lowest) & inside)
        if not levels:
            assert label.sum() >= np.floor(share * inside.sum() - 1e-3)


def test_where_scores_are_right_a_threshold_finds_the_truth() -> None:
    _, truth = volumes(1, lattice=1)
    pairs = list(zip(truth.target.positive, truth.target.area, strict=True))
    said = predictions([np.where(a > 0, np.where(p > 0, 0.9, 0.1), 0) for p, a in pairs])
    for label, (positive, _) in zip(Absolute().fit(said, truth)(said), pairs, strict=True):
        np.testing.assert_array_equal(label, positive > 0)


def test_a_share_survives_lower_scores_of_one_volume_and_a_threshold_does_not() -> None:
    said, truth = volumes(5)
    planes = planes_of(said)
    bent = predictions([0.5 * planes[0] ** 2, *planes[1:]])
    share = Share().fit(said, truth)
    assert Share().fit(bent, truth) == share
    for one, other in zip(share(said), share(bent), strict=True):
        np.testing.assert_array_equal(one, other)
    threshold = Absolute().fit(said, truth)
    assert (threshold(said)[0] != threshold(bent)[0]).any()
    assert Absolute().fit(bent, truth) != threshold


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([0, 1, 6]))
@settings(max_examples=40, deadline=None, database=None)
def test_a_rank_is_the_share_that_scores_less(seed: int, levels: int) -> None:
    for plane in planes_of(volumes(seed % 1000, levels)[0]):
        got, inside = rank_share(plane), plane[plane > 0]
        for score, rank in zip(plane.reshape(-1), got.reshape(-1), strict=True):
            wanted = np.mean(inside < score) if score > 0 else 0
            assert rank == pytest.approx(wanted, abs=1e-6)


def test_a_plane_without_any_score_has_ranks_and_a_label() -> None:
    empty = np.zeros((3, 4), dtype=np.float32)
    assert not rank_share(empty).any()
    said, truth = volumes(2)
    more = predictions([*planes_of(said), empty])
    for fitted in (AboveThreshold(0.0), HighestShare(1.0), Share().fit(said, truth)):
        labels = fitted(more)
        assert labels[-1].shape == (3, 4)
        assert not labels[-1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_comes_back_from_json_as_it_went(kind: type) -> None:
    for seed in range(10):
        said, truth = volumes(seed)
        fitted = kind(0.5).fit(said, truth)
        again = revive(json.loads(json.dumps(describe(fitted))))
        assert again == fitted
        for one, other in zip(again(said), fitted(said), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_volumes_does_not_matter(kind: type) -> None:
    said, truth = volumes(8, weights="uneven")
    order = np.array([2, 0, 1])
    moved = said.take([f"v{k}" for k in order])
    assert kind().fit(moved, truth.take(order)) == kind().fit(said, truth)
