"""Weighed evidence: what a member is worth, whom it does not know, and someone new."""

import json
from functools import partialmethod

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from conftest import truth_of
from foveal.combine import evidence
from foveal.combine.blend import mean
from foveal.combine.evidence import NEVER, ConditionalLogit, Weighed, _loss
from foveal.decide.retrieve import NewCut
from foveal.digests import describe, revive
from foveal.errors import ShapeError
from foveal.manifest import Truth
from foveal.metrics.ranking import MapAtK
from foveal.predictions import Predictions

NEW = "new"
NAMES = tuple(f"w{k:02d}" for k in range(12))
QUERIES = 400


def asked(*scales: float, seed: int = 0, share_new: float = 0.3) -> tuple[list[Predictions], Truth]:
    """Members whose scores tell as much as they are scaled by, and who the queries were."""
    rng = np.random.default_rng(seed)
    scores = [rng.normal(0, 1, (QUERIES, len(NAMES))) for _ in scales]
    total = sum(scale * one for scale, one in zip(scales, scores, strict=True))
    other = np.full((QUERIES, 1), np.quantile(total.max(axis=1), share_new))
    chance = np.hstack([total, other]) + rng.gumbel(0, 1, (QUERIES, len(NAMES) + 1))
    target = np.array([*NAMES, NEW])[chance.argmax(axis=1)]
    ids = [f"q{k}" for k in range(QUERIES)]
    made = [Predictions.of(ids, s.astype(np.float32), columns=NAMES) for s in scores]
    return made, truth_of(target, folds=4)


def test_weights_are_those_that_the_truth_was_drawn_with() -> None:
    parts, truth = asked(2.0, 0.5, 0.0)
    fitted = ConditionalLogit(new=NEW).fit(parts, truth)
    np.testing.assert_allclose(fitted.weights, [2.0, 0.5, 0.0], atol=0.3)
    assert fitted.new > NEVER


def test_the_slope_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, (6, 5, 2))
    scores[1, 2] = np.nan
    is_true = np.zeros((6, 5), dtype=bool)
    is_true[np.arange(4), np.arange(4)] = True  # the others are someone new
    x, weight = np.array([0.7, 1.2, 0.3]), rng.random(6)
    slope = _loss(x, scores, is_true, weight)[1]
    wanted = approx_fprime(x, lambda x: _loss(x, scores, is_true, weight)[0], 1e-6)
    np.testing.assert_allclose(slope, wanted, atol=1e-4)


def test_a_loud_member_that_tells_little_is_not_heard_above_a_quiet_one() -> None:
    (quiet, loud), truth = asked(3.0, 0.3)
    unit = lambda p, by: Predictions.of(p.ids, 0.5 + by * p.values.reshape(-1, 12), columns=NAMES)  # noqa: E731
    parts = [unit(quiet, 0.002), unit(loud, 0.1)]
    decoder, metric = NewCut(5, NEW), MapAtK(5)

    def value(joined: Predictions) -> float:
        labels = decoder.fit(joined, truth)(joined)
        return float(metric.value(metric.tally(labels, truth).sum(axis=0)))

    assert value(ConditionalLogit(new=NEW).fit(parts, truth)(parts)) > value(mean(parts)) + 0.2


def test_scores_are_probabilities_and_leave_room_for_someone_new() -> None:
    parts, truth = asked(1.0, 1.0)
    values = ConditionalLogit(new=NEW).fit(parts, truth)(parts).matrix().values
    assert values.min() >= 0
    assert (values.sum(axis=1) < 1).all()
    right = (np.array(NAMES) == truth.target[:, None]).sum()
    assert values.sum() == pytest.approx(right, rel=0.05)  # calibrated


