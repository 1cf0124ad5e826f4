"""Volumes: a stack of slices, stored once so that a tile of any depth is one short read.

Slices come as a folder or a pattern of PNG or TIFF files in natural order, as the pages of one
TIFF, or as a single picture. They are streamed into one memory-mapped `.npy` in y-x-z order, so
that the slices of a place lie side by side. Never more than a slice and a band of
rows are in memory; what was interrupted is gone on with::

    stack = find_slices("scans/fragment1")
    volume = store(stack, Path("fragment1.npy"), slices=(15, 50))
    volume(Window(top=0, left=0, height=256, width=256))     # "height width depth"
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from foveal.errors import Stopped
from foveal.manifest import Window
from foveal.read.image import UnreadableImage, decode
from foveal.study import disk_error, write_json

BAND_BYTES = 64e6
"""Memory that a band of rows may take while slices are turned into y-x-z order."""

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")

Slice = Shaped[np.ndarray, "height width"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the slices of a volume are, from the first to the last.

    Attributes:
        names: One for each slice, as errors name it.
        files: All files that the slices lie in, links resolved.
        read: From the place of a slice to the slice.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[int], Slice]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Volume:
    """A stored stack, mapped from disk.

    Attributes:
        values: "height width depth", 8 or 16 bit unsigned.
    """

    values: np.ndarray

    @property
    def depth(self) -> int:
        """How many slices were stored."""
        return self.values.shape[2]

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of a slice."""
        return self.values.shape[:2]

    def __call__(self, window: Window) -> Shaped[np.ndarray, "height width depth"]:
        """A part of all slices, as it lies on disk; beyond the edge the volume is mirrored."""
        rows = mirrored(window.top, window.height, self.plane[0])
        columns = mirrored(window.left, window.width, self.plane[1])
        spans = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        if spans == (window.height, window.width):
            part = self.values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        else:
            part = self.values[np.ix_(rows, columns)]
        return np.ascontiguousarray(part)


def mirrored(start: int, count: int, size: int) -> np.ndarray:
    """Places `start` to `start + count` of an axis of `size`, mirrored at its ends.

    Example:
        >>> mirrored(-2, 6, 3).tolist()
        [2, 1, 0, 1, 2, 1]
    """
    period = max(2 * (size - 1), 1)
    place = np.arange(start, start + count) % period
    return np.where(place < size, place, period - place)


# --- where slices are ----------------------------------------------------------------------------


def find_slices(place: str) -> Stack:
    """The slices of a volume.

    Args:
        place: A folder, a pattern with `*`, a picture or a multi-page TIFF.

    Raises:
        UnreadableImage: Nothing is there, or it holds no slices.
    """
    path = Path(place)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
        return _files(found, f"{place}: the folder holds no slices ({', '.join(SUFFIXES)})")
    if path.is_file():
        if path.suffix.lower() in (".tif", ".tiff"):
            return _pages(path)
        return _files([path], "")
    found = [Path(p) for p in glob.glob(place)] if glob.has_magic(place) else []  # noqa: PTH207
    return _files(found, f"{place}: no such file, folder or pattern of slices")


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that puts slice 10 after slice 9.

    Example:
        >>> sorted(["z10", "z9", "a"], key=natural)
        ['a', 'z9', 'z10']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p]


def _files(found: Sequence[Path], trouble: str) -> Stack:
    if not found:
        raise UnreadableImage(trouble)
    paths = sorted(found, key=lambda p: natural(p.name))
    names = tuple(str(p) for p in paths)
    return Stack(
        names=names,
        files=tuple(str(p.resolve()) for p in paths),
        read=lambda k: _grey(decode(names[k]), names[k]),
    )


def _grey(image: np.ndarray, name: str) -> Slice:
    """One plane; a grey picture saved in colour is still one."""
    first = image[:, :, 0]
    if image.shape[2] > 1 and any((image[:, :, c] != first).any() for c in range(image.shape[2])):
        raise UnreadableImage(f"{name}: {image.shape[2]} channels, where a slice has one")
    return first


