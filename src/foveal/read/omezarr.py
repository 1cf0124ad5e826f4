"""Arrays in chunks as stacks of slices: OME-Zarr images at full resolution, and bare zarr arrays.

Zarr 2 and 3, OME-Zarr up to 0.5. A chunk that is not there holds the fill value, as zarr has it.
The library is imported when the first such array is opened, so that nobody else needs it::

    stack = open_zarr(Path("scans/fragment1.zarr"))
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.errors import UnreadableImage
from foveal.read.stack import Box, Boxes, Stack
from foveal.read.tiff import TIFF_TROUBLE

if TYPE_CHECKING:
    import zarr

SPACE = ("z", "y", "x")

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

ZARR_TROUBLE = (*TIFF_TROUBLE, EOFError, zlib.error, lzma.LZMAError)
"""What zarr and its decoders raise on metadata and chunks that were harmed."""


def is_zarr(folder: Path) -> bool:
    """Whether a folder says that it is a zarr array or group."""
    return any((folder / name).is_file() for name in METADATA)


def open_zarr(folder: Path) -> Stack:
    """The slices of an array: of the image's full resolution, or of a bare array.

    Args:
        folder: Of the image or of the array.

    Raises:
        UnreadableImage: It is no such array, was harmed, or has more than one channel or moment;
            or the library is not there.
    """
    array, axes = _full_resolution(folder)
    axes = _checked(folder, array, axes)
    with _readable(str(folder), "the array has no chunks of one shape"):
        depth, height, width = _z_y_x(axes, array.shape)
        grain = _z_y_x(axes, array.chunks)[:2]
    places = [axes.index(name) for name in SPACE if name in axes]
    others = [k for k in range(len(axes)) if k not in places]
    dtype = array.dtype.newbyteorder("=")

    def read(slices: slice, rows: slice) -> Box:
        index = [slice(0, 1)] * len(axes)
        for k, part in zip(places, (slices, rows, slice(0, width))[-len(places) :], strict=True):
            index[k] = part
        what = f"{folder} slices {slices.start} to {slices.stop - 1}"
        with _readable(what, "a chunk does not decode"):
            box = np.asarray(array[tuple(index)])
        box = box.transpose(*others, *places).reshape(-1, rows.stop - rows.start, width)
        return np.ascontiguousarray(box, dtype)

    return Stack(
        names=tuple(f"{folder} slice {k}" for k in range(depth)),
        files=(str((folder / array.path).resolve()),),
        read=lambda k: read(slice(k, k + 1), slice(0, height))[0],
        boxes=Boxes((depth, height, width), dtype, grain, read) if grain[0] > 1 else None,
    )


def _full_resolution(folder: Path) -> tuple[zarr.Array, list[str]]:
    """The array that is read, and the names of its axes."""
    try:
        import zarr
    except ImportError as error:
        raise UnreadableImage(
            f'{folder}: zarr cannot be imported ({error}); cure: pip install "zarr>=3.1"'
        ) from None

    with _readable(str(folder), "the zarr metadata cannot be used"):
        node = zarr.open(folder, mode="r")
        if isinstance(node, zarr.Array):
            return node, _default_axes(node)
        attributes = node.attrs.asdict()
    image = _image(folder, attributes)
    with _readable(str(folder), "the OME-Zarr metadata lead to no array"):
        array = zarr.open_array(folder, path=image["datasets"][0]["path"], mode="r")
        told = image.get("axes") or _default_axes(array)
        return array, [str(axis["name"] if isinstance(axis, dict) else axis) for axis in told]


def _image(folder: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """What a group tells of its first image; since 0.5 under a key of its own."""
    with _readable(str(folder), "the OME-Zarr metadata cannot be used"):
        images = attributes.get("ome", attributes).get("multiscales")
        if images:
            return images[0]
    raise UnreadableImage(
        f"{folder}: a zarr group that tells of no image (multiscales); "
        "cure: name the image or the array in it"
    )


def _z_y_x(axes: Sequence[str], lengths: Sequence[int]) -> tuple[int, int, int]:
    """The lengths of an array or chunk along z, y and x; 1 where there is no z."""
    z, y, x = (max(1, lengths[axes.index(name)]) if name in axes else 1 for name in SPACE)
    return z, y, x


def _default_axes(array: zarr.Array) -> list[str]:
    """The names of a bare array's axes: its own, or the usual ones for so many."""
    own = getattr(array.metadata, "dimension_names", None) or ()
    return list(own) if own and all(own) else list("tczyx"[-array.ndim :])


def _checked(folder: Path, array: zarr.Array, names: Sequence[str]) -> list[str]:
    """The axes of an array that is a volume."""
    axes = [name.lower() for name in names]
    if len(axes) != array.ndim or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise UnreadableImage(
            f"{folder}: axes {', '.join(axes)} of shape {array.shape}; y and x are needed, z may be"
        )
    for name, length in zip(axes, array.shape, strict=True):
        if name not in SPACE and length != 1:
            raise UnreadableImage(
                f"{folder}: axis {name} has length {length}, where a volume has 1; "
                f"cure: an image for each {name}"
            )
    if not all(array.shape):
        raise UnreadableImage(f"{folder}: shape {array.shape} holds no pixels")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise UnreadableImage(f"{folder}: {array.dtype} pixels; 8 or 16 bit unsigned are read")
    return axes


@contextmanager
def _readable(what: str, words: str) -> Iterator[None]:
    """Turn whatever zarr raises into an error that names the folder."""
    try:
        yield
    except ZARR_TROUBLE as error:
        reason = str(error).strip().splitlines()[:1] or [""]
        raise UnreadableImage(f"{what}: {words} ({type(error).__name__}: {reason[0]})") from None
