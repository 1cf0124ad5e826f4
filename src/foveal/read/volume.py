"""Volumes: a stack of slices, stored once so that a tile of any depth is one short read.

Slices, from wherever they are found, are streamed into one memory-mapped `.npy` in y-x-z order, so
that the slices of a place lie side by side. Never more than a slice and a band of rows are in
memory, nothing is decoded twice, and what was interrupted is gone on with::

    stack = find_slices("scans/fragment1")
    volume = store(stack, Path("fragment1.npy"), slices=(15, 50))
    volume(Window(top=0, left=0, height=256, width=256))     # "height width depth"
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from foveal.errors import Stopped, StudyError
from foveal.files import disk_error, lay_out, write_json
from foveal.manifest import Window
from foveal.read.image import at_depth
from foveal.read.stack import Boxes, Stack, check_slice


@dataclass(frozen=True, slots=True)
class OnDisk:
    """An array in a file that is mapped only while a part of it is taken.

    A map holds its file open, and a process may often open 1,024: fewer than a study has volumes.

    Attributes:
        path: Of the `.npy` file.
        shape: Of the whole.
        dtype: Of its values.
        offset: Where they begin, in bytes.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    def __getitem__(self, place: Any) -> np.ndarray:
        mapped = np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)
        return np.asarray(mapped[place])

    def __array__(self, dtype: Any = None, **_: Any) -> np.ndarray:  # always a copy
        return np.array(self[...], dtype=dtype)


