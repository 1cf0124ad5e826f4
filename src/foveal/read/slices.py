"""Where slices are found: a folder or a pattern of pictures, pages of a TIFF, a picture, a zarr."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from foveal.read.image import PLANE_LIMIT, UnreadableImage, decode
from foveal.read.omezarr import is_zarr, open_zarr
from foveal.read.stack import Slice, Stack

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")


def find_slices(place: str) -> Stack:
    """The slices of a volume.

    Args:
        place: A folder, a pattern with `*`, a picture, a multi-page TIFF, or the folder of an
            OME-Zarr image or of a zarr array.

    Raises:
        UnreadableImage: Nothing is there, or it holds no slices.
    """
    path = Path(place)
    if path.is_dir():
        if is_zarr(path):
            return open_zarr(path)
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
        return _files(found, f"{place}: the folder holds no slices ({', '.join(SUFFIXES)}, zarr)")
    if path.is_file():
        if path.suffix.lower() in (".tif", ".tiff"):
            return _pages(path)
        return _files([path], "")
    return _files(_matching(path), f"{place}: no such file, folder or pattern of slices")


def _matching(pattern: Path) -> list[Path]:
    """The files of a pattern; folders that are there are meant as they are written, [] and all."""
    root = next((p for p in pattern.parents if p.is_dir()), None)
    if root is None or not glob.has_magic(rest := str(pattern.relative_to(root))):
        return []
    return [root / p for p in glob.glob(rest, root_dir=root)]  # noqa: PTH207


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
    paths = sorted(found, key=lambda p: (natural(str(p)), str(p)))
    names = tuple(str(p) for p in paths)
    return Stack(
        names=names,
        files=tuple(str(p.resolve()) for p in paths),
        read=lambda k: _grey(decode(names[k], limit=PLANE_LIMIT), names[k]),
    )


def _grey(image: np.ndarray, name: str) -> Slice:
    """One plane; a grey picture saved in colour is still one."""
    first = image[:, :, 0]
    if image.shape[2] > 1 and any((image[:, :, c] != first).any() for c in range(image.shape[2])):
        raise UnreadableImage(f"{name}: {image.shape[2]} channels, where a slice has one")
    return first


DEEP, FLAT = "ZIQ", "YXS"
"""Axes, as tifffile calls them: of slices however they are counted; rows, columns and colours."""


def _pages(path: Path) -> Stack:
    """The pages of a TIFF; read by the picture reader where there is one only."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            count = len(file.pages)
            axes = dict(zip(file.series[0].axes, file.series[0].shape, strict=True))
    except (OSError, ValueError, TypeError, RuntimeError, tifffile.TiffFileError):
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None
    slices = math.prod(length for name, length in axes.items() if name in DEEP)
    if count == 1 and slices == 1:
        return _files([path], "")
    odd = [
        f"{name} of {length}"
        for name, length in axes.items()
        if name not in DEEP + FLAT
        if length > 1
    ]
    if odd:
        raise UnreadableImage(
            f"{path}: a stack has slices, rows and columns, and this one has {', '.join(odd)} too; "
            "cure: save one channel and one moment alone"
        )

    def read(k: int) -> Slice:
        try:
            with tifffile.TiffFile(path) as file:
                found = file.pages[k if count > 1 else 0].aspage()
                page = found.asarray() if count > 1 else _plane(path, axes, k)
                if found.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                    page = np.invert(page)
        except (OSError, ValueError, TypeError, RuntimeError, IndexError, KeyError):
            raise UnreadableImage(f"{path} page {k}: the page does not decode") from None
        return _grey(np.atleast_3d(page), f"{path} page {k}")

    names = tuple(f"{path} page {k}" for k in range(max(count, slices)))
    return Stack(names=names, files=(str(path.resolve()),), read=read)


def _plane(path: Path, axes: Mapping[str, int], k: int) -> np.ndarray:
    """A slice of a TIFF that describes its first page only, as ImageJ does beyond 4 GB."""
    import tifffile

    flat = tuple(length for name, length in axes.items() if name in FLAT)
    return np.array(tifffile.memmap(path, mode="r").reshape(-1, *flat)[k])
