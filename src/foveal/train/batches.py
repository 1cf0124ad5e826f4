"""Batches filled by threads, the same for any number of them.

Every picture of a batch is varied with a generator made from (seed, member, fold, epoch, place of
the draw), so it does not matter who makes it or when. Decoding and warping release the interpreter
lock; plain threads that write into one array beat worker processes on few cores and copy nothing.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from foveal.arrays import Pixels, Resized

AHEAD = 2
"""Batches that are made while one is used."""


@runtime_checkable
class Pictures(Protocol):
    """Prepared pictures by row, all of one shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """8 or 16 bit unsigned."""
        ...

    def __call__(self, row: int) -> Pixels:
        """One prepared picture."""
        ...


@dataclass(frozen=True, slots=True)
class Batches:
    """Pictures of given rows as tensors, varied or not.

    Attributes:
        pictures: Where prepared pictures come from.
        threads: That fill batches; changes no pixel.
        augment: From a picture and its generator to a variant; None for the picture as it is.
        size: Height and width of a variant; those of the pictures if None.
    """

    pictures: Pictures
    threads: int = 1
    augment: Callable[[Pixels, np.random.Generator], Resized] | None = None
    size: tuple[int, int] | None = None

    def __call__(
        self, parts: Sequence[np.ndarray], *, key: Sequence[int] = (), first: int = 0
    ) -> Iterator[Shaped[Tensor, "case channel height width"]]:
        """One tensor for each part of the draws.

        Args:
            parts: Rows of every batch.
            key: Of the job, and the epoch.
            first: The batch to begin with; the ones before it are not made.
        """
        rows = [int(row) for part in parts for row in part]
        *size, channels = self.pictures.shape
        form = ((*(self.size or size), channels), self.pictures.dtype)

        def fill(place: int, out: np.ndarray) -> None:
            picture = self.pictures(rows[place])
            if self.augment is not None:
                picture = self.augment(picture, np.random.default_rng((*key, place)))
            out[...] = picture

        sizes = [len(part) for part in parts]
        yield from map(_as_tensor, filled(fill, sizes, [form], threads=self.threads, first=first))


def filled(
    fill: Callable[..., None],
    sizes: Sequence[int],
    forms: Sequence[tuple[tuple[int, ...], np.dtype]],
    *,
    threads: int,
    first: int = 0,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches of arrays whose draws are filled by threads, some of them ahead.

    Args:
        fill: Given the place of a draw in the epoch and its part of every array, writes into these;
            what it writes must follow from the place alone.
        sizes: Draws of every batch.
        forms: Shape and kind of a draw's part of each array.
        threads: That fill; changes no bit.
        first: The batch to begin with; the ones before it are not made.
    """
    starts = np.cumsum([0, *sizes]).tolist()
    memory = [_Memory(*form) for form in forms]
    with ThreadPoolExecutor(max(1, threads)) as pool:
        coming: deque[tuple[tuple[np.ndarray, ...], list[Future]]] = deque()
        for k in range(first, len(sizes)):
            arrays = tuple(one(sizes[k]) for one in memory)
            chunks = np.array_split(np.arange(sizes[k]), max(1, threads))
            jobs = [pool.submit(_fill, fill, arrays, chunk, starts[k]) for chunk in chunks]
            coming.append((arrays, jobs))
            if len(coming) > AHEAD:
                yield _finish(*coming.popleft())
        while coming:
            yield _finish(*coming.popleft())


def _fill(
    fill: Callable[..., None], arrays: tuple[np.ndarray, ...], chunk: np.ndarray, start: int
) -> None:
    for k in chunk.tolist():
        fill(start + k, *(array[k] for array in arrays))


def _finish(arrays: tuple[np.ndarray, ...], jobs: list[Future]) -> tuple[np.ndarray, ...]:
    for job in jobs:
        job.result()
    return arrays


class _Memory:
    """Arrays for batches; one that nobody holds any more is filled again.

    Fresh memory would cost a page fault every 4 kB, a seventh of all the time where pictures come
    from the cache.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.free: list[np.ndarray] = []

    def __call__(self, count: int) -> np.ndarray:
        """An array for so many pictures."""
        fits = [k for k, array in enumerate(self.free) if len(array) >= count]
        whole = self.free.pop(fits[0]) if fits else np.empty((count, *self.shape), self.dtype)
        lent = whole[:count]
        weakref.finalize(lent, self.free.append, whole)
        return lent


def _as_tensor(arrays: tuple[np.ndarray, ...]) -> Tensor:
    (pictures,) = arrays
    if pictures.dtype == np.uint16:
        pictures = pictures.astype(np.float32)  # few operations know uint16
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def quiet_libraries() -> None:
    """Keep OpenCV from starting threads of its own inside ours."""
    cv2.setNumThreads(0)


def steps_of(draws: int, batch: int) -> int:
    """Batches of nearly `batch` draws; none of one, which batch norm refuses, unless all are."""
    most = draws if batch == 1 else draws // 2
    return max(1, min(round(draws / batch), most))


def even_parts(draws: Int[np.ndarray, " draw"], batch: int) -> list[np.ndarray]:
    """Draws cut into batches of nearly `batch`, their sizes one apart at most; none is tiny."""
    return np.array_split(draws, steps_of(len(draws), batch))
