"""TIFF as a container: one picture of samples, planes or pages, or a stack whose slices are these.

Decoders take a file that was cut off for a shorter one, so the chain of its pages is walked before
anything is decoded, and all that it tells of must lie inside the file::

    pixels, orientation = decode_tiff(Path("cells.tif").read_bytes(), "cells.tif", PIXEL_LIMIT)
    stack = stack_of_pages(Path("scan.tif"))     # or None, where it holds one picture
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from foveal.arrays import Pixels
from foveal.errors import UnreadableImage
from foveal.read.limits import check_planes, check_size
from foveal.read.stack import Slice, Stack, grey

TIFF_START = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files begin."""

TIFF_TROUBLE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError),
    *(struct.error, ArithmeticError, AssertionError, MemoryError),
)
"""What the decoders raise on files that are no TIFF inside."""

DEEP, FLAT, ELSE_DEEP = "ZIQ", "YXS", "TC"
"""Axes, as tifffile calls them: of slices however they are counted; rows, columns and colours;
moments and channels, which are slices where a program called them so and there are no others."""

FILE_IN_OME = re.compile(r'FileName="([^"]*)"')
CHANNELS_IN_OME = re.compile(r'SizeC="(\d+)"')

MOST_SAMPLES = 4
"""Red, green, blue and alpha."""

JPEG_IN_TIFF = (6, 7, 33007, 34892)

ORIENTATION_TAG = 0x0112
"""How the camera was held; the same in the EXIF of other files, which is a TIFF itself."""

PRIVATE_TAG = 32_768
"""The first of the tags that anybody may define; they change no pixel that is read here."""

OF_PALETTE_BYTES = 6
"""Bytes of a pixel whose colour comes from a palette: three values of 16 bit."""


