"""Too little memory: what is taken for it, and how often and how small work is begun again."""

import numpy as np
import pytest
import torch

from foveal.errors import MemoryBudgetError
from foveal.members.memory import in_smaller_batches

WORDS = [
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: out of memory\nCUDA kernel errors might be reported later",
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory",
]
KINDS = [*(RuntimeError(w) for w in WORDS), torch.OutOfMemoryError("no more"), MemoryError()]


@pytest.mark.parametrize("error", KINDS, ids=lambda e: str(e)[:40] or type(e).__name__)
def test_every_error_about_memory_halves_the_batch(error: Exception) -> None:
    asked: list[int] = []

    def attempt(batch: int) -> str:
        asked.append(batch)
        if batch > 3:
            raise error
        return "made"

    assert in_smaller_batches(13, attempt, "cpu") == "made"
    assert asked == [13, 6, 3]


def test_one_case_that_is_too_large_is_an_error_with_the_cure() -> None:
    asked: list[int] = []

    def attempt(batch: int) -> np.ndarray:
        asked.append(batch)
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(MemoryBudgetError, match=r"one case is scored.*cure: a smaller block="):
        in_smaller_batches(5, attempt, "cpu", cure="block=")
    assert asked == [5, 2, 1]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: misaligned address"), ValueError()])
def test_another_error_is_not_taken_for_it(error: Exception) -> None:
    asked: list[int] = []

    def attempt(batch: int) -> None:
        asked.append(batch)
        raise error

    with pytest.raises(type(error)):
        in_smaller_batches(8, attempt, "cpu")
    assert asked == [8]
