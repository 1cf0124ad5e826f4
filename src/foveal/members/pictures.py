"""The prepared pictures of cases, which every member that asks for the same ones shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from foveal.manifest import Case
from foveal.study import digest
from foveal.task import Resources
from foveal.train.cache import Direct, Mapped, cached


def maker(cases: Sequence[Case], read: Callable, *steps: Callable) -> Callable[[int], np.ndarray]:
    """From a row to what reading its case and some steps make of it."""

    def make(row: int) -> np.ndarray:
        value = read(cases[row])
        for step in steps:
            value = step(value)
        return value

    return make


def made(
    kind: str, cases: Sequence[Case], resources: Resources, read: Callable, *steps: Callable
) -> Mapped | Direct:
    """What reading and some steps make of every case, from the study's cache.

    Args:
        kind: First word of the file's name; the rest follows from parts and cases.
        cases: All that the cache holds.
        resources: With the cache.
        read: From a case to its picture.
        steps: From that to what is cached.
    """
    return cached(
        resources.cache / f"{kind}-{digest(read, *steps, [c.paths for c in cases])}.npy",
        maker(cases, read, *steps),
        len(cases),
        threads=resources.threads,
        limit_bytes=resources.cache_bytes,
        should_stop=resources.should_stop,
    )