@dataclass(frozen=True, slots=True)
class Volume:
    """A stack that is stored, or in memory.

    Attributes:
        values: "height width depth", 8 or 16 bit unsigned.
        spare_bits: Of 16, that the study's volumes leave empty.
        bits: Of the study; values of 8 are stretched where it has 16.
    """

    values: np.ndarray | OnDisk
    spare_bits: int = 0
    bits: int = 8

    @property
    def depth(self) -> int:
        """How many slices were stored."""
        return self.values.shape[2]

    @property
    def dtype(self) -> np.dtype:
        """Of what a window shows."""
        return np.dtype(np.uint16) if self.bits == 16 else self.values.dtype

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of a slice."""
        height, width, _ = self.values.shape
        return height, width

    def __call__(self, window: Window) -> Shaped[np.ndarray, "height width depth"]:
        """A part of all slices, at full scale; beyond the edge the volume is mirrored."""
        rows = mirrored(window.top, window.height, self.plane[0])
        columns = mirrored(window.left, window.width, self.plane[1])
        spans = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        if spans == (window.height, window.width):
            part = self.values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        else:
            part = self.values[np.ix_(rows, columns)]
        return np.ascontiguousarray(at_depth(part, self.bits, self.spare_bits))


def mirrored(start: int, count: int, size: int) -> np.ndarray:
    """Places `start` to `start + count` of an axis of `size`, mirrored at its ends.

    Example:
        >>> mirrored(-2, 6, 3).tolist()
        [2, 1, 0, 1, 2, 1]
    """
    period = max(2 * (size - 1), 1)
    place = np.arange(start, start + count) % period
    return np.where(place < size, place, period - place)


def store(
    stack: Stack,
    path: Path,
    *,
    slices: tuple[int, int] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Volume:
    """The wanted slices as one file in y-x-z order, made or found.

    Args:
        stack: Where the slices are.
        path: Of the `.npy` file; its name must follow from the stack and the slices.
        slices: First and last + 1; all if left out. Beyond the ends the edge slice is repeated.
        should_stop: Asked after every slice and every band of rows.

    Raises:
        UnreadableImage: A slice does not decode, or has another shape or depth than the first.
        Stopped: The signal came; the same call goes on.
        StudyError: The disk is full; what was begun is gone.
    """
    found = load(path)
    if found is not None:
        _tidy(path)  # nothing to do, unless it was killed while tidying
        return found
    first, stop = slices or (0, len(stack))
    wanted = np.clip(np.arange(first, stop), 0, len(stack) - 1).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(stack, wanted, path, should_stop)
    except (OSError, StudyError) as error:
        with suppress(OSError):
            _tidy(path)
        if isinstance(error, OSError):
            raise disk_error(path, error) from error
        raise
    volume = load(path)
    assert volume is not None
    return volume


def load(path: Path) -> Volume | None:
    """A stored volume, or None where there is none."""
    try:
        json.loads(path.with_suffix(".json").read_text())
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        return Volume(OnDisk(path, found.shape, found.dtype, found.offset))
    except (OSError, ValueError, EOFError):
        return None


def _write(
    stack: Stack, wanted: Sequence[int], path: Path, should_stop: Callable[[], bool]
) -> None:
    """Boxes into y-x-z order, band by band; slices that lie apart become boxes by a flat file."""
    flat, part = path.with_suffix(".flat"), path.with_suffix(".part")
    if stack.boxes is None:
        once = range(wanted[0], wanted[-1] + 1)
        boxes, places = _flattened(stack, once, flat, should_stop), [k - wanted[0] for k in wanted]
    else:
        boxes, places = stack.boxes, wanted
    mark = _mark(wanted, boxes.shape[1:], boxes.dtype)
    _turn(boxes, places, part, mark, should_stop)
    write_json(path.with_suffix(".json"), {**mark, "order": "yxz", "names": list(stack.names)})
    part.replace(path)
    _tidy(path)


def _tidy(path: Path) -> None:
    """Remove what was half made."""
    for suffix in (".flat", ".flat.json", ".part", ".part.json"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _flattened(
    stack: Stack, wanted: Sequence[int], flat: Path, should_stop: Callable[[], bool]
) -> Boxes:
    """Slices one after the other into a flat file.

    Written into their place in y-x-z order, every slice would touch every page of the file.
    """
    sample = stack.read(wanted[0])
    check_slice(sample, sample, stack.names[wanted[0]])
    mark = _mark(wanted, sample.shape, sample.dtype)
    done = _progress(flat, mark, sample.nbytes)
    with flat.open("r+b" if done else "wb") as file:
        file.seek(done * sample.nbytes)
        for k, place in enumerate(wanted[done:], start=done):
            plane = sample if place == wanted[0] else stack.read(place)
            check_slice(plane, sample, stack.names[place])
            file.write(np.ascontiguousarray(plane).tobytes())
            file.flush()
            write_json(_note(flat), {**mark, "done": k + 1})
            if should_stop():
                raise Stopped("stopped while storing slices; the same call goes on")
    shape = (len(wanted), *sample.shape)
    planes = np.memmap(flat, sample.dtype, "r", shape=shape)
    return Boxes(shape, sample.dtype, (1, 1), lambda slices, rows: planes[slices, rows])


def _turn(
    boxes: Boxes,
    places: Sequence[int],
    part: Path,
    mark: dict[str, Any],
    should_stop: Callable[[], bool],
) -> None:
    """Write the slices at `places`, which rise and may repeat, in y-x-z order."""
    first, depth = places[0], places[-1] - places[0] + 1
    order = slice(None) if depth == len(places) else np.asarray(places) - first
    shape = (*boxes.shape[1:], len(places))
    done = _progress(part, mark, shape[1] * shape[2] * boxes.dtype.itemsize)
    if not done:
        _note(part).unlink(missing_ok=True)
        lay_out(part, shape, boxes.dtype)
    out = np.lib.format.open_memmap(part, "r+")
    for rows in boxes.bands(depth, start=done):
        box = boxes.read(slice(first, first + depth), rows)
        out[rows] = np.moveaxis(box[order], 0, 2)
        out.flush()  # before it is said to be done
        write_json(_note(part), {**mark, "done": rows.stop})
        if should_stop():
            raise Stopped("stopped while turning slices; the same call goes on")


def _mark(wanted: Sequence[int], plane: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """What a file half made must be of to be gone on with."""
    return {"shape": [len(wanted), *plane], "dtype": dtype.str, "wanted": list(wanted)}


def _note(file: Path) -> Path:
    """Where it is said how far a file was made."""
    return file.with_name(f"{file.name}.json")


def _progress(file: Path, mark: dict[str, Any], step_bytes: int) -> int:
    """How many slices or rows of the very same stack are in a file already."""
    try:
        told = json.loads(_note(file).read_text())
        done = int(told.pop("done"))
        size = file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    return done if told == mark and size >= done * step_bytes else 0
