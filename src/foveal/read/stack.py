"""What a stack of slices is, wherever its slices lie, and how it is read with nothing read twice.

Slices that lie apart are read one by one. Slices that share chunks are read in boxes along these
chunks, for each box decodes all chunks that it touches. Both come as pieces::

    for piece in find_slices("scans/fragment1").pieces():
        piece.values     # "slice row width", from slice `piece.first` and row `piece.top` on
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from foveal.errors import UnreadableImage

BAND_BYTES = 64e6
"""Memory that a band of rows may take, but for a single row of chunks that takes more."""

Slice = Shaped[np.ndarray, "height width"]

Box = Shaped[np.ndarray, "slice row width"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of some slices.

    Attributes:
        first: The first of its slices, counted from the first of the stack.
        top: Its first row.
        plane: Height and width of a whole slice.
        values: The rows, as wide as the slices.
    """

    first: int
    top: int
    plane: tuple[int, int]
    values: Box


@dataclass(frozen=True, slots=True)
class Boxes:
    """Slices of one shape that are read as boxes.

    Attributes:
        shape: Slices, height and width.
        dtype: 8 or 16 bit unsigned.
        grain: Slices and rows of a chunk: boxes cut between chunks decode none twice.
        read: From a range of slices and a range of rows to the box.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    grain: tuple[int, int]
    read: Callable[[slice, slice], Box]

    def bands(self, depth: int, start: int = 0) -> Iterator[slice]:
        """Rows from `start` on, in whole chunks, as many at once as `depth` slices leave room for.

        Example:
            >>> boxes = Boxes((9, 50, 1000), np.dtype(np.uint8), (3, 16), lambda slices, rows: ...)
            >>> [(rows.start, rows.stop) for rows in boxes.bands(2000)]
            [(0, 32), (32, 50)]
        """
        chunk_bytes = self.grain[1] * self.shape[2] * depth * self.dtype.itemsize
        step = max(1, int(BAND_BYTES / chunk_bytes)) * self.grain[1]
        for top in range(start, self.shape[1], step):
            yield slice(top, min(top + step, self.shape[1]))

    def pieces(self) -> Iterator[Piece]:
        """Everything, each chunk once."""
        depth, plane = self.grain[0], self.shape[1:]
        for first in range(0, self.shape[0], depth):
            for rows in self.bands(depth):
                values = self.read(slice(first, min(first + depth, self.shape[0])), rows)
                yield Piece(first, rows.start, plane, values)


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the slices of a volume are, from the first to the last.

    Attributes:
        names: One for each slice, as errors name it.
        files: All files, or the folder of the array, that the slices lie in, links resolved.
        read: From the place of a slice to the slice.
        boxes: How slices that share chunks are read; None where each lies apart.
        is_colour: Whether they are the colours of one picture.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[int], Slice]
    boxes: Boxes | None = None
    is_colour: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def form(self) -> tuple[tuple[int, int], np.dtype]:
        """Height and width of a slice, and its pixels; the first is decoded if only that tells.

        Raises:
            UnreadableImage: The first slice does not decode.
        """
        if self.boxes is not None:
            return self.boxes.shape[1:], self.boxes.dtype
        first = self.read(0)
        return first.shape, first.dtype

    def pieces(self) -> Iterator[Piece]:
        """The whole stack, everything decoded once; the rows of a slice come from the top.

        Raises:
            UnreadableImage: A slice does not decode, or has another shape or depth than the first.
        """
        if self.boxes is not None:
            yield from self.boxes.pieces()
            return
        first = self.read(0)
        for k, name in enumerate(self.names):
            plane = first if k == 0 else self.read(k)
            check_slice(plane, first, name)
            yield Piece(k, 0, first.shape, plane[None])


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


def grey(image: np.ndarray, name: str) -> Slice:
    """One plane; a grey picture saved in colour is still one.

    Raises:
        UnreadableImage: The picture has channels that differ.
    """
    if not is_grey(image):
        raise UnreadableImage(
            f"{name}: {image.shape[2]} channels, where a slice has one; cure: grey slices, or "
            "every picture in colour (red, green and blue) in a row of its own"
        )
    return image[:, :, 0]


def is_grey(image: np.ndarray) -> bool:
    """Whether all channels are equal."""
    first = image[:, :, 0]
    return not any((image[:, :, c] != first).any() for c in range(1, image.shape[2]))
