"""A plane from windows is the plane itself, whatever the windows, the flips and the batches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.errors import Stopped
from foveal.manifest import Window
from foveal.predict.windows import Accumulator, score_plane
from foveal.read.volume import Volume
from foveal.transforms.tiles import Inner, Windows, hann, uniform

CELL = 4
"""Pixels a cell is wide."""

PLANE = np.random.default_rng(0).integers(0, 255, (52, 72, 2)).astype(np.uint8)


def read(tile: int):
    volume = Volume(PLANE)
    side = tile * CELL
    return lambda row, column: np.moveaxis(
        volume(Window(top=row * CELL, left=column * CELL, height=side, width=side)), 2, 0
    )


def cell_means(windows: Tensor) -> Tensor:
    """A network that needs no context: the mean of every cell."""
    return torch.nn.functional.avg_pool2d(windows.mean(1), CELL)


def by_hand() -> np.ndarray:
    return PLANE.mean(2).reshape(13, CELL, 18, CELL).mean((1, 3))


@pytest.mark.parametrize("weight", [uniform, hann, Inner(1)])
@pytest.mark.parametrize(("tile", "stride", "batch"), [(4, 2, 3), (5, 3, 64), (30, 8, 1)])
def test_windows_give_the_plane(weight, tile: int, stride: int, batch: int) -> None:
    plan = Windows(tile, stride, weight)
    got = score_plane(cell_means, read(tile), plan, (13, 18), batch=batch)
    np.testing.assert_allclose(got, by_hand(), rtol=1e-5)


def test_flips_are_undone_and_taken() -> None:
    def first_column(windows: Tensor) -> Tensor:
        scores = cell_means(windows)
        scores[:, :, 1:] = 0  # sees one side of the window only
        return scores

    plan = Windows(4, 2)
    plain = score_plane(first_column, read(4), plan, (13, 18), batch=8, alternate=False)
    turned = score_plane(first_column, read(4), plan, (13, 18), batch=8)
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


def test_a_signal_stops_it() -> None:
    with pytest.raises(Stopped):
        score_plane(cell_means, read(4), Windows(4, 4), (13, 18), batch=2, should_stop=lambda: True)
