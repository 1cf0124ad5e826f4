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
        starts = np.cumsum([0, *map(len, parts)])
        *size, channels = self.pictures.shape
        memory = _Memory((*(self.size or size), channels), self.pictures.dtype)
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            coming: deque[tuple[np.ndarray, list[Future]]] = deque()
            for k in range(first, len(parts)):
                coming.append(self._begin(pool, memory, parts[k], (*key, int(starts[k]))))
                if len(coming) > AHEAD:
                    yield _finish(*coming.popleft())
            while coming:
                yield _finish(*coming.popleft())

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        memory: _Memory,
        rows: Int[np.ndarray, " draw"],
        key: tuple[int, ...],
    ) -> tuple[np.ndarray, list[Future]]:
        out = memory(len(rows))
        chunks = np.array_split(np.arange(len(rows)), max(1, self.threads))
        return out, [pool.submit(self._fill, out, rows, chunk, key) for chunk in chunks]

    def _fill(
        self, out: np.ndarray, rows: np.ndarray, chunk: np.ndarray, key: tuple[int, ...]
    ) -> None:
        for k in chunk.tolist():
            picture = self.pictures(int(rows[k]))
            if self.augment is not None:
                place = (*key[:-1], key[-1] + k)
                picture = self.augment(picture, np.random.default_rng(place))
            out[k] = picture


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


def _finish(out: np.ndarray, jobs: list[Future]) -> Tensor:
    for job in jobs:
        job.result()
    if out.dtype == np.uint16:
        out = out.astype(np.float32)  # few operations know uint16
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def quiet_libraries() -> None:
    """Keep OpenCV from starting threads of its own inside ours."""
    cv2.setNumThreads(0)


def even_parts(draws: Int[np.ndarray, " draw"], batch: int) -> list[np.ndarray]:
    """Draws cut into batches of nearly `batch`, their sizes one apart at most; none is tiny."""
    return np.array_split(draws, max(1, round(len(draws) / batch)))
