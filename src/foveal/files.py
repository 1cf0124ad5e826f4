"""Files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import DiskFullError, StudyError

PART = ".part"
"""How the name of a file ends that is being written, after a dot, its name and a process."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that at every moment it is the old one, or the new one whole.

    Raises:
        StudyError: The disk is full or the folder cannot be written; nothing is lost.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> StudyError:
    """The error of a write that failed, with its cure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"cannot write {path}: the disk is full; free some space, then the same call goes on; "
            "nothing is lost"
        )
    return StudyError(f"cannot write {path}: {error.strerror or error}")


def lay_out(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """An empty `.npy` of full length, so that a full disk is met now and as an error.

    Raises:
        OSError: There is no room; what was begun stays.
    """
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        os.posix_fallocate(file.fileno(), 0, file.tell() + dtype.itemsize * math.prod(shape))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or end in an error that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"cannot read {path}: {error}") from None


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; a carriage return is quoted too, which Python's own writer forgets."""
    return "".join(",".join(_csv_cell(str(value)) for value in row) + "\n" for row in rows)


def _csv_cell(text: str) -> str:
    has_marks = any(mark in text for mark in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if has_marks else text
