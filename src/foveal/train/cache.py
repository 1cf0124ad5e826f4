"""Prepared pictures (or any array a case), made once and mapped from disk afterwards.

Several jobs may ask for the same cache: each makes blocks of cases that nobody else has taken, and
waits for the others'. A cache is whole or not there; one that was interrupted is gone on with.
Where caches would grow
over their limit, a picture is made whenever it is asked for, with the same result; which ones
cannot be made is found out once and kept. Caches that nobody has asked for since `begin`, such as
those of a size that was changed, make room before that.
"""

from __future__ import annotations

import fcntl
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import DataError, DiskFullError, ShapeError, Stopped, StudyError
from foveal.files import disk_error, lay_out, write_json

CACHE_FORMAT = 4
"""Raised when other pixels or numbers are made of the same case; part of every cache's name."""

BEGAN = "began"
"""The name of the file whose time says since when caches are asked for."""

KEPT = ".direct.json"
"""Ends the name of what is kept of arrays that are made anew."""

NO_FILE = 0
"""In place of a file's number where cases are only looked through."""

TIMED_CASES = 8

BLOCK = 32
"""Cases that a job takes at a time: between two looks at the stop signal, and lost by a kill."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Arrays of all cases, mapped from one file.

    Attributes:
        values: One array a case along the first axis.
        failed: Rows that could not be made, with the reason.
    """

    values: np.ndarray
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one case."""
        return self.values.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of every value."""
        return self.values.dtype

    def __call__(self, row: int) -> np.ndarray:
        """One case's array."""
        return self.values[row]


