"""A plane from windows is the plane itself, whatever the windows, the flips and the batches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.errors import Stopped
from foveal.manifest import Window
from foveal.predict.windows import Accumulator, score_plane, shift_agreement
from foveal.read.volume import Volume
from foveal.transforms.tiles import Dense, Inner, Windows, hann, uniform

CELL = 4
"""Pixels a cell is wide."""

PLANE = np.random.default_rng(0).integers(0, 255, (52, 72, 2)).astype(np.uint8)


def read_from(pixels: np.ndarray):
    volume = Volume(pixels)

    def read(row: float, column: float, rows: int, columns: int) -> np.ndarray:
        window = Window(
            top=round(row * CELL),
            left=round(column * CELL),
            height=rows * CELL,
            width=columns * CELL,
        )
        return np.moveaxis(volume(window), 2, 0)

    return read


READ = read_from(PLANE)


def cell_means(windows: Tensor) -> Tensor:
    """A network that needs no context: the mean of every cell."""
    return torch.nn.functional.avg_pool2d(windows.mean(1), CELL)


def by_hand() -> np.ndarray:
    return PLANE.mean(2).reshape(13, CELL, 18, CELL).mean((1, 3))


@pytest.mark.parametrize("weight", [uniform, hann, Inner(1)])
@pytest.mark.parametrize(("tile", "stride", "batch"), [(4, 2, 3), (5, 3, 64), (30, 8, 1)])
def test_windows_give_the_plane(weight, tile: int, stride: int, batch: int) -> None:
    plan = Windows(tile, stride, weight)
    got = score_plane(cell_means, READ, plan(13, 18), (13, 18), batch=batch)
    np.testing.assert_allclose(got, by_hand(), rtol=1e-5)


def test_flips_are_undone_and_taken() -> None:
    def first_column(windows: Tensor) -> Tensor:
        scores = cell_means(windows)
        scores[:, :, 1:] = 0  # sees one side of the window only
        return scores

    plain, turned = (
        score_plane(first_column, READ, Windows(4, 2, alternate=flips)(13, 18), (13, 18), batch=8)
        for flips in (False, True)
    )
    assert (plain != turned).any()
    assert turned[:, 3].any()
    assert not plain[:, 3].any()


def test_parts_of_a_window_outside_are_left_out() -> None:
    sums = Accumulator.of(3, 4)
    ones = np.ones((2, 2), dtype=np.float32)
    for row, column in ((-1, -1), (2, 3), (0, 0), (-2, 0), (5, 9)):
        sums.add(3 * ones, ones, row, column)
    assert sums.weight.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    assert sums.mean()[0].tolist() == [3, 3, 0, 0]
    assert sums.total.dtype == np.float32


def test_every_step_is_told_how_far_it_is_and_may_be_the_last() -> None:
    shares: list[float] = []

    def step(share: float) -> None:
        shares.append(share)
        if share >= 0.5:
            raise Stopped("now")

    with pytest.raises(Stopped):
        score_plane(cell_means, READ, Windows(4, 4)(13, 18), (13, 18), batch=2, step=step)
    windows = sum(len(cover.starts) for cover in Windows(4, 4)(13, 18))
    assert shares == [k / windows for k in range(0, windows, 2)][: len(shares)]
    assert shares[0] == 0
    assert shares[-1] >= 0.5


@pytest.mark.parametrize("phases", [1, 2, 3, 4])
@pytest.mark.parametrize(("side", "halo", "step"), [(6, 1, 2), (40, 4, 4), (9, 3, 2)])
def test_large_crops_give_the_plane(side: int, halo: int, step: int, phases: int) -> None:
    plan = Dense(side=side, halo=halo, phases=phases, step=step)
    got = score_plane(cell_means, READ, plan(13, 18), (13, 18), batch=2)
    np.testing.assert_allclose(got, by_hand(), rtol=1e-5)


def test_between_cells_scores_are_shared_out() -> None:
    ramp = np.add.outer(2.0 * np.arange(52), np.arange(72)).astype(np.uint8)[:, :, None]
    plan = Dense(side=8, halo=0, phases=4, step=1)  # shifts of half a cell
    got = score_plane(cell_means, read_from(ramp), plan(13, 18), (13, 18), batch=4)
    wanted = ramp[:, :, 0].reshape(13, CELL, 18, CELL).mean((1, 3))
    np.testing.assert_allclose(got[1:-1, 1:-1], wanted[1:-1, 1:-1], rtol=1e-4)
    sums = Accumulator.of(3, 3)
    sums.add(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 0.5, 1.25)
    np.testing.assert_allclose(sums.weight, [[0, 0.375, 0.125], [0, 0.375, 0.125], [0, 0, 0]])


def convolved(windows: Tensor) -> Tensor:
    """Sees two cells around every cell, and nothing further."""
    kernel = torch.linspace(0, 1, 25).reshape(1, 1, 5, 5) ** 2
    return torch.nn.functional.conv2d(cell_means(windows)[:, None], kernel, padding=2)[:, 0]


def test_with_a_halo_as_wide_as_it_looks_crops_of_any_size_agree() -> None:
    whole = score_plane(convolved, READ, Dense(side=64, halo=2)(13, 18), (13, 18), batch=1)
    for side in (6, 9, 13):
        parts = score_plane(convolved, READ, Dense(side=side, halo=2)(13, 18), (13, 18), batch=3)
        np.testing.assert_allclose(parts, whole, rtol=1e-5)
    bare = score_plane(convolved, READ, Dense(side=6, halo=0)(13, 18), (13, 18), batch=3)
    assert not np.allclose(bare, whole, rtol=1e-3)


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(READ(r, c, 8, 8), READ(r - 2, c - 2, 12, 12)) for r in (2, 4) for c in (3, 5, 7)]


def relative(windows: Tensor) -> Tensor:
    """Judges every cell by the brightest one of its window."""
    means = convolved(windows)
    return means / means.amax((1, 2), keepdim=True) ** 4


def test_the_shift_test_tells_who_depends_on_the_window() -> None:
    assert shift_agreement(convolved, pairs(), 2) == pytest.approx(1, abs=1e-6)
    assert shift_agreement(relative, pairs(), 2) < 0.9
    assert shift_agreement(lambda w: 0 * cell_means(w), pairs(), 2) == 0


def test_the_shift_test_looks_at_all_that_a_halo_leaves() -> None:
    found = [shift_agreement(convolved, pairs(), edge) for edge in (0, 1, 2)]
    assert max(found[:2]) < 0.9  # it sees two cells around every cell
    assert found[2] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(17, 33), (3, 5), (8, 9)])
def test_crops_that_lie_wholly_outside_add_nothing(rows: int, columns: int) -> None:
    sums = Accumulator.of(rows, columns)
    for place in ((-4, 0), (0, -7), (rows, 0), (rows + 2, columns + 2)):
        sums.add(np.ones((4, 7), np.float32), np.ones((4, 7), np.float32), *place)
    assert not sums.weight.any()
    everywhere = np.ones((CELL * 64, CELL * 64, 1), dtype=np.uint8)
    plan = Dense(side=8, halo=0, phases=4, step=4)
    scores = score_plane(
        cell_means, read_from(everywhere), plan(rows, columns), (rows, columns), batch=3
    )
    assert (scores > 0).all()
