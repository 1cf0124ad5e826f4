"""Cuts of labels are the best of all there are, counted by brute force."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from foveal.decide.f1 import Ranked
from foveal.decide.labels import (
    CommonCut,
    LabelCuts,
    LabelProbabilities,
    OwnCuts,
    SharedOut,
    ShrunkCuts,
)
from foveal.errors import TargetError
from foveal.manifest import Truth
from foveal.predictions import Predictions

RULES = (OwnCuts(), CommonCut(), SharedOut(), ShrunkCuts())


def cases(
    seed: int, n: int = 120, labels: int = 4, levels: int = 0, most: int = 1
) -> tuple[Predictions, Truth]:
    """Scores that know a little; `levels` makes ties; a case weighs up to `most`, or nothing."""
    rng = np.random.default_rng(seed)
    has = rng.random((n, labels)) < np.linspace(0.05, 0.6, labels)
    has[0] = True
    scores = np.clip(0.25 * has + rng.beta(1, 3, (n, labels)), 0, 1)
    scores = np.round(scores * levels) / levels if levels else scores
    truth = Truth(
        target=has.astype(np.int64),
        weight=rng.integers(0, most + 1, n).astype(float) if most > 1 else np.ones(n),
        group=np.arange(n),
        fold=rng.integers(0, 4, n),
    )
    return predicted(scores), truth


def predicted(scores: np.ndarray) -> Predictions:
    names = [f"label{k}" for k in range(scores.shape[1])]
    return Predictions.of([str(k) for k in range(len(scores))], scores, columns=names)


def f1(given: np.ndarray, truth: Truth) -> np.ndarray:
    weight, has = truth.weight[:, None], truth.target != 0
    found = (weight * (given & has)).sum(axis=0)
    return 2 * found / np.maximum((weight * given).sum(axis=0) + (weight * has).sum(axis=0), 1e-9)


def tried(values: np.ndarray) -> list[float]:
    return [*np.unique(values).tolist(), 2.0]


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("most", [1, 3])
def test_no_cut_of_its_own_is_better(levels: int, most: int) -> None:
    for seed in range(8):
        scores, truth = cases(seed, levels=levels, most=most)
        reached = f1(OwnCuts().fit(scores, truth)(scores), truth)
        values = scores.matrix().values
        best = [
            max(f1((values >= cut), truth)[k] for cut in tried(values[:, k]))
            for k in range(values.shape[1])
        ]
        assert reached == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("most", [1, 3])
def test_no_common_cut_is_better(levels: int, most: int) -> None:
    for seed in range(4):
        scores, truth = cases(seed, n=60, levels=levels, most=most)
        fitted = CommonCut().fit(scores, truth)
        assert len(set(fitted.cuts)) == 1
        values = scores.matrix().values
        best = max(f1(values >= cut, truth).mean() for cut in tried(values))
        assert f1(fitted(scores), truth).mean() == pytest.approx(best, abs=1e-12)


def test_f1_is_that_of_scikit_learn() -> None:
    scores, truth = cases(4, most=3)
    given = OwnCuts().fit(scores, truth)(scores)
    theirs = f1_score(truth.target, given, average=None, sample_weight=truth.weight)
    assert f1(given, truth) == pytest.approx(theirs, abs=1e-9)


def test_a_label_is_given_as_often_as_it_occurs() -> None:
    scores, truth = cases(3)
    given = SharedOut().fit(scores, truth)(scores)
    assert given.sum(axis=0).tolist() == truth.target.sum(axis=0).tolist()


def test_weights_count_as_so_many_cases() -> None:
    scores, truth = cases(5, most=3)
    times = truth.weight.astype(int)
    again = np.repeat(np.arange(len(times)), times)
    many = Truth(
        target=truth.target[again],
        weight=np.ones(len(again)),
        group=np.arange(len(again)),
        fold=truth.fold[again],
    )
    values = scores.matrix().values
    for rule in (OwnCuts(), CommonCut(), SharedOut()):
        plain = rule.fit(predicted(values[again]), many).given(values)
        assert (rule.fit(scores, truth).given(values) == plain)[truth.weight > 0].all()


def test_few_cases_pull_a_cut_away_from_its_own() -> None:
    scores, truth = cases(2, n=400)
    values, has = scores.matrix().values, truth.target != 0
    ways = []
    for times in (1, 20):
        many = np.tile(np.arange(400), times)
        ranked = Ranked.of(values[many], has[many], np.ones(len(many)))
        ends = np.stack([np.full(4, ranked.common_cut()), ranked.share_cuts()])
        own, shrunk = ranked.own_cuts(), ranked.shrunk()
        low, high = np.minimum(own, ends), np.maximum(own, ends)
        assert ((low <= shrunk + 1e-6) & (shrunk <= high + 1e-6)).all()
        ways.append(np.abs(shrunk - own))
    assert (ways[1] <= ways[0]).all()
    assert ways[1].sum() < 0.3 * ways[0].sum()


@pytest.mark.parametrize("off_by", [0.0, 3.0])
def test_the_common_cut_pulls_where_it_is_clearly_better_on_folds_left_out(off_by: float) -> None:
    """Where scores mean the same in every label, most of them rare; not where they do not."""
    rng = np.random.default_rng(0)
    odds = np.log(0.03 / 0.97) + rng.normal(0, 5, (100, 100))
    has = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
    scores = (1 / (1 + np.exp(-odds - rng.normal(0, off_by, 100)))).astype(np.float32)
    n = np.arange(100)
    truth = Truth(target=has, weight=np.ones(100), group=n, fold=n % 5)
    ways = Ranked.of(scores, has, truth.weight).shrunk()
    (common, share), error = ShrunkCuts()._left_out(scores, has, truth)
    assert (common - share > 2 * error) == (off_by == 0)
    assert error > 0
    chosen = ShrunkCuts().fit(predicted(scores), truth).cuts
    assert chosen == pytest.approx(ways[0 if off_by == 0 else 1], abs=1e-6)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("rule", [ShrunkCuts(), ShrunkCuts(at_least_one=True)])
def test_a_label_that_no_fold_can_judge_is_given_as_often_as_it_occurs(
    labels: int, rule: ShrunkCuts
) -> None:
    """What scores the one case was trained without any, so that its score is the lowest."""
    has = np.zeros((30, labels), dtype=np.int64)
    has[7] = 1
    scores = np.random.default_rng(0).uniform(0.02, 0.06, has.shape)
    scores[7] = 0
    n = np.arange(30)
    truth = Truth(target=has, weight=np.ones(30), group=n, fold=n % 5)
    assert OwnCuts().fit(predicted(scores), truth).given(scores).all()
    cuts = rule.fit(predicted(scores), truth).cuts
    assert LabelCuts(cuts).given(scores).sum(axis=0).tolist() == [1] * labels
    alone = ShrunkCuts().fit(predicted(scores), replace(truth, fold=np.zeros(30, int))).cuts
    assert alone == pytest.approx(Ranked.of(scores, has != 0, np.ones(30)).shrunk()[1], abs=1e-6)


@pytest.mark.parametrize("off_by", [0.0, 1.5])
def test_shrunken_cuts_are_better_on_new_cases(off_by: float) -> None:
    """Rare labels; scores that mean the same in every label, and such that do not."""
    gains = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rate, off = np.geomspace(0.01, 0.4, 16), rng.normal(0, off_by, 16)

        def draw(n: int, rng=rng, rate=rate, off=off) -> tuple[np.ndarray, np.ndarray]:
            odds = np.log(rate / (1 - rate)) * 1.5 + rng.normal(0, 2.2, (n, 16))
            has = rng.random((n, 16)) < 1 / (1 + np.exp(-odds))
            return 1 / (1 + np.exp(-odds - off)), has

        (seen, known), (unseen, right) = draw(400), draw(20_000)
        truth = Truth(
            target=known,
            weight=np.ones(400),
            group=np.arange(400),
            fold=np.arange(400) % 5,
        )
        reached = [
            f1_score(right, r.fit(predicted(seen), truth).given(unseen), average="macro")
            for r in (ShrunkCuts(), OwnCuts())
        ]
        gains.append(reached[0] - reached[1])
    assert np.mean(gains) > 0.005


def test_the_nearest_label_is_given_where_none_is_reached() -> None:
    cuts = LabelCuts((0.5, 0.9, 0.2))
    scores = np.array([[0.4, 0.89, 0.1], [0.6, 0.1, 0.1], [0.0, 0.0, 0.15]])
    assert cuts.given(scores).tolist() == [[False] * 3, [True, False, False], [False] * 3]
    always = LabelCuts(cuts.cuts, at_least_one=True)
    assert always.given(scores).tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, True],
    ]


def test_nearest_is_counted_in_log_odds() -> None:
    """By plain difference every score is near the cut of a rare label."""
    always = LabelCuts((0.4, 0.03, float("inf")), at_least_one=True)
    assert always.given(np.array([[0.3, 0.001, 0.9]])).tolist() == [[True, False, False]]


@pytest.mark.parametrize("rule", RULES)
def test_a_label_that_nobody_has(rule: OwnCuts) -> None:
    scores, truth = cases(1)
    target = truth.target.copy()
    target[:, 2] = 0
    target[0, 3] = 1
    lacking = Truth(target=target, weight=truth.weight, group=truth.group, fold=truth.fold)
    given = rule.fit(scores, lacking)(scores)
    assert given.shape == target.shape
    if isinstance(rule, OwnCuts | SharedOut):
        assert not given[:, 2].any()


@pytest.mark.parametrize("rule", RULES)
def test_one_case_and_one_label(rule: OwnCuts) -> None:
    one = Truth(
        target=np.ones((1, 1)), weight=np.ones(1), group=np.zeros(1, int), fold=np.zeros(1, int)
    )
    scores = predicted(np.array([[0.0]]))
    assert rule.fit(scores, one)(scores).tolist() == [[True]]


@pytest.mark.parametrize("rule", RULES)
def test_what_cannot_be_fitted(rule: OwnCuts) -> None:
    scores, truth = cases(1)
    nobody = Truth(target=0 * truth.target, weight=truth.weight, group=truth.group, fold=truth.fold)
    assert not rule.fit(scores, nobody)(scores).any()  # a part of the folds may have no positive
    values = scores.matrix().values.copy()
    values[3, 1] = np.nan
    with pytest.raises(TargetError, match="finite"):
        rule.fit(predicted(values), truth)


# --- probabilities --------------------------------------------------------------------------------


def odds(share: np.ndarray) -> np.ndarray:
    return np.log(share / (1 - share))


def shifted(
    n: int, *, offset: float, slope: float, seed: int = 0
) -> tuple[Predictions, Truth, np.ndarray]:
    """Scores that say other probabilities than they mean, labels drawn from those, and those."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.02, 0.98, (n, 3))
    said = 1 / (1 + np.exp(-(odds(share) - offset) / slope))
    truth = Truth(
        target=(rng.random((n, 3)) < share).astype(np.int64),
        weight=np.ones(n),
        group=np.arange(n),
        fold=np.arange(n) % 5,
    )
    return predicted(said), truth, share


