"""Windows cover a plane, reach over its edge where they must, and take turns in flips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.transforms.tiles import Dense, Inner, Windows, hann, uniform


def covered(plan: Windows, rows: int, columns: int) -> np.ndarray:
    seen = np.zeros((rows, columns))
    (cover,) = plan(rows, columns)
    counted = cover.weights > 0
    for row, column in cover.starts.astype(int):
        for r, c in np.argwhere(counted) + np.array([row, column]):
            if 0 <= r < rows and 0 <= c < columns:
                seen[r, c] += 1
    return seen


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    tile=st.integers(2, 9),
    overlap=st.integers(1, 4),
    edge=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_cell_is_counted(rows: int, columns: int, tile: int, overlap: int, edge: int) -> None:
    edge = min(edge, (tile - 1) // 2)
    stride = max(1, tile // overlap)
    for weight in (uniform, hann, Inner(edge)):
        assert (covered(Windows(tile, stride, weight), rows, columns) > 0).all()


def test_windows_end_where_the_plane_does() -> None:
    starts = Windows(8, 3)(20, 8)[0].starts
    assert starts[:, 0].min() == 0
    assert starts[:, 0].max() == 12
    assert set(starts[:, 1].tolist()) == {0}
    assert np.diff(np.unique(starts[:, 0])).max() <= 3
    inner = Windows(8, 4, Inner(2))(20, 20)[0].starts
    assert (inner.min(), inner.max()) == (-2, 14)


def test_a_plane_smaller_than_a_window_has_one() -> None:
    assert Windows(8, 4)(3, 5)[0].starts.tolist() == [[0, 0]]


@pytest.mark.parametrize("overlap", [2, 4])
def test_cells_see_every_flip_alike(overlap: int) -> None:
    (cover,) = Windows(8, 8 // overlap)(64, 64)
    counts = np.zeros((4, 64, 64))
    for (row, column), turn in zip(cover.starts.astype(int), cover.turns, strict=True):
        counts[turn, row : row + 8, column : column + 8] += 1
    inside = counts[:, 8:-8, 8:-8]
    assert (inside == overlap**2 / 4).all()


def test_weights() -> None:
    assert (Windows(4, 2)(9, 9)[0].weights == 1).all()
    plane = Windows(6, 2, hann)(9, 9)[0].weights
    assert plane.min() > 0
    assert plane.max() == plane[2:4, 2:4].min()
    np.testing.assert_allclose(plane, plane[::-1, ::-1].T, rtol=1e-6)
    assert Windows(6, 2, Inner(2))(9, 9)[0].weights.sum() == 4


def test_without_flips_all_windows_are_upright() -> None:
    assert set(Windows(8, 4)(30, 30)[0].turns.tolist()) == {0, 1, 2, 3}
    assert not Windows(8, 4, alternate=False)(30, 30)[0].turns.any()


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    side=st.integers(2, 30),
    halo=st.integers(0, 5),
    phases=st.integers(1, 4),
    step=st.sampled_from([2, 4, 8]),
)
@settings(max_examples=80, deadline=None)
def test_large_crops_see_every_cell_once_a_phase(
    rows: int, columns: int, side: int, halo: int, phases: int, step: int
) -> None:
    looks = Dense(side=side, halo=halo, phases=phases, step=step)(rows, columns)
    wide = -(-halo // step) * step
    for turn, look in enumerate(looks):
        seen = np.zeros((rows, columns))
        down, across = look.weights.shape
        for row, column in look.starts.astype(int) + wide:
            ends = row + down - 2 * wide, column + across - 2 * wide
            seen[max(row, 0) : max(ends[0], 0), max(column, 0) : max(ends[1], 0)] += 1
        assert (seen == 1).all()
        assert down % step == across % step == 0
        assert max(down, across) <= max(side, step + 2 * wide)
        assert (look.turns == turn).all()
    assert len(looks) == phases


@pytest.mark.parametrize("cells", [80, 400, 2000])
def test_seams_of_one_look_lie_inside_the_crops_of_another(cells: int) -> None:
    looks = Dense(side=24, halo=2, phases=2, step=2)(cells, cells)
    first, second = (np.unique(look.starts[:, 0]) + 2 for look in looks)
    kept = looks[0].weights.shape[0] - 4
    apart = np.abs(first[1:, None] - second).min(axis=1)
    assert apart.min() >= 2
    assert apart.mean() >= kept / 5


def test_one_crop_that_sees_it_all_has_no_seams() -> None:
    assert [len(look.starts) for look in Dense(side=100, halo=2, phases=2, step=2)(80, 80)] == [
        1
    ] * 2


def test_what_is_seen_again_is_no_larger() -> None:
    looks = Dense(side=36, halo=2, phases=2, step=2)(128, 128)
    looked = [len(look.starts) * look.weights.size for look in looks]
    assert looked[1] <= looked[0] * 1.15