def test_everybody_is_known_where_nobody_is_new() -> None:
    parts, truth = asked(1.0, 1.0, share_new=0.0)
    known = truth.target != NEW
    parts, truth = (
        [p.take([f"q{k}" for k in np.flatnonzero(known)]) for p in parts],
        truth.take(np.flatnonzero(known)),
    )
    fitted = ConditionalLogit().fit(parts, truth)
    assert fitted.new == NEVER
    np.testing.assert_allclose(fitted(parts).matrix().values.sum(axis=1), 1, rtol=1e-5)


def test_an_individual_that_one_member_does_not_know_is_left_to_the_others() -> None:
    parts, truth = asked(1.0, 1.0)
    fold = np.zeros(QUERIES, dtype=np.int64)
    few = [
        Predictions.of(p.ids, p.values.reshape(-1, 12), columns=NAMES, fold=fold, known={0: names})
        for p, names in zip(parts, (NAMES[:8], NAMES[2:8]), strict=True)
    ]
    fitted = Weighed(usual=(0.1, 0.2), weights=(1.0, 2.0), new=0.5)
    got = fitted(few)
    assert got.known == {0: NAMES[:8]}
    a, b = (p.values.reshape(-1, 12).astype(np.float64) for p in parts)
    total = (a - 0.1) + 2 * np.where(np.arange(12) >= 2, b - 0.2, 0)
    raised = np.exp(total[:, :8])
    np.testing.assert_allclose(
        got.matrix().values[:, :8], raised / (raised.sum(axis=1, keepdims=True) + np.exp(0.5)),
        rtol=1e-4,
    )  # fmt: skip
    assert (got.matrix().values[:, 8:] == 0).all()
    assert np.isfinite(ConditionalLogit(new=NEW).fit(few, truth).weights).all()


def test_blocks_and_few_candidates_change_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, truth = asked(2.0, 1.0)
    whole = ConditionalLogit(new=NEW).fit(parts, truth)
    monkeypatch.setattr(Predictions, "walk", partialmethod(Predictions.walk, 50))
    blocks = ConditionalLogit(new=NEW).fit(parts, truth)
    np.testing.assert_allclose(blocks.weights, whole.weights, rtol=1e-6)
    np.testing.assert_allclose(blocks(parts).values, whole(parts).values, rtol=1e-5)
    monkeypatch.setattr(evidence, "CANDIDATES", 8)
    np.testing.assert_allclose(
        ConditionalLogit(new=NEW).fit(parts, truth).weights, whole.weights, rtol=0.05
    )


def test_the_weight_of_a_query_counts() -> None:
    parts, truth = asked(2.0, 0.5)
    half = truth.take(np.arange(200))
    less = [p.take([f"q{k}" for k in range(200)]) for p in parts]
    weight = np.repeat([1.0, 0.0], 200)
    with_weight = truth_of(truth.target, weight=weight)
    np.testing.assert_allclose(
        ConditionalLogit(new=NEW).fit(parts, with_weight).weights,
        ConditionalLogit(new=NEW).fit(less, half).weights,
        rtol=0.05,  # what is usual is of all
    )


@pytest.mark.parametrize("count", [0, 1])
def test_as_good_as_no_queries(count: int) -> None:
    parts, truth = asked(1.0, 1.0)
    few = [p.take([f"q{k}" for k in range(count)]) for p in parts]
    fitted = ConditionalLogit(new=NEW).fit(few, truth.take(np.arange(count)))
    assert np.isfinite(fitted.weights).all()
    assert np.isfinite(fitted(parts).values).all()


def test_equal_members_are_equal_and_parts_must_be_aligned() -> None:
    parts, truth = asked(1.0)
    fitted = ConditionalLogit(new=NEW).fit([parts[0], parts[0]], truth)
    assert fitted.weights[0] == pytest.approx(fitted.weights[1], rel=1e-3)
    with pytest.raises(ShapeError, match="other cases"):
        fitted([parts[0], parts[0].take(["q1"])])


def test_it_is_written_down_and_read_again() -> None:
    fitted = Weighed(usual=(0.1,), weights=(2.0,), new=0.5)
    assert revive(json.loads(json.dumps(describe(fitted)))) == fitted
