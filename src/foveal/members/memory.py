"""What becomes of work that is too large for the memory: the same again, in smaller pieces.

Training and scoring are cut apart: fewer cases a step change how a batch is learned, which is
written down, while scores differ by no more than rounding when fewer are scored at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from foveal.errors import MemoryBudgetError
from foveal.files import read_json, write_json
from foveal.study import OVERRIDES
from foveal.task import Job, State

Made = TypeVar("Made")

FULL = ("allocate memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "CUDA error: out of memory")
"""Words in errors about memory, of libraries that have no kind of error for it."""


def with_less_memory(name: str, job: Job, batch: int, attempt: Callable[[int], State]) -> State:
    """Try to train; out of memory cuts the batch into parts, which is written down.

    It holds for this very training: one of another size or batch is tried whole again.

    Args:
        name: Of the member.
        job: To be done.
        batch: Cases a step.
        attempt: From the number of parts to the state.

    Raises:
        MemoryBudgetError: One case at a time is too much.
    """
    accumulate = int(job.overrides.get("accumulate", 1))
    while (state := _unless_full(attempt, accumulate, job.resources.device)) is None:
        if accumulate >= batch:
            raise MemoryBudgetError(
                f"{name}: out of memory even with one case at a time; cure: a smaller size= or "
                "backbone="
            )
        accumulate = min(2 * accumulate, batch)
        job.report({"note": f"out of memory: the batch is cut into {accumulate} parts"})
        path = job.folder / OVERRIDES
        others = read_json(path) if path.is_file() else {}
        write_json(path, {**others, job.mark: {"accumulate": accumulate}})
    return state


def in_smaller_batches(
    batch: int, attempt: Callable[[int], Made], device: str, *, cure: str = "size= or backbone="
) -> Made:
    """Try to score; out of memory halves the batch.

    Args:
        batch: Most cases at a time.
        attempt: From cases at a time to what is made of all of them.
        device: That computes.
        cure: Options of which a smaller value needs less memory.

    Raises:
        MemoryBudgetError: One case at a time is too much.
    """
    while (made := _unless_full(attempt, batch, device)) is None:
        if batch == 1:
            raise MemoryBudgetError(
                f"out of memory even where one case is scored at a time; cure: a smaller {cure}"
            )
        batch //= 2
    return made


def _unless_full(attempt: Callable[[int], Made], pieces: int, device: str) -> Made | None:
    """What an attempt makes; None where the memory was too small for it."""
    try:
        return attempt(pieces)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    is_said = any(words in str(error) for words in FULL)
    return is_said or isinstance(error, torch.OutOfMemoryError | MemoryError)
