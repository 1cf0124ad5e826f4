"""Views look where they say, and their way back restores."""

import pytest
import torch
import torch.nn.functional as F

from foveal.transforms.views import (
    Crop,
    Turned,
    View,
    centre,
    eight,
    flip_horizontal,
    flip_vertical,
    flips,
    ten_crop,
)


def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", [*centre, *flips, *ten_crop])
def test_a_view_keeps_the_shape_and_writes_to_nothing(view):
    batch = images()
    seen = view.forward(batch)
    assert seen.shape == batch.shape
    assert torch.equal(batch, images())
    scores = torch.rand(2)
    assert torch.equal(view.inverse(scores), scores)


@pytest.mark.parametrize("flip", [flip_horizontal, flip_vertical])
def test_the_way_back_of_a_flip_restores_a_mask(flip):
    view = View(forward=flip, inverse=flip)
    assert not torch.equal(view.forward(images()), images())
    assert torch.equal(view.inverse(view.forward(images())), images())


def test_flips_exchange_just_one_axis():
    batch = images()
    assert torch.equal(flip_horizontal(batch)[..., 0], batch[..., -1])
    assert torch.equal(flip_vertical(batch)[..., 0, :], batch[..., -1, :])


@pytest.mark.parametrize(
    ("top", "left", "rows", "columns"),
    [(0, 0, slice(0, 14), slice(0, 21)), (1, 1, slice(2, 16), slice(3, 24))],
)
def test_a_crop_is_the_window_it_names_enlarged(top, left, rows, columns):
    window = images()[..., rows, columns]
    wanted = F.interpolate(window, (16, 24), mode="bilinear", align_corners=False)
    assert torch.equal(Crop(float(top), float(left))(images()), wanted)
    assert torch.equal(Crop(float(top), float(left), mirrored=True)(images()), wanted.flip(-1))


def test_a_crop_of_everything_is_the_picture():
    torch.testing.assert_close(Crop(share=1.0)(images()), images())


def test_ten_crops_are_ten_different_looks():
    seen = [view.forward(images()) for view in ten_crop]
    assert len(seen) == 10
    for k, one in enumerate(seen):
        assert not any(torch.equal(one, other) for other in seen[:k])
    assert all(torch.equal(seen[k].flip(-1), seen[k + 5]) for k in range(5))


def test_eight_are_all_ways_to_turn_and_mirror_a_square() -> None:
    square = images()[..., :16]
    seen = [view.forward(square) for view in eight]
    assert torch.equal(square, images()[..., :16])
    for k, one in enumerate(seen):
        assert one.shape == square.shape
        assert not any(torch.equal(one, other) for other in seen[:k])
    ways = [turned for plain in (square, square.flip(-1)) for turned in all_quarters(plain)]
    assert len(seen) == len(ways) == 8
    assert all(any(torch.equal(one, way) for one in seen) for way in ways)
    scores = torch.rand(2)
    assert all(torch.equal(view.inverse(scores), scores) for view in eight)


def all_quarters(batch: torch.Tensor) -> list[torch.Tensor]:
    """By transposing and flipping alone."""
    across = batch.transpose(-1, -2)
    return [batch, across.flip(-1), batch.flip(-1).flip(-2), across.flip(-2)]


def test_a_picture_that_is_no_square_lies_down_or_stands_up() -> None:
    shapes = [tuple(Turned(k)(images()).shape[-2:]) for k in range(4)]
    assert shapes == [(16, 24), (24, 16), (16, 24), (24, 16)]
