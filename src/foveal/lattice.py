"""The global lattice of a study of volumes: masks as areas in square cells, and back to pixels.

A cell is `lattice` pixels wide. What lies in it is counted, not sampled, from the plane's upper
left corner for windows of every size, so labels, scores in training and answers all mean the same
cells. Cells at the lower and right edge may hold fewer pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.errors import TargetError, UnreadableImage
from foveal.manifest import Case, Manifest, Window
from foveal.read.image import decode_mask

BAND = 1 << 20
"""About how many pixels are added up at a time."""

Plane = Float[np.ndarray, "_ _"]
"""Rows and columns of cells; planes of one list differ in size."""


@dataclass(frozen=True, slots=True)
class Planes:
    """What is true of some units, cell by cell.

    Attributes:
        positive: Pixels of the mask in every cell, inside the region.
        area: Pixels of the region in every cell.
        block: The number of the block that every cell lies in, for intervals that draw blocks;
            what is drawn together has one number. None where units are drawn.
    """

    positive: tuple[Plane, ...]
    area: tuple[Plane, ...]
    block: tuple[Int[np.ndarray, "_ _"], ...] | None = None

    def __len__(self) -> int:
        return len(self.area)

    def __getitem__(self, rows: Int[np.ndarray, " row"] | Bool[np.ndarray, " row"]) -> Planes:
        kept = np.arange(len(self))[rows].tolist()
        block = None if self.block is None else tuple(self.block[k] for k in kept)
        return Planes(
            tuple(self.positive[k] for k in kept), tuple(self.area[k] for k in kept), block
        )


def cells(pixels: Shaped[np.ndarray, "height width"], lattice: int) -> Plane:
    """The sum of the pixels of every cell.

    Example:
        >>> cells(np.ones((3, 4)), 2).tolist()
        [[4.0, 4.0], [2.0, 2.0]]
    """
    height, width = pixels.shape
    step = max(BAND // max(width, 1) // lattice, 1) * lattice
    bands = [_cells(pixels[top : top + step], lattice) for top in range(0, height, step)]
    return np.concatenate(bands)


def _cells(pixels: Shaped[np.ndarray, "height width"], lattice: int) -> Plane:
    """The same of a few rows, which are copied on the way."""
    down = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], lattice), axis=0, dtype=np.float32)
    return np.add.reduceat(down, np.arange(0, pixels.shape[1], lattice), axis=1)


def enlarged(plane: Plane, lattice: int, height: int, width: int) -> Float[np.ndarray, "_ _"]:
    """A plane at the size of a slice, straight lines between the middles of cells."""
    size = (plane.shape[1] * lattice, plane.shape[0] * lattice)
    large = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return large[:height, :width]


def read_mask(path: str, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "height width"]:
    """A mask: anything but 0 is foreground, in a JPEG more than half of full scale.

    Args:
        path: Of the picture.
        size: Height and width that it must have.

    Raises:
        TargetError: It is missing, does not decode, is several pictures, or has another size.
    """
    try:
        mask = decode_mask(path)
    except UnreadableImage as error:
        raise TargetError(str(error)) from None
    if size is not None and mask.shape != size:
        raise TargetError(
            f"{path}: {mask.shape[0]} x {mask.shape[1]} pixels, where the slices have "
            f"{size[0]} x {size[1]}"
        )
    return mask


def has_region(case: Case) -> bool:
    """Whether a volume counts in a part of its plane only."""
    return len(case.paths) > 1


def region_of(case: Case, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """Where a volume counts: its region mask, or everywhere; not to be written to."""
    if not has_region(case):
        return np.broadcast_to(np.True_, (height, width))
    return read_mask(case.paths[1], (height, width))


def labels_of(manifest: Manifest, row: int) -> tuple[str, ...]:
    """The files of a case's region, where it has one, and of its mask."""
    return (*manifest.paths[row][1:], *manifest.target[row].tolist())


def labels_digest(files: Sequence[str]) -> str:
    """Of the bytes of a case's region and mask, so that changed ones are noticed."""
    sha = hashlib.sha256()
    for path in files:
        sha.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return sha.hexdigest()


def planes_of(cases: Sequence[Case], masks: Sequence[str], lattice: int) -> Planes:
    """The truth of units, from the files of their masks.

    Args:
        cases: Units, with their windows.
        masks: The file of each unit's mask.
        lattice: Pixels a cell is wide.
    """
    found: dict[tuple[str, tuple[str, ...]], tuple[np.ndarray, np.ndarray]] = {}
    positive, area = [], []
    for case, path in zip(cases, masks, strict=True):
        key = (path, case.paths)
        if key not in found:
            mask = read_mask(path)
            region = region_of(case, *mask.shape)
            found = {key: (mask & region, region)}  # parts of a volume follow each other
        for kept, pixels in zip((positive, area), found[key], strict=True):
            kept.append(cells(part_of(pixels, case.window), lattice))
    return Planes(tuple(positive), tuple(area))


BLOCKS = 100
"""About how many blocks a plane is cut into; fewer would be too few to draw."""

LEAST_BLOCK = 64
"""Pixels that a block is wide at least: neighbours in smaller ones show the same thing."""


def blocks_of(
    windows: Sequence[Window], lattice: int, group: Int[np.ndarray, " window"] | None = None
) -> tuple[Int[np.ndarray, "_ _"], ...]:
    """The number of the block of every cell of some parts.

    Args:
        windows: Where the parts lie in their volumes.
        lattice: Pixels a cell is wide.
        group: Parts of one group have the same number at the same place; all have if left out.

    Example:
        >>> (plane,) = blocks_of([Window(top=0, left=0, height=1280, width=1280)], 64)
        >>> plane[0].tolist()
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    """
    volumes = sum(w.top == 0 and w.left == 0 for w in windows)
    plane = sum(w.height * w.width for w in windows) / volumes
    side = -(-max(round((plane / BLOCKS) ** 0.5), LEAST_BLOCK) // lattice)
    down, across = (
        1 + max(ends) // lattice // side
        for ends in zip(*((w.top + w.height, w.left + w.width) for w in windows), strict=True)
    )
    first = np.zeros(len(windows), dtype=np.int32) if group is None else group * down * across
    return tuple(
        one
        + _along(w.top, w.height, lattice, side)[:, None] * across
        + _along(w.left, w.width, lattice, side)
        for one, w in zip(first.astype(np.int32), windows, strict=True)
    )


def _along(start: int, size: int, lattice: int, side: int) -> Int[np.ndarray, " cell"]:
    """The block of every cell along one axis."""
    cell = start // lattice + np.arange(-(-size // lattice), dtype=np.int32)
    return cell // np.int32(side)


def part_of(
    pixels: Shaped[np.ndarray, "rows columns"], window: Window | None
) -> Shaped[np.ndarray, "_ _"]:
    """The window of a plane; all of it where there is none."""
    if window is None:
        return pixels
    return pixels[window.top : window.top + window.height, window.left : window.left + window.width]
