"""Batches are a function of rows and key alone: not of threads, nor of where one begins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import DataError
from foveal.train.batches import Batches, even_parts
from foveal.train.cache import Direct, Mapped
from foveal.transforms import Augment

VARY = Augment(rotate_degrees=90.0, elastic=0.1, brightness=0.3, cutout=0.5)


def pictures(dtype: type = np.uint8, cases: int = 13) -> Mapped:
    full = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    values = rng.integers(0, full, (cases, 12, 9, 3), dtype=dtype, endpoint=True)
    values.setflags(write=False)
    return Mapped(values)


def made(batches: Batches, parts: list[np.ndarray], **options) -> list[torch.Tensor]:
    return [images.clone() for images in batches(parts, **options)]


def assert_same(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert len(got) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


PARTS = even_parts(np.array([3, 3, 0, 12, 5, 5, 1, 7, 11, 2, 2, 9, 4, 6, 8, 10, 3]), 4)


@pytest.mark.parametrize("threads", [2, 5, 50])
def test_any_number_of_threads_fills_the_same_bits(threads):
    wanted = made(Batches(pictures(), 1, VARY), PARTS, key=(1, 0, 7))
    assert_same(made(Batches(pictures(), threads, VARY), PARTS, key=(1, 0, 7)), wanted)


@pytest.mark.parametrize("first", range(len(PARTS) + 1))
def test_beginning_later_changes_nothing_that_follows(first):
    whole = made(Batches(pictures(), 2, VARY), PARTS, key=(1, 0, 7))
    assert_same(
        made(Batches(pictures(), 2, VARY), PARTS, key=(1, 0, 7), first=first), whole[first:]
    )


def test_the_place_of_a_draw_counts_not_its_batch():
    order = np.concatenate(PARTS)
    whole = torch.cat(made(Batches(pictures(), 2, VARY), PARTS, key=(4, 2)))
    other = torch.cat(made(Batches(pictures(), 3, VARY), even_parts(order, 7), key=(4, 2)))
    assert torch.equal(whole, other)
    twice = np.flatnonzero(order == 3)
    assert len({whole[k].numpy().tobytes() for k in twice}) == len(twice)


def test_every_number_of_the_key_counts():
    keys = [(1, 0, 7), (2, 0, 7), (1, 1, 7), (1, 0, 8), (1, 0, 7)]
    seen = [torch.cat(made(Batches(pictures(), 2, VARY), PARTS, key=key)) for key in keys]
    for k in range(4):
        assert not any(torch.equal(seen[k], seen[j]) for j in range(k))
    assert torch.equal(seen[4], seen[0])


@pytest.mark.parametrize(("dtype", "tensor"), [(np.uint8, torch.uint8), (np.uint16, torch.float32)])
def test_without_variation_a_batch_is_the_pictures_of_its_rows(dtype, tensor):
    source = pictures(dtype)
    for rows, images in zip(PARTS, made(Batches(source, 2), PARTS), strict=True):
        assert images.dtype == tensor
        wanted = np.moveaxis(source.values[rows], 3, 1).astype(np.float32)
        np.testing.assert_array_equal(images.float().numpy(), wanted)


def test_batches_that_are_kept_are_not_filled_again():
    kept = list(Batches(pictures(), 2, VARY)(PARTS, key=(1,)))
    assert_same(kept, made(Batches(pictures(), 2, VARY), PARTS, key=(1,)))


def test_a_picture_that_cannot_be_made_ends_the_epoch_with_its_reason():
    def make(row: int) -> np.ndarray:
        if row == 5:
            raise DataError("case 5 is gone")
        return np.zeros((12, 9, 3), np.uint8)

    source = Direct(make, (12, 9, 3), np.dtype(np.uint8))
    with pytest.raises(DataError, match="case 5 is gone"):
        made(Batches(source, 3), PARTS)


def test_an_epoch_may_be_left_in_the_middle():
    running = Batches(pictures(), 2, VARY)(PARTS, key=(1,))
    first = next(running).clone()
    running.close()
    assert torch.equal(first, made(Batches(pictures(), 1, VARY), PARTS, key=(1,))[0])


@settings(max_examples=60, deadline=None, database=None)
@given(count=st.integers(1, 500), batch=st.integers(1, 64))
def test_parts_are_even_complete_and_near_the_size_asked_for(count, batch):
    parts = even_parts(np.arange(count), batch)
    sizes = [len(p) for p in parts]
    assert np.concatenate(parts).tolist() == list(range(count))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(1.5 * batch, 1)
    assert min(sizes) >= min(count, batch) / 2
    assert min(sizes) > 1 or 1 in (count, batch)
