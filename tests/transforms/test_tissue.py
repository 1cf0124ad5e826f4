"""Tissue is told from glass and ink; sums over squares and the best of them are those counted."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from foveal.simulate.biopsy import INKS
from foveal.transforms.tissue import SummedArea, best_tiles, optical_density, tissue
from pyramids import BROWN, DARK, EOSIN, PURPLE

COLOURS = {
    "eosin": EOSIN,
    "pale eosin": (235, 200, 220),
    "clear eosin": (250, 170, 180),
    "pale grey tissue": (180, 175, 178),
    "nuclei": PURPLE,
    "many nuclei": DARK,
    "a fold": (40, 20, 60),
    "immunostain": BROWN,
    "pale immunostain": (200, 160, 120),
    "dark immunostain": (60, 40, 30),
}

PENS = {
    **{f"simulated {k}": tuple((255 * ink).round()) for k, ink in enumerate(INKS)},
    "green": (20, 110, 50),
    "pale green": (60, 179, 113),
    "blue": (30, 90, 200),
    "pale blue": (100, 149, 237),
    "black": (25, 25, 30),
    "faded black": (60, 60, 65),
    "red": (200, 30, 40),
    "crimson": (220, 20, 60),
}


def spot(colour: tuple[float, ...], glass: int, side: int = 20) -> np.ndarray:
    """A square on glass, seen through glass of that brightness."""
    picture = np.full((64, 64, 3), glass, np.uint8)
    picture[20 : 20 + side, 22 : 22 + side] = np.round(np.array(colour) * glass / 255)
    return picture


def inside(amount: np.ndarray, side: int = 20) -> np.ndarray:
    return amount[20 : 20 + side, 22 : 22 + side]


# --- what counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("glass", [255, 235])
@pytest.mark.parametrize("name", COLOURS)
def test_dyes_count_where_they_are(name: str, glass: int) -> None:
    amount = tissue(spot(COLOURS[name], glass))
    assert (inside(amount) > 0).all()
    assert (amount > 0).sum() == 400
    assert amount.max() <= 1
    bright = tissue(spot(COLOURS[name], 255))
    np.testing.assert_allclose(amount, bright, atol=0.02)  # the lamp does not matter


@pytest.mark.parametrize("glass", [255, 235])
@pytest.mark.parametrize("name", PENS)
def test_pens_count_nothing(name: str, glass: int) -> None:
    picture = spot(PENS[name], glass)
    assert not tissue(picture).any()
    picture[5:15, 5:15] = np.round(np.array(PURPLE) * glass / 255)  # tissue beside it counts on
    assert (tissue(picture) > 0).sum() == 100


@pytest.mark.parametrize("grey", [0, 10, 60])
def test_black_is_no_stain_even_where_colours_of_pens_are(grey: int) -> None:
    assert not tissue(spot((grey, grey, grey), 255), pens=False).any()
    assert tissue(spot((30, 30, 150), 255), pens=False).any()


@pytest.mark.parametrize("colour", [(30, 30, 150), (60, 60, 160)])
def test_a_dark_blue_pen_counts_nothing(colour: tuple[int, int, int]) -> None:
    assert not tissue(spot(colour, 255)).any()


@pytest.mark.parametrize("name", ["simulated 0", "simulated 1", "simulated 2", "simulated 3"])
def test_the_soft_edge_of_a_pen_counts_nothing(name: str) -> None:
    picture, ink = spot((255, 255, 255), 255), np.array(PENS[name])
    picture[19:41, 21:43] = np.round(0.5 * ink + 0.5 * 255)
    picture[20:40, 22:42] = ink
    assert not tissue(picture).any()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("glass", [255, 235])
def test_a_blank_slide_has_none(glass: int, channels: int) -> None:
    blank = np.full((60, 70, channels), glass, np.uint8)
    assert not tissue(blank).any()
    grain = np.random.default_rng(0).integers(-3, 4, blank.shape)
    assert not tissue(np.clip(blank + grain, 0, 255).astype(np.uint8)).any()


def test_darker_counts_more_but_folds_do_not_win() -> None:
    pale, usual, fold = (
        inside(tissue(spot(COLOURS[name], 255))).mean()
        for name in ("pale eosin", "nuclei", "a fold")
    )
    assert 0 < pale < usual < fold == 1


def test_dust_is_taken_away() -> None:
    picture = spot(PURPLE, 255, side=2)
    assert not tissue(picture).any()
    assert tissue(spot(PURPLE, 255, side=3)).sum() > 0
    assert tissue(spot(PURPLE, 255, side=2)[18:26, 20:28]).any()  # too small to know dust


def test_other_channels_count_by_density_alone() -> None:
    grey = np.full((40, 40, 1), 250, np.uint8)
    grey[10:20, 10:20] = 20
    assert (tissue(grey) > 0).sum() == 100
    several = np.repeat(grey, 5, axis=2)
    np.testing.assert_allclose(tissue(several), tissue(grey))


def test_the_density_is_against_the_glass() -> None:
    picture = spot((25.5, 25.5, 25.5), 235)
    density = optical_density(picture)
    assert inside(density).mean() == pytest.approx(np.log10(236 / 25))
    assert density[0].max() == 0
    picture[20:40, 22:42] = 255  # brighter than glass is not less than nothing
    assert optical_density(picture).min() == 0


def test_the_lamp_is_the_brightest_hundredth() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(150, 250, (37, 41, 3), dtype=np.uint8)
    light = np.maximum(np.quantile(picture, 0.99, axis=(0, 1)), 180.0)
    plain = np.maximum(np.log10((light + 1) / (picture.astype(np.float64) + 1)), 0.0)
    np.testing.assert_allclose(optical_density(picture), plain, rtol=1e-6, atol=1e-7)


# --- sums -----------------------------------------------------------------------------------------


def overlaps(starts: np.ndarray, side: float, length: float, cells: int) -> np.ndarray:
    """Which share of every cell along a side lies in stretches, "stretch cell"."""
    cell = length / cells
    low = np.maximum(starts[:, None], np.arange(cells) * cell)
    high = np.minimum(starts[:, None] + side, (np.arange(cells) + 1) * cell)
    return np.maximum(high - low, 0) / cell


def counted(amount: np.ndarray, size: tuple, top: np.ndarray, left: np.ndarray, side: float):
    """Tissue in squares, cell by cell."""
    rows = overlaps(top, side, size[0], amount.shape[0])
    columns = overlaps(left, side, size[1], amount.shape[1])
    return np.einsum("tr,rc,tc->t", rows, amount, columns)


SIZES = st.tuples(st.floats(1, 5000), st.floats(1, 5000))
CELLS = st.tuples(st.integers(1, 30), st.integers(1, 30))


def drawn(seed: int, cells: tuple[int, int], full: float = 0.5) -> np.ndarray:
    """Amounts of which a share is not 0, in steps that floats add up without an error."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(cells) < full, rng.integers(1, 257, cells) / 256, 0.0)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 999), cells=CELLS, size=SIZES, share=st.floats(1e-3, 2))
