"""What this process may use: cores and free memory, of the machine and of its control groups.

A container or a batch system often grants less than the machine has. What is found here says how
many jobs run side by side, never what one of them computes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/")
"""Where `proc` and `sys` are."""


def cores(root: Path = ROOT) -> int:
    """Cores that this process may use, one at least; part of a core counts for nothing."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([here, *map(_quota, _groups(root, "cpu"))])))


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra with one thread: its sums are added in the same order on every machine."""
    import scipy.linalg  # noqa: F401  what is loaded later would keep its threads
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def free_bytes(root: Path = ROOT) -> float:
    """Memory that this process may still take; what only keeps files at hand is free."""
    available = _numbers(root / "proc/meminfo").get("MemAvailable")
    if available is None:
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    else:
        here = available * 1024
    return max(0.0, min([here, *map(_left, _groups(root, "memory"))]))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, each inside the next.

    Version 2 has one tree, version 1 one for each controller. In a container the innermost group
    may be shown as the root of the tree, under its name outside.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if not names or controller in names.split(","):
            tree = root / "sys/fs/cgroup" / (controller if names else "")
            inmost = tree / path.lstrip("/")
            yield from (p for p in (inmost, *inmost.parents) if p.is_relative_to(tree))


def _quota(group: Path) -> float:
    """Cores' worth of time that a group may use; infinite where nothing is said."""
    of_1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    words = _text(group / "cpu.max").split() or [_text(group / name).strip() for name in of_1]
    return int(words[0]) / int(words[1]) if all(w.isdecimal() for w in words) else math.inf


def _left(group: Path) -> float:
    """Bytes that a group may still take; infinite where nothing is said."""
    for most, taken, file_pages in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = (_text(group / name).strip() for name in (most, taken))
        if limit.isdecimal() and used.isdecimal():
            return int(limit) - int(used) + _numbers(group / "memory.stat").get(file_pages, 0)
    return math.inf


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number, such as `MemFree: 12 kB`."""
    words = (line.split() for line in _text(path).splitlines())
    return {w[0].rstrip(":"): int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def _text(path: Path) -> str:
    """A file of the system; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