def decode_tiff(data: bytes, path: str, limit: int) -> tuple[Pixels, int]:
    """Samples, planes or pages as channels, and how the camera was held (EXIF orientation).

    Args:
        data: The whole file.
        path: As errors name it.
        limit: Most pixels of a plane, and of four channels of 16 bit that all planes may fill.

    Raises:
        UnreadableImage: The file is truncated, too large, no single picture or no TIFF inside.
    """
    import tifffile

    try:
        with _opened(data) as file:
            check_pages(file, len(data), path)
            whole = _whole(file)
            first = whole.series[0].keyframe
            is_indexed = first.photometric == tifffile.PHOTOMETRIC.PALETTE
            palette = first.colormap if is_indexed else None
            value_bytes = whole.series[0].dtype.itemsize if palette is None else OF_PALETTE_BYTES
            check_size(whole.sides.get("X", 1), whole.sides.get("Y", 1), path, limit)
            check_planes(math.prod(whole.shape) * value_bytes, path, limit)
            image, axes = whole.values(), whole.axes
            if palette is not None:
                image, axes = np.moveaxis(_shown(palette)[:, image], 0, -1), axes + "S"
            elif kind := _unlike_rgb(first):
                raise UnreadableImage(f"{path}: {kind} is not read; cure: save it as RGB")
            if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                image = np.invert(image)
            tag = first.tags.get(ORIENTATION_TAG)
            alpha = _has_alpha(first, axes)
            image = _unsigned(_channels_last(image, axes, path), path)
            # writers call any fourth sample alpha; one that is not opaque may be a stain
            if alpha and (image[:, :, -1] == np.iinfo(image.dtype).max).all():
                image = image[:, :, :-1]
            if first.photometric == tifffile.PHOTOMETRIC.SEPARATED and image.shape[2] == 4:
                image = _from_inks(image)
            return image, 1 if tag is None else int(tag.value)
    except TIFF_TROUBLE:
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A file in memory as a `tifffile.TiffFile`.

    Its pages and it hold each other, so that Python may find only many files later that nobody
    needs them; closed, the bytes at least are gone at once.
    """
    with io.BytesIO(data) as held, _own_pages(held) as file:
        yield file


@contextmanager
def _own_pages(place: io.BytesIO | Path) -> Iterator[Any]:
    """A TIFF as its own pages, though its OME words may tell of other files too."""
    import tifffile

    with tifffile.TiffFile(place) as file:
        words = file.ome_metadata or ""
        if len(set(FILE_IN_OME.findall(words))) < 2:
            yield file
            return
        if any(int(count) > 1 for count in CHANNELS_IN_OME.findall(words)):
            raise UnreadableImage(
                f"{file.filename}: some of its channels lie in other files; cure: save all in one"
            )
    if isinstance(place, io.BytesIO):
        place.seek(0)
    with tifffile.TiffFile(place, is_ome=False) as file:
        yield file


@dataclass(frozen=True, slots=True)
class Whole:
    """All that is one picture, or one stack, in a file.

    Attributes:
        axes: As tifffile calls them.
        shape: Along the axes.
        series: Of pages that follow each other, as tifffile finds them.
    """

    axes: str
    shape: tuple[int, ...]
    series: tuple[Any, ...]

    @property
    def sides(self) -> dict[str, int]:
        """How long every axis is."""
        return dict(zip(self.axes, self.shape, strict=True))

    def values(self) -> np.ndarray:
        """All of it, decoded."""
        if len(self.series) == 1:
            return self.series[0].asarray()
        parts = [one.asarray().reshape(-1, *one.keyframe.shape) for one in self.series]
        return np.concatenate(parts)


def _whole(file: Any) -> Whole:
    """The first series that is no smaller copy, and the others where their pages are like its own.

    Pages that were written one by one are a series each. Smaller copies are left aside.
    """
    main, *others = [one for one in file.series if not one.keyframe.is_reduced] or file.series
    page = main.keyframe
    alike = (main, *(one for one in others if _is_alike(one.keyframe, page)))
    if len(alike) == 1:
        return Whole(main.axes, tuple(main.shape), alike)
    count = sum(one.size for one in alike) // math.prod(page.shape)
    return Whole("I" + page.axes, (count, *page.shape), alike)


def _is_alike(page: Any, other: Any) -> bool:
    """Whether a page may be a channel, or a slice, beside another one."""
    kinds = [(p.axes, p.shape, p.dtype, p.photometric) for p in (page, other)]
    return kinds[0] == kinds[1] and not page.is_reduced


def _shown(palette: Shaped[np.ndarray, "3 colour"]) -> Shaped[np.ndarray, "3 colour"]:
    """The colours of a palette, as 8 bit where they were made of these: as v * 257, or v * 256."""
    low, high = palette & 0xFF, palette >> 8
    is_short = not low.any() or (low == high).all()
    return high.astype(np.uint8) if is_short else palette


def _unlike_rgb(page: Any) -> str:
    """What values are, where brightness and colours that only decoders of pictures make RGB of."""
    import tifffile

    told = getattr(page.photometric, "name", "")
    is_decoded = page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS
    is_raw = told in ("CFA", "LINEAR_RAW")  # what a camera saw, before it was made a picture
    return told if is_raw or told.endswith("LAB") or (told == "YCBCR" and not is_decoded) else ""


def _from_inks(
    image: Shaped[np.ndarray, "height width 4"],
) -> Shaped[np.ndarray, "height width 3"]:
    """Cyan, magenta, yellow and black as red, green and blue, as Pillow tells them."""
    full = np.iinfo(image.dtype).max
    light = (full - image).astype(np.float32)
    return np.round(light[:, :, :3] * light[:, :, 3:] / full).astype(image.dtype)


def _channels_last(image: np.ndarray, axes: str, path: str) -> Shaped[np.ndarray, "y x channel"]:
    """An array with named axes as one picture."""
    extra = [k for k, name in enumerate(axes) if name not in "YX" and image.shape[k] == 1]
    image = image.squeeze(axis=tuple(extra))
    axes = "".join(name for k, name in enumerate(axes) if k not in extra)
    if sorted(axes)[-2:] != ["X", "Y"] or image.ndim not in (2, 3):
        raise UnreadableImage(
            f"{path}: axes {axes} are no single picture; cure: one picture a file, with channels "
            "as pages, planes or samples"
        )
    image = np.moveaxis(image, [axes.index("Y"), axes.index("X")], [0, 1])
    return image[:, :, None] if image.ndim == 2 else image


def _unsigned(image: Shaped[np.ndarray, "y x channel"], path: str) -> Pixels:
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path}: {image.dtype} pixels; 8 or 16 bit unsigned are read")
    return image


def _has_alpha(page: Any, axes: str) -> bool:
    """Whether a page says so of its last sample."""
    return "S" in axes and page.extrasamples[-1:] in ((1,), (2,))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskValues:
    """What a mask holds, whatever its values are shown as.

    Attributes:
        values: Of any type of number; of a palette its indices.
        has_alpha: Whether the last channel is.
        is_jpeg: Whether JPEG has changed them.
        orientation: How the camera was held (EXIF orientation).
    """

    values: Shaped[np.ndarray, "height width channel"]
    has_alpha: bool = False
    is_jpeg: bool = False
    orientation: int = 1


def values_of_mask(data: bytes, path: str, limit: int) -> MaskValues:
    """The values of the one picture in a file, as programs that label write them.

    Args:
        data: The whole file.
        path: As errors name it.
        limit: As in `decode_tiff`.

    Raises:
        UnreadableImage: The file is truncated, too large, holds several pictures, or is no TIFF
            inside.
    """
    import tifffile

    try:
        with _opened(data) as file:
            check_pages(file, len(data), path)
            whole = _whole(file)
            first = whole.series[0].keyframe
            sides = whole.sides
            deep = math.prod(length for name, length in sides.items() if name not in FLAT)
            if deep > 1 or first.samplesperpixel > MOST_SAMPLES:
                raise UnreadableImage(
                    f"{path}: axes {whole.axes} of {whole.shape}, where a mask is one picture; "
                    "cure: one mask a volume, or every slice with its mask in a row of its own"
                )
            check_size(sides.get("X", 1), sides.get("Y", 1), path, limit)
            check_planes(math.prod(whole.shape) * whole.series[0].dtype.itemsize, path, limit)
            values = _channels_last(whole.values(), whole.axes, path)
            if first.photometric == tifffile.PHOTOMETRIC.SEPARATED and values.shape[2] == 4:
                values = _from_inks(_unsigned(values, path))  # no ink is light
            tag = first.tags.get(ORIENTATION_TAG)
            return MaskValues(
                values=values,
                has_alpha=_has_alpha(first, whole.axes),
                is_jpeg=first.compression in JPEG_IN_TIFF,
                orientation=1 if tag is None else int(tag.value),
            )
    except TIFF_TROUBLE:
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None


def stack_of_pages(path: Path) -> Stack | None:
    """The pages of a file as slices; None where it holds one picture.

    Raises:
        UnreadableImage: The file is truncated or no TIFF inside, or its pages are more than slices.
    """
    import tifffile

    try:
        with _own_pages(path) as file:
            size = file.filehandle.size
            check_pages(file, size, str(path))
            pages = list(range(len(file.pages)))
            whole = [k for k in pages if not file.pages[k].aspage().is_reduced] or pages
            count, series = len(whole), _whole(file).series[0]
            axes = dict(zip(series.axes, series.shape, strict=True))
            if count == 1 and _lacks_slices(file, series, size):
                raise UnreadableImage(f"{path}: the file is truncated")
    except TIFF_TROUBLE:
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None
    deep = _axes_of_slices(axes)
    slices = math.prod(length for name, length in axes.items() if name in deep)
    if count == 1 and slices == 1:
        return None
    odd = [
        f"{name} of {length}"
        for name, length in axes.items()
        if name not in deep + FLAT
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
                found = file.pages[whole[k] if count > 1 else whole[0]].aspage()
                page = found.asarray() if count > 1 else _plane(path, axes, k)
                if found.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                    page = np.invert(page)
        except TIFF_TROUBLE:
            raise UnreadableImage(f"{path} page {k}: the page does not decode") from None
        return grey(_unsigned(np.atleast_3d(page), f"{path} page {k}"), f"{path} page {k}")

    names = tuple(f"{path} page {k}" for k in range(max(count, slices)))
    return Stack(names=names, files=(str(path.resolve()),), read=read)


def _axes_of_slices(axes: Mapping[str, int]) -> str:
    """Those of depth; where there is none, that of moments or of channels if it is the only one.

    Fiji opens a folder of slices as frames or channels unless it is told otherwise.
    """
    others = [name for name, length in axes.items() if name not in FLAT and length > 1]
    return DEEP + others[0] if len(others) == 1 and others[0] in ELSE_DEEP else DEEP


def _lacks_slices(file: Any, series: Any, size: int) -> bool:
    """Whether slices behind the only page, which describes them all, reach out of the file.

    Of ImageJ's files tifffile then leaves the description aside and tells of the page alone.
    """
    start = series.dataoffset
    reach_out = start is not None and start + series.nbytes > size
    return reach_out or (file.is_imagej and series.kind == "generic")


def _plane(path: Path, axes: Mapping[str, int], k: int) -> np.ndarray:
    """A slice of a TIFF that describes its first page only, as ImageJ does beyond 4 GB."""
    import tifffile

    flat = tuple(length for name, length in axes.items() if name in FLAT)
    plane = np.array(tifffile.memmap(path, mode="r").reshape(-1, *flat)[k])
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)  # ImageJ's comes high byte first


def check_pages(file: Any, size: int, path: str) -> None:
    """Walk the chain of pages: every one, and all its data, must lie inside the file.

    Args:
        file: An open `tifffile.TiffFile`.
        size: Of the file, in bytes.
        path: As errors name it.

    Raises:
        UnreadableImage: The file is truncated.
    """
    count = _chained(file, size)
    if count is None or len(file.pages) != count:
        raise UnreadableImage(f"{path}: the file is truncated")
    for page in file.pages:
        parts = zip(page.dataoffsets, page.databytecounts, strict=True)
        if not page.dataoffsets or any(offset + length > size for offset, length in parts):
            raise UnreadableImage(f"{path}: the file is truncated")


def _chained(file: Any, size: int) -> int | None:
    """How many pages the chain has; None where it leads out of the file or in a circle."""
    form, place = file.tiff, file.filehandle
    place.seek(4 if form.offsetsize == 4 else 8)
    offset = struct.unpack(form.offsetformat, place.read(form.offsetsize))[0]
    seen: set[int] = set()
    while offset:
        if offset in seen or offset >= size:
            return None
        seen.add(offset)
        place.seek(offset)
        count = struct.unpack(form.tagnoformat, place.read(form.tagnosize))[0]
        if place.tell() + count * form.tagsize + form.offsetsize > size:
            return None
        if not _has_values(place.read(count * form.tagsize), form, size):
            return None
        offset = struct.unpack(form.offsetformat, place.read(form.offsetsize))[0]
    return len(seen)


def _has_values(tags: bytes, form: Any, size: int) -> bool:
    """Whether the values of a page's tags, but for private ones, lie inside the file.

    Decoders leave out a tag that is cut off, such as the words that tell slices from channels.
    """
    import tifffile

    layout = form.byteorder + {4: "HHI4s", 8: "HHQ8s"}[form.offsetsize]
    for code, kind, count, value in struct.iter_unpack(layout, tags):
        length = count * struct.calcsize("=" + tifffile.TIFF.DATA_FORMATS.get(kind, ""))
        if code < PRIVATE_TAG and length > form.offsetsize:  # else the tag itself holds them
            (start,) = struct.unpack(form.offsetformat, value)
            if start + length > size:
                return False
    return True
