"""Sites have cuts of their own where that helps on cases that nobody saw, and else the same."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from foveal.decide.calibrate import PRIOR_GROUPS, Affine, Line
from foveal.decide.sites import PerSite, SiteCuts, site_lines
from foveal.decide.thresholds import ClosedFormCuts, Cuts, ExactCuts, FixedCuts
from foveal.digests import describe, revive
from foveal.manifest import Truth
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions

GRADES = 5
RULES = [ClosedFormCuts(GRADES), ExactCuts(GRADES), FixedCuts.halves(GRADES)]


def scored(values: np.ndarray) -> Predictions:
    ids = [str(k) for k in range(len(values))]
    return Predictions.of(ids, values[:, None].astype(np.float32), columns=("expected",))


def cases(
    seed: int,
    n: int = 240,
    *,
    shifts: Sequence[float] = (0.0, 0.0),
    slopes: Sequence[float] = (1.0, 1.0, 1.0),
    size: int = 2,
) -> tuple[Predictions, Truth]:
    """Scores that each site shifts and stretches in its own way; groups of `size` cases."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, GRADES, n)
    group = np.arange(n) // size
    site = rng.integers(0, len(shifts), group.max() + 1)[group]
    values = np.array(slopes)[site] * (grade + rng.normal(0, 0.7, n)) + np.array(shifts)[site]
    return scored(values), Truth(
        target=grade,
        weight=np.ones(n),
        group=group,
        fold=group % 5,
        site=np.array(list("ABC"))[site],
    )


def kappa(labels: np.ndarray, truth: Truth) -> float:
    return float(quadratic_kappa.value(quadratic_kappa.tally(labels, truth).sum(axis=0)))


# --- without sites --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("names", [None, "A", "", ("A", ""), ("", "")])
def test_without_two_sites_cuts_are_those_of_all(
    rule: ClosedFormCuts, names: str | tuple[str, ...] | None
) -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    site = None if names is None else np.resize(np.array(names, dtype=np.str_), 240)
    truth = replace(truth, site=site)
    fitted = PerSite(rule).fit(predictions, truth)
    assert fitted == SiteCuts(cuts=rule.fit(predictions, truth))
    wanted = fitted.cuts(predictions)
    assert np.array_equal(fitted(predictions), wanted)
    assert np.array_equal(fitted(predictions, site), wanted)
    assert np.array_equal(fitted(predictions, np.full(240, "B")), wanted)


def test_of_one_fold_alone_halves_of_the_groups_say_whether_sites_help() -> None:
    one = np.zeros(240, np.int64)
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    fitted = PerSite(RULES[0]).fit(predictions, replace(truth, fold=one))
    assert fitted.sites == ("A", "B")
    predictions, truth = cases(0)
    assert PerSite(RULES[0]).fit(predictions, replace(truth, fold=one)).sites == ()


def test_one_group_alone_cannot_say_whether_sites_help() -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    one = np.zeros(240, np.int64)
    assert PerSite(RULES[0]).fit(predictions, replace(truth, fold=one, group=one)).sites == ()


def test_where_all_that_counts_lies_in_one_part_nobody_says_whether_sites_help() -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    counts = replace(truth, weight=np.where(truth.fold == 1, 1.0, 0.0))
    assert PerSite(RULES[0]).fit(predictions, counts).sites == ()
    halves = replace(truth, fold=np.zeros(240, np.int64), weight=(truth.group % 2).astype(float))
    assert PerSite(RULES[0]).fit(predictions, halves).sites == ()


def test_a_site_that_nobody_knows_is_cut_as_all() -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    fitted = PerSite(RULES[0]).fit(predictions, truth)
    assert fitted.sites == ("A", "B")
    pooled = fitted.cuts(predictions)
    for name in ("", "never seen"):
        assert np.array_equal(fitted(predictions, np.full(240, name)), pooled)
    assert np.array_equal(fitted(predictions, None), pooled)
    mixed = np.where(np.arange(240) % 3 == 0, truth.site, "never seen")
    own, got = fitted(predictions, truth.site), fitted(predictions, mixed)
    assert np.array_equal(got, np.where(np.arange(240) % 3 == 0, own, pooled))
    assert (own != pooled).any()


# --- with sites -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "differ",
    [
        {"shifts": (0.0, 1.2)},
        {"shifts": (-0.8, 0.8, 0.0)},
        {"shifts": (0.0, 2.0), "slopes": (1.0, 0.4)},
    ],
)
def test_sites_that_differ_have_their_own_cuts(rule: ClosedFormCuts, differ: dict) -> None:
    for seed in range(2):
        fitted = PerSite(rule).fit(*cases(seed, **differ))
        assert fitted.sites == tuple("ABC"[: len(differ["shifts"])])
        fresh, truth = cases(seed + 100, 4000, **differ)
        own, pooled = fitted(fresh, truth.site), fitted.cuts(fresh)
        assert kappa(own, truth) > kappa(pooled, truth) + 0.01


def test_sites_that_are_alike_seldom_have_and_it_costs_nothing() -> None:
    chosen, gains = 0, []
    for seed in range(16):
        fitted = PerSite(RULES[0]).fit(*cases(seed, 120))
        chosen += bool(fitted.sites)
        fresh, truth = cases(seed + 100, 4000)
        gains.append(kappa(fitted(fresh, truth.site), truth) - kappa(fitted.cuts(fresh), truth))
    assert chosen <= 4
    assert np.mean(gains) > -0.002
    assert min(gains) > -0.01