def test_squares_hold_what_their_cells_do(
    seed: int, cells: tuple[int, int], size: tuple[float, float], share: float
) -> None:
    amount, rng = drawn(seed, cells), np.random.default_rng(seed)
    side = share * max(size)
    top, left = (rng.uniform(-2 * side, length + side, 50) for length in size)
    got = SummedArea.of(amount, height=size[0], width=size[1])(top, left, side)
    np.testing.assert_allclose(got, counted(amount, size, top, left, side), atol=1e-9)


def test_a_square_over_all_holds_all_and_one_outside_nothing() -> None:
    amount = drawn(1, (7, 9))
    table = SummedArea.of(amount, height=70.0, width=90.0)
    places = np.array([-5.0, -100.0, 90.5, 0.0]), np.array([-5.0, 0.0, 10.0, -100.0])
    np.testing.assert_allclose(table(*places, 100.0), [amount.sum(), 0, 0, 0], atol=1e-12)
    edge = table(np.array([20.0]), np.array([30.0]), 20.0)
    assert edge[0] == pytest.approx(amount[2:4, 3:5].sum())


# --- choice ---------------------------------------------------------------------------------------

OFFSETS = st.tuples(*[st.sampled_from([0.0, 0.5, 0.25, 0.9])] * 2)


def grid(size: tuple[float, float], side: float, offset: tuple[float, float]) -> np.ndarray:
    """All squares of the centred grid, moved by the offset, that share a part with the slide."""
    lines = []
    for length, shift in zip(size, offset, strict=True):
        first = (length - np.ceil(length / side) * side) / 2 + shift * side
        line = first + np.arange(-3, np.ceil(length / side) + 3) * side
        lines.append(line[(line + side > 1e-9 * length) & (line < length * (1 - 1e-9))])
    return np.stack([axis.ravel() for axis in np.meshgrid(*lines, indexing="ij")], axis=1)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 999),
    cells=CELLS,
    size=SIZES,
    share=st.floats(0.08, 1.5),
    count=st.integers(1, 40),
    offset=OFFSETS,
)
def test_no_square_of_the_grid_is_better(
    seed: int,
    cells: tuple[int, int],
    size: tuple[float, float],
    share: float,
    count: int,
    offset: tuple[float, float],
) -> None:
    amount, side = drawn(seed, cells), share * min(size)
    assume(size[0] * size[1] / side**2 < 5000)
    table = SummedArea.of(amount, height=size[0], width=size[1])
    every = grid(size, side, offset)
    held = np.sort(counted(amount, size, *every.T, side))[::-1]
    held = held[held > 1e-9]
    got = best_tiles(table, side=side, count=min(count, max(len(held), 1)), offset=offset)
    assert len(np.unique(got.round(6), axis=0)) == len(got)
    apart = np.abs(got[:, None] - every[None]).max(axis=2).min(axis=1)
    assert (apart < 1e-6 * max(size)).all()
    amounts = counted(amount, size, *got.T, side)
    np.testing.assert_allclose(amounts, held[: len(got)], atol=1e-9)
    assert len(got) == min(count, len(held))


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.0, 0.3), (0.99, 0.01)])
@pytest.mark.parametrize("side", [7.0, 50.0, 90.0, 333.0])
def test_the_grid_covers_the_slide_and_no_part_twice(
    side: float, offset: tuple[float, float]
) -> None:
    amount, size = np.ones((10, 9)), (100.0, 90.0)
    table = SummedArea.of(amount, height=size[0], width=size[1])
    got = best_tiles(table, side=side, count=10_000, offset=offset)
    for down, across in np.random.default_rng(0).uniform(0, size, (200, 2)):
        hit = (got[:, 0] <= down) & (down < got[:, 0] + side)
        assert (hit & (got[:, 1] <= across) & (across < got[:, 1] + side)).sum() == 1
    if offset == (0.0, 0.0):
        ends = got.min(axis=0), got.max(axis=0) + side - np.array(size)
        np.testing.assert_allclose(-ends[0], ends[1], atol=1e-9)  # centred