def entropy(shares: np.ndarray, truth: Truth) -> float:
    inside = np.clip(shares, 1e-7, 1 - 1e-7)
    return float(-np.log(np.where(truth.target != 0, inside, 1 - inside)).mean())


@pytest.mark.parametrize(("offset", "slope"), [(-1.5, 1.0), (0.0, 0.4), (1.0, 2.5)])
def test_scores_that_are_off_become_probabilities(offset: float, slope: float) -> None:
    seen, truth, _ = shifted(2000, offset=offset, slope=slope)
    fresh, later, share = shifted(2000, offset=offset, slope=slope, seed=1)
    fitted = LabelProbabilities().fit(seen, truth)
    assert fitted.offset == pytest.approx([offset] * 3, abs=0.3)
    assert fitted.slope == pytest.approx([slope] * 3, rel=0.2)
    made = fitted(fresh)
    assert entropy(made, later) < entropy(fresh.matrix().values, later) - 0.01
    assert np.abs(made - share).mean() < 0.02


def test_probabilities_are_those_of_scikit_learn_where_cases_are_many() -> None:
    from sklearn.linear_model import LogisticRegression

    scores, truth, _ = shifted(5000, offset=0.7, slope=0.6)
    made = LabelProbabilities().fit(scores, truth)(scores)
    for k in range(3):
        x = odds(scores.matrix().values[:, k : k + 1].astype(float).clip(1e-3, 1 - 1e-3))
        theirs = LogisticRegression(C=1e6).fit(x, truth.target[:, k]).predict_proba(x)[:, 1]
        assert np.abs(made[:, k] - theirs).max() < 0.01