@dataclass(frozen=True, slots=True)
class Direct:
    """Arrays made anew whenever they are asked for."""

    make: Callable[[int], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of one case."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __call__(self, row: int) -> np.ndarray:
        """One case's array."""
        return self.make(row)


def begin(folder: Path) -> None:
    """From now on it counts which caches of a folder are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEGAN).touch()


def cached(
    path: Path,
    make: Callable[[int], np.ndarray],
    count: int,
    *,
    threads: int,
    limit_bytes: float,
    should_stop: Callable[[], bool] = lambda: False,
    prepared: Callable[[float], None] = lambda share: None,
) -> Mapped | Direct:
    """The arrays of `count` cases, from the cache at `path` or through it.

    Args:
        path: Of the `.npy` file; its name must follow from all that decides the arrays.
        make: From a row to its array, all of one shape; raises `DataError` where it cannot.
        count: Of cases.
        threads: That make arrays.
        limit_bytes: Most that all caches of the folder may take together.
        should_stop: Asked between blocks.
        prepared: Told which share is made, after every block.

    Raises:
        Stopped: The signal came.
        DiskFullError: There is no room for it; what was begun is gone.
    """
    failed: dict[int, str] = {}
    direct: Direct | None = None
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path):
        found = _load(path)
        if found is not None:
            path.with_suffix(".json").touch()
        if found is not None and found.failed:
            found = _tried_again(path, found, make)
        if found is None:
            kept = _kept(path, make)
            if kept is not None and not _has_room(path, kept.nbytes * count, limit_bytes):
                return _looked_again(path, kept, threads, should_stop)
            first = _first(make, count, failed)
            if first is None:
                return Direct(make, (0,), np.dtype(np.uint8), failed)
            if not _has_room(path, first.nbytes * count, limit_bytes):
                direct = Direct(make, first.shape, first.dtype)
            else:
                try:
                    _begin(path, (count, *first.shape), first.dtype)
                except (OSError, DiskFullError) as error:
                    raise _given_back(path, error) from error
    work = _Work(path, count, threads, should_stop, prepared)
    if direct is not None:
        return _looked_through(work, direct)
    if found is None:
        try:
            _fill(work, make)
        except (OSError, DiskFullError) as error:
            with alone(path):
                raise _given_back(path, error) from error
        found = _load(path)
    if found is None:
        raise DiskFullError(
            f"{path} was taken away while it was made, by another job for which the disk was full "
            "or by hand; cure: free space, then the same call again"
        )
    return found


def _given_back(path: Path, error: OSError | DiskFullError) -> StudyError:
    """What was begun of a cache goes where the disk is full or cannot be written.

    Only whoever holds the lock may do that.
    """
    for suffix in (".part", ".progress"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    return disk_error(path, error) if isinstance(error, OSError) else error


def _has_room(path: Path, wanted: int, limit_bytes: float) -> bool:
    """Whether a cache fits beside the others, where need be without those nobody asks for."""
    if wanted + _bytes_of_others(path) <= limit_bytes:
        return True
    began = path.parent / BEGAN
    if began.is_file():
        since = began.stat().st_mtime_ns
        for sidecar in path.parent.glob("*.json"):
            with suppress(FileNotFoundError):  # another job makes room too
                if sidecar.stat().st_mtime_ns < since:
                    sidecar.with_suffix(".npy").unlink(missing_ok=True)
    return wanted + _bytes_of_others(path) <= limit_bytes


def _bytes_of_others(path: Path) -> int:
    """Bytes of the other caches of a folder, also of those that others are filling."""
    own, taken = (path, path.with_suffix(".part")), 0
    for kind in ("*.npy", "*.part"):
        for other in path.parent.glob(kind):
            with suppress(FileNotFoundError):  # finished or given back since it was listed
                taken += 0 if other in own else other.stat().st_size
    return taken


def _load(path: Path) -> Mapped | None:
    """A whole cache, or None where there is none or it was harmed."""
    try:
        values = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        sidecar = json.loads(path.with_suffix(".json").read_text())
        return Mapped(values, {int(k): v for k, v in sidecar["failed"].items()})
    except (OSError, ValueError, KeyError, EOFError, AttributeError):
        return None


def _kept(path: Path, make: Callable[[int], np.ndarray]) -> Direct | None:
    """What an earlier call found where there was no room for a cache; None where there is none."""
    try:
        kept = json.loads(path.with_suffix(KEPT).read_text())
        failed = {int(k): v for k, v in kept["failed"].items()}
        return Direct(make, tuple(kept["shape"]), np.dtype(kept["dtype"]), failed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(path: Path, direct: Direct) -> None:
    """Write down which cases cannot be made where there is no room for a cache."""
    kept = {"failed": direct.failed, "shape": direct.shape, "dtype": direct.dtype.str}
    with suppress(StudyError):  # it saves time, nothing else
        write_json(path.with_suffix(KEPT), kept)


def _looked_again(
    path: Path, kept: Direct, threads: int, should_stop: Callable[[], bool]
) -> Direct:
    """The same once those that could not be made were tried again."""
    if not kept.failed:
        return kept
    found = replace(kept, failed=_check(kept.make, [*kept.failed], threads, should_stop))
    _keep(path, found)
    return found


def _looked_through(work: _Work, direct: Direct) -> Direct:
    """The same once it is known which of the cases cannot be made, which is kept."""
    with suppress(StudyError):  # a disk that is full keeps no progress
        with alone(work.path):
            if kept := _kept(work.path, direct.make):  # others were faster
                return kept
            begun, part = _noted(work.path), work.path.with_suffix(".part")
            is_filled = begun is not None and begun["of"] != NO_FILE and part.is_file()
            if begun is None or (begun["of"] != NO_FILE and not is_filled):
                begun = {"of": NO_FILE, "made": [], "failed": {}}
                write_json(work.path.with_suffix(".progress"), begun)
        if is_filled:  # by another job, for which there was room
            failed = _check(direct.make, range(work.count), work.threads, work.should_stop)
            return replace(direct, failed=failed)
        work.by_blocks(
            begun,
            direct.make,
            lambda: None,
            lambda failed: _keep(work.path, replace(direct, failed=failed)),
        )
    kept = _kept(work.path, direct.make)
    if kept is None:
        rows = range(work.count)
        kept = replace(direct, failed=_check(direct.make, rows, work.threads, work.should_stop))
    return kept


def _tried_again(path: Path, found: Mapped, make: Callable[[int], np.ndarray]) -> Mapped | None:
    """The cache with what can be made by now: a disk that was away may be back."""
    failed, made = {}, {}
    for row in found.failed:
        try:
            made[row] = make(row)
        except DataError as error:
            failed[row] = str(error)
    if made:
        values = np.lib.format.open_memmap(path, mode="r+")
        for row, value in made.items():
            values[row] = value
        values.flush()  # before it is said to be done
        write_json(path.with_suffix(".json"), {"failed": failed})
    return _load(path) if made else found


def seconds_to_make(make: Callable[[int], np.ndarray], rows: Sequence[int]) -> float:
    """What a case costs before it is cached, from a few of them; a lost file costs nothing."""
    timed = rows[:TIMED_CASES]
    started = time.perf_counter()
    for row in timed:
        with suppress(DataError):
            make(row)
    return (time.perf_counter() - started) / max(len(timed), 1)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock beside a file that several jobs may want to make."""
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _taken(path: Path, start: int, *, wait: bool) -> Iterator[bool]:
    """Whether the block of cases from `start` on is this job's to make; it is while this lasts."""
    lock = path.with_suffix(f".{start}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
        lock.unlink(missing_ok=True)  # whoever waits for it finds the block made


def _first(
    make: Callable[[int], np.ndarray], count: int, failed: dict[int, str]
) -> np.ndarray | None:
    """The array of the first case that has one."""
    for row in range(count):
        try:
            return make(row)
        except DataError as error:
            failed[row] = str(error)
    return None


def _begin(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Lay out what is filled afterwards, unless an earlier or another job has."""
    part, progress = path.with_suffix(".part"), path.with_suffix(".progress")
    with suppress(OSError, ValueError, EOFError):
        values = np.load(part, mmap_mode="r", allow_pickle=False)
        if _noted(path) is not None and (values.shape, values.dtype) == (shape, dtype):
            return
    part.unlink(missing_ok=True)  # one who still fills it does not fill the next
    lay_out(part, shape, dtype)
    write_json(progress, {"of": part.stat().st_ino, "made": [], "failed": {}})


@dataclass(frozen=True, slots=True)
class _Work:
    """Cases that several jobs go through together, each once.

    Attributes:
        path: Of the cache.
        count: Of cases.
        threads: Of this job.
        should_stop: Asked between blocks.
        prepared: Told which share is done, after every block.
    """

    path: Path
    count: int
    threads: int
    should_stop: Callable[[], bool]
    prepared: Callable[[float], None]

    def by_blocks(
        self,
        begun: Mapping[str, Any],
        one: Callable[[int], object],
        flush: Callable[[], None],
        finish: Callable[[dict[int, str]], None],
    ) -> None:
        """Do what nobody else does, then wait for the others, and do what they leave undone.

        Args:
            begun: The progress as it was found; of another file it counts no longer.
            one: Does a case; raises `DataError` where it cannot.
            flush: Called before a block is said to be done.
            finish: Called once, by the last, with the cases that could not be done.
        """
        progress, starts = self.path.with_suffix(".progress"), range(0, self.count, BLOCK)

        def noted() -> dict[str, Any] | None:
            now = _noted(self.path)  # of another file where this one was given back and begun anew
            return now if now is not None and now["of"] == begun["of"] else None

        def is_over(start: int) -> bool:
            now = noted()
            return now is None or start in now["made"]

        for wait, start in product((False, True), starts):
            if is_over(start):
                continue
            with _taken(self.path, start, wait=wait) as is_mine:
                if not is_mine or is_over(start):
                    continue
                rows = range(start, min(start + BLOCK, self.count))
                failed = _check(one, rows, self.threads, self.should_stop)
                flush()
                with alone(self.path):
                    now = noted()
                    if now is None:
                        return  # another job gave it back meanwhile
                    made = [*now["made"], start]
                    write_json(progress, {**now, "made": made, "failed": now["failed"] | failed})
                self.prepared(min(1.0, len(made) * BLOCK / self.count))
        with alone(self.path):
            now = noted()
            if now is not None and set(starts) <= set(now["made"]):
                finish(dict(sorted(now["failed"].items())))
                progress.unlink()


def _fill(work: _Work, make: Callable[[int], np.ndarray]) -> None:
    """Make what is not made yet, and close the file."""
    part = work.path.with_suffix(".part")
    with alone(work.path):
        begun = _noted(work.path)
        if begun is None or begun["of"] == NO_FILE:  # others were faster, or gave it back
            return
        values = np.lib.format.open_memmap(part, mode="r+")  # its number is no other file's now

    def store(row: int) -> None:
        made = make(row)
        if made.shape != values.shape[1:] or made.dtype != values.dtype:
            raise ShapeError(f"{made.shape} {made.dtype} among {values.shape[1:]} {values.dtype}")
        values[row] = made

    def close(failed: dict[int, str]) -> None:
        write_json(work.path.with_suffix(".json"), {"failed": failed})
        part.replace(work.path)

    work.by_blocks(begun, store, values.flush, close)


def _noted(path: Path) -> dict[str, Any] | None:
    """Which blocks of which file are made, which cases cannot be; None where none is filled."""
    try:
        noted = json.loads(path.with_suffix(".progress").read_text())
        failed = {int(k): v for k, v in noted["failed"].items()}
        made = [int(start) for start in noted["made"]]
        return {"of": int(noted["of"]), "made": made, "failed": failed}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _check(
    make: Callable[[int], object],
    rows: Sequence[int],
    threads: int,
    should_stop: Callable[[], bool],
) -> dict[int, str]:
    """Make every row and keep why some could not be made."""
    failed: dict[int, str] = {}

    def one(row: int) -> None:
        try:
            make(row)
        except DataError as error:
            failed[row] = str(error)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(rows), BLOCK):
            if should_stop():
                raise Stopped("stopped while reading pictures; the same call goes on")
            list(pool.map(one, rows[start : start + BLOCK]))
    return dict(sorted(failed.items()))