def test_equal_squares_come_in_the_order_of_the_grid() -> None:
    table = SummedArea.of(np.ones((64, 64)), height=512.0, width=512.0)
    got = best_tiles(table, side=32.0, count=40)
    assert got.tolist() == [[32 * (k // 16), 32 * (k % 16)] for k in range(40)]


def test_there_are_fewer_where_fewer_hold_any() -> None:
    amount = np.zeros((8, 8))
    amount[1, 2], amount[5, 5] = 0.25, 0.5
    table = SummedArea.of(amount, height=64.0, width=64.0)
    assert best_tiles(table, side=16.0, count=9).tolist() == [[32, 32], [0, 16]]
    nothing = SummedArea.of(np.zeros((8, 8)), height=64.0, width=64.0)
    for offset in ((0.0, 0.0), (0.5, 0.5)):
        assert best_tiles(nothing, side=16.0, count=9, offset=offset).shape == (0, 2)


def test_no_tile_of_bare_glass_is_chosen() -> None:
    for seed in range(20):
        rng, size, side = np.random.default_rng(seed), (400.0, 500.0), 37.0
        amount = np.where(rng.random((40, 50)) < 0.1, rng.random((40, 50)), 0.0)
        amount[:, 20:] = 0
        table = SummedArea.of(amount, height=size[0], width=size[1])
        got = best_tiles(table, side=side, count=1000)
        assert (counted(amount, size, *got.T, side) > 0).all()


@pytest.mark.parametrize("count", [1, 4, 10, 40, 200])
def test_a_share_of_the_tiles_is_spread_over_all_tissue(count: int) -> None:
    rng = np.random.default_rng(0)
    amount = rng.random((32, 32))
    amount[:8] = 0
    table = SummedArea.of(amount, height=320, width=320)
    best = best_tiles(table, side=32, count=count)
    mixed = best_tiles(table, side=32, count=count, evenly=0.5)
    assert len(mixed) == len(best) == len(np.unique(mixed, axis=0))
    assert (mixed[: count - count // 2] == best[: count - count // 2]).all()
    filled = np.round(table(*mixed.T, 32), 6)
    assert (np.diff(filled) <= 0).all()
    if count == 10:  # of 70 and more
        assert filled.min() < table(*best.T, 32).min()
        assert filled.min() > 0.25 * filled.max()
