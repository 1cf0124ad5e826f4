"""Tiles lie for NumPy as they do for torch, change places as told, and vary one by one."""

from functools import partial

import numpy as np
import pytest
import torch

from foveal.transforms.augment import Augment
from foveal.transforms.montage import Layout, SeenTiles, VaryTiles, shifted

COLOURS = Augment(flip_horizontal=0.0, brightness=0.2, contrast=0.2, colour=0.2)
TURNS = Augment(flip_horizontal=0.5, flip_vertical=0.5, quarter_turns=True)


def still(tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The tile itself."""
    return tile


def case_of(layout: Layout, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A case of tiles that are all different."""
    tall = layout.shifts * layout.count * layout.side
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (tall, layout.side, channels), np.uint8)


def numbered(layout: Layout) -> np.ndarray:
    """A case whose tiles each have their own colour: their number from above."""
    numbers = np.arange(layout.shifts * layout.count, dtype=np.uint8)
    flat = np.repeat(numbers, layout.side)[:, None, None]
    return np.broadcast_to(flat, (len(flat), layout.side, 3)).copy()


def as_torch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(image, 2, 0).astype(np.float32))


LAYOUTS = [
    Layout(count=count, side=8, shifts=shifts, joined=joined)
    for count in (1, 6, 7, 16)
    for shifts in (1, 2, 4)
    for joined in (True, False)
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_and_torch_see_the_same(layout: Layout) -> None:
    cases = [case_of(layout, seed=seed) for seed in range(2)]
    batch = torch.stack([as_torch(case) for case in cases])
    for shift in range(layout.shifts):
        seen = SeenTiles(layout, shift)(batch)
        assert seen.shape == (2, 3, *layout.size)
        for one, case in zip(seen, cases, strict=True):
            wanted = layout.arrange(layout.tiles(case, shift))
            assert torch.equal(one, as_torch(wanted))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shift_shows_its_own_part_in_its_order(layout: Layout) -> None:
    case, columns = numbered(layout), layout.count // layout.rows
    for shift in range(layout.shifts):
        assert (layout.tiles(case, shift) // layout.count == shift).all()
        seen = layout.arrange(layout.tiles(case, shift))[:, :, 0]
        for k in range(layout.count):
            row, column = divmod(k, columns)
            part = seen[8 * row : 8 * (row + 1), 8 * column : 8 * (column + 1)]
            assert (part == shift * layout.count + k).all()


def test_a_picture_is_as_square_as_can_be_and_a_bag_is_a_column() -> None:
    sizes = {n: Layout(count=n, side=8).size for n in (1, 2, 12, 16, 36, 7)}
    assert sizes == {1: (8, 8), 2: (8, 16), 12: (24, 32), 16: (32, 32), 36: (48, 48), 7: (8, 56)}
    assert Layout(count=12, side=8, joined=False).size == (96, 8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mirrored_view_mirrors_every_tile_in_its_place(layout: Layout) -> None:
    case, last = case_of(layout), layout.shifts - 1
    seen = SeenTiles(layout, last, mirrored=True)(as_torch(case)[None])[0]
    wanted = layout.arrange(layout.tiles(case, last)[:, :, ::-1])
    assert torch.equal(seen, as_torch(wanted))


def test_views_are_those_of_all_shifts_and_their_mirror_images() -> None:
    layout = Layout(count=4, side=8, shifts=2)
    plain, all_ = (shifted(layout, mirrored=mirrored) for mirrored in (False, True))
    assert [view.forward for view in plain] == [SeenTiles(layout, 0), SeenTiles(layout, 1)]
    assert [view.forward for view in all_[:2]] == [view.forward for view in plain]
    assert [(v.forward.shift, v.forward.mirrored) for v in all_[2:]] == [(0, True), (1, True)]
    scores = torch.randn(5, 1)
    assert all(torch.equal(view.inverse(scores), scores) for view in all_)


def test_a_view_leaves_the_batch_as_it_is() -> None:
    layout = Layout(count=4, side=8, shifts=2)
    batch = torch.rand(2, 3, 64, 8)
    before = batch.clone()
    for view in shifted(layout, mirrored=True):
        view.forward(batch).zero_()
        assert torch.equal(batch, before)


# --- variants -------------------------------------------------------------------------------------


def varied(
    layout: Layout, seed: int, image: np.ndarray | None = None, **more: object
) -> np.ndarray:
    vary = VaryTiles(**{"layout": layout, "each": still, "whole": still, **more})
    return vary(numbered(layout) if image is None else image, np.random.default_rng(seed))


def numbers(layout: Layout, seen: np.ndarray) -> list[int]:
    """The tiles in what a network sees, in order."""
    columns = layout.count // layout.rows
    corners = [(8 * (k // columns), 8 * (k % columns)) for k in range(layout.count)]
    return [int(seen[y, x, 0]) for y, x in corners]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_shuffling_a_variant_is_a_shift(layout: Layout) -> None:
    firsts = set()
    for seed in range(40):
        seen = varied(layout, seed)
        assert seen.shape == (*layout.size, 3)
        first, *others = numbers(layout, seen)
        assert others == [first + k for k in range(1, layout.count)]
        firsts.add(first)
    assert firsts == {shift * layout.count for shift in range(layout.shifts)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shuffling_changes_the_order_and_keeps_the_tiles(layout: Layout) -> None:
    orders = set()
    for seed in range(20):
        plain, mixed = (numbers(layout, varied(layout, seed, shuffle=s)) for s in (0.0, 1.0))
        assert sorted(mixed) == plain  # the same shift too: no setting moves another
        orders.add(tuple(k - plain[0] for k in mixed))
    assert len(orders) >= min(layout.count, 10)


def test_a_share_of_variants_is_shuffled() -> None:
    layout = Layout(count=16, side=8)
    seen = [numbers(layout, varied(layout, seed, shuffle=0.3)) for seed in range(300)]
    share = np.mean([order != sorted(order) for order in seen])
    assert 0.2 < share < 0.4


def test_what_varies_tiles_draws_the_same_whether_they_are_shuffled_or_not() -> None:
    layout = Layout(count=6, side=8, shifts=2)

    def told(drawn: list[float], tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        drawn.append(rng.random())
        return tile

    draws: tuple[list[float], list[float]] = [], []
    for shuffle, drawn in zip((0.0, 1.0), draws, strict=True):
        each = whole = partial(told, drawn)
        varied(layout, 3, each=each, whole=whole, shuffle=shuffle)
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == layout.count + 1


def test_the_same_generator_gives_the_same_and_another_one_not() -> None:
    layout = Layout(count=4, side=8, shifts=2)
    image, parts = case_of(layout), {"each": TURNS, "whole": COLOURS, "shuffle": 0.5}
    one, same, other = (varied(layout, seed, image, **parts) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("joined", [True, False])
def test_a_case_is_never_written_to(joined: bool) -> None:  # noqa: FBT001
    layout = Layout(count=4, side=8, shifts=2, joined=joined)
    image, each = case_of(layout), Augment(cutout=1.0, rotate_degrees=20, brightness=0.3)
    before = image.copy()
    image.setflags(write=False)  # as what is mapped from disk
    for seed in range(8):
        varied(layout, seed, image, each=each, whole=COLOURS, shuffle=0.5)
        seen = varied(layout, seed, image)
        seen[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("layout", [Layout(count=6, side=8), Layout(count=6, side=8, joined=False)])
def test_colours_change_in_all_tiles_alike_and_turns_in_each(layout: Layout) -> None:
    flat = np.full((6 * 8, 8, 3), (180, 120, 150), np.uint8)
    for seed in range(5):
        stained = varied(layout, seed, flat, whole=COLOURS).reshape(-1, 3)
        assert len(np.unique(stained, axis=0)) == 1
        assert (stained[0] != flat[0, 0]).any()
    alone = varied(layout, 0, flat, each=COLOURS)
    found = {tuple(colour) for colour in alone.reshape(-1, 3).tolist()}
    assert len(found) > 1

    tile = case_of(Layout(count=1, side=8))
    turned = varied(layout, 0, np.concatenate([tile] * 6), each=TURNS)
    columns = 6 // layout.rows
    ways = {turned[8 * (k // columns) :, 8 * (k % columns) :][:8, :8].tobytes() for k in range(6)}
    assert len(ways) > 1
    every = [np.rot90(side, k) for side in (tile, tile[:, ::-1]) for k in range(4)]
    assert ways <= {np.ascontiguousarray(way).tobytes() for way in every}
