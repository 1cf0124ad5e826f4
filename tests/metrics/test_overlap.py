from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, fbeta_score

from conftest import truth_of
from contracts import planes_truth
from foveal.lattice import Planes, cells
from foveal.metrics.interval import bootstrap
from foveal.metrics.overlap import CellFBeta, FBeta, MacroF1
from foveal.metrics.ranking import MapAtK


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_equals_scikit_learn(beta: float) -> None:
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, (4, 9, 7)), rng.integers(0, 2, (4, 9, 7))
    got = FBeta(beta).value(FBeta(beta).tally(z, truth_of(y)).sum(axis=0))
    assert got == pytest.approx(fbeta_score(y.ravel(), z.ravel(), beta=beta))


def planes_of(masks: np.ndarray, regions: np.ndarray, lattice: int) -> Planes:
    counted = [[cells(p, lattice) for p in some] for some in (masks & regions, regions)]
    return Planes(tuple(counted[0]), tuple(counted[1]))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_of_cells_of_one_pixel_is_that_of_pixels(beta: float) -> None:
    rng = np.random.default_rng(0)
    masks, given = rng.random((2, 4, 9, 7)) < 0.4
    of = truth_of(masks, rng.uniform(0.5, 2, 4))
    everywhere = planes_of(masks, np.ones_like(masks), 1)
    got = CellFBeta(beta).tally(list(given), replace(of, target=everywhere))
    np.testing.assert_allclose(got, FBeta(beta).tally(given, of))
    assert CellFBeta(beta).value(got.sum(axis=0)) == FBeta(beta).value(got.sum(axis=0))


@pytest.mark.parametrize("lattice", [2, 4, 16])
def test_cells_count_with_the_pixels_behind_them(lattice: int) -> None:
    rng = np.random.default_rng(lattice)
    masks, regions = rng.random((2, 3, 9, 14)) < [[[[0.4]]], [[[0.7]]]]
    shape = (3, -(-9 // lattice), -(-14 // lattice))
    given = rng.random(shape) < 0.5
    pixels = given.repeat(lattice, axis=1).repeat(lattice, axis=2)[:, :9, :14] & regions
    weight = np.array([0.5, 1.0, 3.0])
    planes = planes_of(masks, regions, lattice)
    got = CellFBeta().tally(list(given), replace(truth_of(masks, weight), target=planes))
    by_hand = FBeta().tally(pixels, truth_of(masks & regions, weight))
    np.testing.assert_allclose(got, by_hand)


def test_f_beta_of_no_cells_and_of_nothing() -> None:
    empty = np.zeros((2, 3), dtype=np.float32)
    of = truth_of(np.zeros(2))
    planes = Planes((empty,) * 2, (empty + 1,) * 2)
    tally = CellFBeta().tally([empty > 0, empty == 0], replace(of, target=planes))
    assert tally.tolist() == [[0, 0, 0], [0, 6, 0]]
    assert CellFBeta().value(tally).tolist() == [0, 0]
    none = CellFBeta().tally([], replace(truth_of(np.zeros(0)), target=Planes((), ())))
    assert none.shape == (0, 3)


def test_the_score_of_cells_is_called_by_its_name() -> None:
    assert [CellFBeta(b).name for b in (0.5, 1, 2)] == ["f_0.5", "dice", "f_2"]


def macro_f1(given: np.ndarray, true: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
    return float(MacroF1().value(MacroF1().tally(given, truth_of(true))[rows].sum(axis=0)))


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_macro_f1_equals_scikit_learn(rows: int) -> None:
    """Of some rows too, in which a label may be neither true nor given."""
    rng = np.random.default_rng(rows)
    y, z = rng.random((2, 40, 5)) < [0.5, 0.2, 0.1, 0.02, 0]
    y[0, 0] = True
    got = macro_f1(z, y, np.arange(rows))
    wanted = f1_score(y[:rows], z[:rows], average="macro", zero_division=np.nan)
    assert got == pytest.approx(wanted)


def test_a_label_that_only_one_side_has_counts_as_wrong() -> None:
    y, z = np.eye(3, dtype=np.int64)[[0, 0]], np.eye(3, dtype=np.int64)[[0, 1]]
    assert macro_f1(z, y) == macro_f1(y, z) == pytest.approx((2 / 3 + 0) / 2)


def test_what_is_perfect_is_perfect_in_every_fold_and_resample() -> None:
    """Nine rare labels beside a frequent one: most are missing from any part of the cases."""
    y = np.zeros((60, 10), dtype=np.int64)
    y[:, 0], y[np.arange(9), np.arange(1, 10)] = 1, 1
    tally = MacroF1().tally(y, truth_of(y))
    assert bootstrap(MacroF1(), tally, np.arange(60)) == (1, 1)
    assert (MacroF1().value(tally) == 1).all()


def test_without_a_label_there_is_no_macro_f1() -> None:
    assert np.isnan(macro_f1(np.zeros((4, 3)), np.zeros((4, 3))))


def test_map_at_k_by_hand() -> None:
    guesses = np.array([["a", "b", "c"], ["b", "a", "c"], ["x", "y", "z"], ["q", "q", "a"]])
    metric = MapAtK(k=3)
    sums = metric.tally(guesses, truth_of(np.array(["a", "a", "a", "a"]))).sum(axis=0)
    assert metric.value(sums) == pytest.approx((1 + 1 / 2 + 0 + 1 / 3) / 4)


def test_blocks_are_drawn_where_planes_have_them() -> None:
    of = planes_truth()
    rng = np.random.default_rng(0)
    given = [rng.random(a.shape) < 0.5 for a in of.target.area]
    tally = CellFBeta().tally(given, of)
    pieces, group = CellFBeta().pieces(tally, given, of)
    np.testing.assert_array_equal(pieces, tally)
    np.testing.assert_array_equal(group, of.group)
    block = tuple(rng.integers(0, 5, a.shape) * 3 for a in of.target.area)
    cut = replace(of, target=replace(of.target, block=block))
    pieces, group = CellFBeta().pieces(tally, given, cut)
    assert group.tolist() == [0, 3, 6, 9, 12]
    for one, number in zip(pieces, group, strict=True):
        alone = tuple(
            np.where(b == number, a, 0) for b, a in zip(block, of.target.area, strict=True)
        )
        hits = tuple(np.minimum(p, a) for p, a in zip(of.target.positive, alone, strict=True))
        wanted = CellFBeta().tally(given, replace(of, target=Planes(hits, alone)))
        np.testing.assert_allclose(one, wanted.sum(axis=0), rtol=1e-6)
    some = cut.take(np.array([2, 5]))
    wanted = CellFBeta().tally([given[2], given[5]], some)
    pieces, _ = CellFBeta().pieces(wanted, [given[2], given[5]], some)
    np.testing.assert_allclose(pieces.sum(axis=0), wanted.sum(axis=0), rtol=1e-6)