def test_few_cases_leave_a_score_nearly_as_it_is() -> None:
    far = []
    for n in (1, 5, 50, 2000):
        scores, truth, _ = shifted(n, offset=-1.5, slope=1.0)
        fitted = LabelProbabilities().fit(scores, truth)
        far.append(float(np.abs(fitted.offset).mean()))
    assert far[0] < 0.2
    assert far[0] < far[1] < far[2] < far[3]


def test_scores_that_are_right_stay_as_they_are() -> None:
    scores, truth, _ = shifted(3000, offset=0.0, slope=1.0)
    made = LabelProbabilities().fit(scores, truth)(scores)
    assert np.abs(made - scores.matrix().values).max() < 0.04


def test_a_case_of_no_weight_says_nothing_and_a_weight_counts_as_so_many_cases() -> None:
    scores, truth = cases(5, most=3)
    times = truth.weight.astype(int)
    again = np.repeat(np.arange(len(times)), times)
    many = Truth(
        target=truth.target[again],
        weight=np.ones(len(again)),
        group=np.arange(len(again)),
        fold=truth.fold[again],
    )
    values = scores.matrix().values
    plain = LabelProbabilities().fit(predicted(values[again]), many)
    weighted = LabelProbabilities().fit(scores, truth)
    assert weighted.offset == pytest.approx(plain.offset, abs=1e-6)
    assert weighted.slope == pytest.approx(plain.slope, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("has", [0, 1])
def test_scores_at_the_ends_and_labels_of_nobody_or_everybody_are_finite(
    value: float, has: int
) -> None:
    truth = Truth(
        target=np.full((40, 2), has),
        weight=np.ones(40),
        group=np.arange(40),
        fold=np.arange(40) % 5,
    )
    scores = np.full((40, 2), value)
    scores[::2, 1] = 0.5
    made = LabelProbabilities().fit(predicted(scores), truth)(predicted(scores))
    assert np.isfinite(made).all()
    assert (made >= 0).all()
    assert (made <= 1).all()
    assert (np.abs(made[:, 1] - has) <= 0.5).all()


def test_scores_cut_off_at_0_and_1_are_not_certain() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(-1, 1.5, 2000)
    has = rng.random(2000) < 1 / (1 + np.exp(-odds))
    score = np.clip(0.27 + 0.16 * odds + rng.normal(0, 0.05, 2000), 0, 1)[:, None]
    assert (score == 0).mean() > 0.05
    truth = Truth(
        target=has[:, None],
        weight=np.ones(2000),
        group=np.arange(2000),
        fold=np.arange(2000) % 5,
    )
    of = predicted(score)
    said = LabelProbabilities().fit(of, truth)(of)[:, 0]
    at_0 = score[:, 0] == 0
    assert said[at_0].mean() == pytest.approx(has[at_0].mean(), abs=0.02)
    surprise = -np.log(np.where(has, said, 1 - said)).mean()
    assert surprise < -np.log(np.clip(np.where(has, score[:, 0], 1 - score[:, 0]), 1e-3, 1)).mean()