def _pages(path: Path) -> Stack:
    """The pages of a TIFF; read by the picture reader where there is one only."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            count = len(file.pages)
    except (OSError, ValueError, TypeError, RuntimeError, tifffile.TiffFileError):
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None
    if count == 1:
        return _files([path], "")

    def read(k: int) -> Slice:
        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages[k].asarray()
        except (OSError, ValueError, TypeError, RuntimeError, IndexError, KeyError):
            raise UnreadableImage(f"{path} page {k}: the page does not decode") from None
        return _grey(np.atleast_3d(page), f"{path} page {k}")

    names = tuple(f"{path} page {k}" for k in range(count))
    return Stack(names=names, files=(str(path.resolve()),), read=read)


# --- one file ------------------------------------------------------------------------------------


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
        StudyError: The disk is full.
    """
    found = load(path)
    if found is not None:
        return found
    first, stop = slices or (0, len(stack))
    wanted = np.clip(np.arange(first, stop), 0, len(stack) - 1).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(stack, wanted, path, should_stop)
    except OSError as error:
        for suffix in (".flat", ".flat.json", ".part"):
            with suppress(OSError):
                path.with_suffix(suffix).unlink(missing_ok=True)
        raise disk_error(path, error) from error
    volume = load(path)
    assert volume is not None
    return volume


def load(path: Path) -> Volume | None:
    """A stored volume, or None where there is none."""
    try:
        json.loads(path.with_suffix(".json").read_text())
        return Volume(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
    except (OSError, ValueError, EOFError):
        return None


def _write(
    stack: Stack, wanted: Sequence[int], path: Path, should_stop: Callable[[], bool]
) -> None:
    """Slices one after the other into a flat file, then bands of rows into their order.

    Written in place, every slice would touch every page of the file.
    """
    flat = path.with_suffix(".flat")
    sample = stack.read(wanted[0])
    check_slice(sample, sample, stack.names[wanted[0]])
    mark = {
        "shape": [len(wanted), *sample.shape],
        "dtype": sample.dtype.str,
        "wanted": list(wanted),
    }
    done = _progress(flat, mark)
    with flat.open("r+b" if done else "wb") as file:
        file.seek(done * sample.nbytes)
        for k, place in enumerate(wanted[done:], start=done):
            plane = sample if place == wanted[0] else stack.read(place)
            check_slice(plane, sample, stack.names[place])
            file.write(np.ascontiguousarray(plane).tobytes())
            file.flush()
            write_json(flat.with_suffix(".flat.json"), {**mark, "done": k + 1})
            if should_stop():
                raise Stopped("stopped while storing slices; the same call goes on")
    part = path.with_suffix(".part")
    planes = np.memmap(flat, sample.dtype, "r", shape=(len(wanted), *sample.shape))
    shape = (*sample.shape, len(wanted))
    out = np.lib.format.open_memmap(part, "w+", sample.dtype, shape)
    for rows in _bands(shape, sample.dtype.itemsize):
        out[rows] = np.moveaxis(planes[:, rows], 0, 2)
        if should_stop():
            raise Stopped("stopped while turning slices; the same call goes on")
    out.flush()
    part.replace(path)
    write_json(path.with_suffix(".json"), {**mark, "order": "yxz", "names": list(stack.names)})
    for name in (flat, flat.with_suffix(".flat.json")):
        name.unlink(missing_ok=True)


def _bands(shape: tuple[int, ...], itemsize: int) -> Iterator[slice]:
    step = max(1, int(BAND_BYTES / (shape[1] * shape[2] * itemsize)))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _progress(flat: Path, mark: dict[str, Any]) -> int:
    """How many slices of the very same stack are in the flat file already."""
    try:
        told = json.loads(flat.with_suffix(".flat.json").read_text())
        done = int(told.pop("done"))
        size = flat.stat().st_size
    except (OSError, ValueError, KeyError):
        return 0
    plane = int(np.prod(mark["shape"][1:])) * np.dtype(mark["dtype"]).itemsize
    return done if told == mark and size >= done * plane else 0


def check_slice(plane: np.ndarray, first: Slice, name: str) -> None:
    """Raise `UnreadableImage` where a slice does not fit the first one."""
    if plane.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{name}: {plane.dtype} pixels; 8 or 16 bit unsigned are read")
    if plane.shape != first.shape:
        raise UnreadableImage(
            f"{name}: {plane.shape[0]} x {plane.shape[1]} pixels, where the first slice has "
            f"{first.shape[0]} x {first.shape[1]}"
        )
    if plane.dtype != first.dtype:
        raise UnreadableImage(f"{name}: {plane.dtype}, where the first slice is {first.dtype}")
