"""What members look at, and how their scores are written down; both are the same for every kind."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from foveal.digests import digest
from foveal.errors import ManifestError
from foveal.manifest import Case
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.cache import CACHE_FORMAT, Direct, Mapped, cached, seconds_to_make


@runtime_checkable
class Prepared(Protocol):
    """What members look at of every case: arrays of one shape, from the study's cache."""

    def __call__(self, cases: Sequence[Case], resources: Resources) -> Mapped | Direct:
        """The arrays of all cases, from the study's cache or through it."""
        ...

    def seconds(self, cases: Sequence[Case], rows: Int[np.ndarray, " row"]) -> float:
        """What one case costs before it is cached, from a few of the rows."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What reading a case and some steps make of it; members that ask for the same share a cache.

    Attributes:
        kind: First word of the cache's name; the rest follows from parts and cases.
        read: From a case to its picture.
        steps: From that to what is cached, one after the other.
    """

    kind: str
    read: Callable
    steps: tuple[Callable, ...]

    def __call__(self, cases: Sequence[Case], resources: Resources) -> Mapped | Direct:
        """The arrays of all cases, from the study's cache or through it."""
        return stored(self.kind, self, self._maker(cases), cases, resources)

    def seconds(self, cases: Sequence[Case], rows: Int[np.ndarray, " row"]) -> float:
        """What one case costs before it is cached, from a few of the rows."""
        return seconds_to_make(self._maker(cases), rows.tolist())

    def _maker(self, cases: Sequence[Case]) -> Callable[[int], np.ndarray]:
        def make(row: int) -> np.ndarray:
            value = self.read(cases[row])
            for step in self.steps:
                value = step(value)
            return value

        return make


def stored(
    kind: str,
    parts: object,
    make: Callable[[int], np.ndarray],
    cases: Sequence[Case],
    resources: Resources,
) -> Mapped | Direct:
    """What `make` makes of every case, under a name that follows from its parts and the cases."""
    return cached(
        resources.cache / f"{kind}-{digest(CACHE_FORMAT, parts, [c.files for c in cases])}.npy",
        make,
        len(cases),
        threads=resources.threads,
        limit_bytes=resources.cache_bytes,
        should_stop=resources.should_stop,
        prepared=resources.prepared,
    )


def readable(
    cases: Sequence[Case],
    rows: Int[np.ndarray, " row"],
    resources: Resources,
    *sources: Mapped | Direct,
) -> Int[np.ndarray, " readable"]:
    """The rows that every source could make; of the others it is told why not."""
    failed = _failed(sources)
    for row in rows.tolist():
        if row in failed:
            resources.left_out(cases[row], failed[row])
    return np.array([row for row in rows.tolist() if row not in failed], dtype=np.int64)


def all_readable(job: Job, *sources: Mapped | Direct) -> None:
    """Make sure that nothing is learned of cases that could not be made.

    Raises:
        ManifestError: Some could not.
    """
    failed = _failed(sources)
    wrong = [row for row in (*job.train.tolist(), *job.held.tolist()) if row in failed]
    if wrong:
        raise ManifestError(
            f"{len(wrong)} cases cannot be read in full; cure: replace their files, or leave their "
            "rows out of the table, then foveal init FOLDER --replace",
            [f"{job.cases[row].id}: {failed[row]}" for row in sorted(wrong)],
        )
    if any(isinstance(source, Direct) for source in sources):
        note = "pictures have no room in the cache and are read at every look, which is slow"
        job.report({"note": f"{note}; cure: a larger cache_gb="})


def _failed(sources: Sequence[Mapped | Direct]) -> dict[int, str]:
    return {row: why for source in sources for row, why in source.failed.items()}


def score_each(
    states: Sequence[State],
    evaluate: Callable[[State], Float[np.ndarray, "case column"]],
    ids: Sequence[str],
    *,
    columns: tuple[str, ...],
    reading: float,
    device: str,
) -> list[Predictions]:
    """What every state says of the same cases, and what it cost.

    Args:
        states: To be asked, one after the other.
        evaluate: From a state to its scores; not called where there are no cases.
        ids: One name a case.
        columns: Names of the scores.
        reading: Seconds that one case's pictures take, shared by the states.
        device: That computes.
    """
    said = []
    for state in states:
        started = time.monotonic()
        values = evaluate(state) if ids else np.zeros((0, len(columns)))
        seconds = (time.monotonic() - started) / max(len(ids), 1) + reading / len(states)
        said.append(
            Predictions.of(
                ids,
                values.astype(np.float32),
                columns=columns,
                seconds=seconds,
                peak_bytes=peak_bytes(device),
            )
        )
    return said


def peak_bytes(device: str) -> float:
    """The most memory this process has held, on the device where it computed there."""
    if device.startswith("cuda"):
        import torch

        if held := torch.cuda.max_memory_allocated(device):
            return float(held)
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