def test_few_groups_are_not_enough_to_be_sure() -> None:
    """The same cases, folds and shift; in one of two ways they are eight patients."""
    chosen = {"cases": 0, "patients": 0}
    for seed in range(6):
        predictions, truth = cases(seed, shifts=(0.0, 0.7), size=30)
        single = replace(truth, group=np.arange(240))
        for name, of in (("cases", single), ("patients", truth)):
            chosen[name] += bool(PerSite(RULES[0]).fit(predictions, of).sites)
    assert chosen["cases"] > chosen["patients"]


def test_what_is_given_is_not_written_to() -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    values, site = predictions.values.copy(), truth.site.copy()
    for array in (predictions.values, truth.site, truth.target, truth.weight, truth.fold):
        array.setflags(write=False)
    fitted = PerSite(RULES[0]).fit(predictions, truth)
    first = fitted(predictions, truth.site)
    assert np.array_equal(first, fitted(predictions, truth.site))
    assert np.array_equal(predictions.values, values)
    assert np.array_equal(truth.site, site)


def test_a_case_gets_the_same_whoever_is_beside_it() -> None:
    predictions, truth = cases(0, shifts=(0.0, 2.0))
    fitted = PerSite(RULES[0]).fit(predictions, truth)
    together = fitted(predictions, truth.site)
    for k in (0, 17, 99):
        assert fitted(predictions.take([str(k)]), truth.site[k : k + 1])[0] == together[k]


@pytest.mark.parametrize("rule", RULES)
def test_what_was_fitted_comes_back_from_json(rule: ClosedFormCuts) -> None:
    predictions, truth = cases(1, shifts=(0.0, 1.5))
    plain = replace(truth, site=None)
    for fitted in (PerSite(rule).fit(predictions, of) for of in (truth, plain)):
        back = revive(json.loads(json.dumps(describe(fitted))))
        assert back == fitted
        assert type(back.cuts) is Cuts
        assert np.array_equal(back(predictions, truth.site), fitted(predictions, truth.site))
    assert describe(PerSite(rule)) != describe(rule)


# --- lines ----------------------------------------------------------------------------------------


def lines_of(predictions: Predictions, truth: Truth) -> dict[str, Line]:
    return dict(zip(*site_lines(predictions.matrix().values[:, 0], truth), strict=True))


@pytest.mark.parametrize("size", [1, 4, 24])
def test_a_line_is_its_own_as_far_as_there_are_groups(size: int) -> None:
    predictions, truth = cases(3, shifts=(0.0, 2.0), slopes=(1.0, 0.5), size=size)
    scores = predictions.matrix().values[:, 0].astype(np.float64)
    common, lines = Affine().fit(scores, truth), lines_of(predictions, truth)
    assert set(lines) == {"A", "B"}
    for name, line in lines.items():
        here = np.flatnonzero(truth.site == name)
        own = Affine().fit(scores[here], truth.take(here))
        groups = len(here) / size  # all of a size
        share = groups / (groups + PRIOR_GROUPS)
        assert line.slope == pytest.approx(share * own.slope + (1 - share) * common.slope)
        x = scores[here][:1]
        np.testing.assert_allclose(line(x), share * own(x) + (1 - share) * common(x))


def test_the_fewer_the_groups_the_nearer_the_common_line() -> None:
    offs = []
    for size in (1, 10, 60):
        predictions, truth = cases(3, shifts=(0.0, 2.0), size=1)
        group = np.arange(240) // size
        truth = replace(truth, group=group)
        common = Affine().fit(predictions.matrix().values[:, 0], truth)
        lines = lines_of(predictions, truth)
        offs.append(abs(lines["B"].intercept - common.intercept))
    assert offs[0] > offs[1] > offs[2] > 0
    assert offs[2] < 0.6 * offs[0]


def test_a_site_that_counts_nothing_or_has_no_name_has_no_line() -> None:
    predictions, truth = cases(0, shifts=(0.0, 1.0, 2.0))
    nameless = replace(truth, site=np.where(truth.site == "A", "", truth.site))
    assert set(lines_of(predictions, nameless)) == {"B", "C"}
    weight = np.where(truth.site == "C", 0.0, 1.0)
    assert set(lines_of(predictions, replace(truth, weight=weight))) == {"A", "B"}
    fitted = PerSite(RULES[0]).fit(predictions, replace(truth, weight=weight))
    assert "C" not in fitted.sites
    assert lines_of(predictions, replace(truth, site=None)) == {}


def test_a_site_of_one_case_keeps_to_the_others() -> None:
    predictions, truth = cases(0, shifts=(0.0, 1.5))
    site = truth.site.copy()
    site[0] = "C"
    line = lines_of(predictions, replace(truth, site=site))["C"]
    common = Affine().fit(predictions.matrix().values[:, 0], truth)
    x, share = predictions.matrix().values[:1, 0], 1 / (1 + PRIOR_GROUPS)
    wanted = share * truth.target[0] + (1 - share) * common(x)
    np.testing.assert_allclose(line(x), wanted, atol=1e-6)
    assert 0 < line.slope <= common.slope
    labels = PerSite(RULES[0]).fit(predictions, replace(truth, site=site))(predictions, site)
    assert set(labels.tolist()) <= set(range(GRADES))
