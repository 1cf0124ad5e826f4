"""Photographs and stained channels: JPEG, PNG, TIFF and whatever else OpenCV reads.

8 or 16 bit, grey, colour or any number of channels, the camera's orientation honoured, alpha left
out. A file is readable only when it decodes in full: OpenCV fills the missing end of a truncated
file with grey and says nothing, so the end is looked for first.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image

from foveal.arrays import Pixels, Resized
from foveal.errors import DataError
from foveal.manifest import Case

PIXEL_LIMIT = 400_000_000
"""A picture of more pixels is taken for a decompression bomb."""

ORIENTATION_TAG = 0x0112


class UnreadableImage(DataError):
    """A file is missing, truncated or no picture."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """Read one file a case as `channels` x height x width.

    Attributes:
        channels: Wanted; a grey picture is repeated where colour is wanted.
        bits: 8 or 16; an 8-bit picture is stretched where 16 are wanted.
    """

    channels: int = 3
    bits: int = 8

    def __call__(self, case: Case) -> Shaped[np.ndarray, "channel height width"]:
        """The picture of a case.

        Raises:
            UnreadableImage: The file does not decode in full, or has other channels.
        """
        image = decode(case.paths[0])
        if image.shape[2] == 1 and self.channels == 3:
            image = np.repeat(image, 3, axis=2)
        if image.shape[2] != self.channels:
            raise UnreadableImage(
                f"{case.paths[0]}: {image.shape[2]} channels, where the study has {self.channels}"
            )
        if self.bits == 16 and image.dtype == np.uint8:
            image = image.astype(np.uint16) * 257
        elif self.bits == 8 and image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        return np.moveaxis(image, 2, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one picture is, from decoding it in full."""

    height: int
    width: int
    channels: int
    bits: int
    sha256: str
    mean: tuple[float, ...]
    square: tuple[float, ...]


def inspect(case: Case) -> tuple[Inspection, Pixels]:
    """Decode a case in full and measure it.

    Raises:
        UnreadableImage: The file does not decode in full.
    """
    data = _bytes(case.paths[0])
    image = _decode(data, case.paths[0])
    sample = image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]
    unit = sample.reshape(-1, image.shape[2]) / float(np.iinfo(image.dtype).max)
    return (
        Inspection(
            height=image.shape[0],
            width=image.shape[1],
            channels=image.shape[2],
            bits=image.dtype.itemsize * 8,
            sha256=hashlib.sha256(data).hexdigest(),
            mean=tuple(unit.mean(axis=0).tolist()),
            square=tuple((unit**2).mean(axis=0).tolist()),
        ),
        image,
    )


def decode(path: str) -> Pixels:
    """One picture, height x width x channel, in the file's own depth.

    Raises:
        UnreadableImage: The file is missing, truncated, too large or no picture.
    """
    return _decode(_bytes(path), path)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _decode(data: bytes, path: str) -> Pixels:
    if not data:
        raise UnreadableImage(f"{path}: the file is empty")
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _decode_tiff(data, path)
    orientation = _header(data, path)
    if not _ends(data):
        raise UnreadableImage(f"{path}: the file is truncated")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path}: the picture does not decode")
    return _oriented(_rgb(image), orientation)


def _header(data: bytes, path: str) -> int:
    """The orientation tag, after the size was found to be sane."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            _check_size(picture.width, picture.height, path)
            return int(picture.getexif().get(ORIENTATION_TAG, 1))
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise UnreadableImage(f"{path}: more than {PIXEL_LIMIT} pixels") from None
        raise UnreadableImage(f"{path}: the file is no picture that can be read") from None


def _check_size(width: int, height: int, path: str) -> None:
    if width * height > PIXEL_LIMIT:
        raise UnreadableImage(f"{path}: {width} x {height} is more than {PIXEL_LIMIT} pixels")


def _ends(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end; other formats fail in the decoder."""
    if data[:2] == b"\xff\xd8":
        return data.rfind(b"\xff\xd9") > _scan_start(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data.rfind(b"IEND") > 0
    return True


def _scan_start(data: bytes) -> int:
    """Where a JPEG's picture data starts; an embedded thumbnail has an end marker of its own."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xDA:
            return place
        place += 1 if data[place + 1] == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4])
    return len(data)


def _rgb(image: np.ndarray) -> Pixels:
    """OpenCV's order turned into red, green, blue; alpha left out."""
    if image.ndim == 2:
        return image[:, :, None]
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image[:, :, :1]  # grey with alpha


def _oriented(image: Pixels, orientation: int) -> Resized:
    """The picture as the camera was held (EXIF orientation 1 to 8)."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _decode_tiff(data: bytes, path: str) -> Pixels:
    """Samples, planes or pages as channels."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            axes, shape = series.axes, dict(zip(series.axes, series.shape, strict=True))
            _check_size(shape.get("X", 0), shape.get("Y", 0), path)
            for page in filter(None, series.pages):
                ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
                if max(ends, default=0) > len(data):
                    raise UnreadableImage(f"{path}: the file is truncated")
            image = series.asarray()
            first = file.pages.first
            orientation = (
                int(first.tags[ORIENTATION_TAG].value) if ORIENTATION_TAG in first.tags else 1
            )
            alpha = bool(first.extrasamples) and axes[-1] == "S"
    except UnreadableImage:
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, struct.error):
        raise UnreadableImage(f"{path}: the TIFF does not decode") from None
    kept = [k for k, n in enumerate(image.shape) if axes[k] in "YX" or n > 1]
    axes, image = "".join(axes[k] for k in kept), image.squeeze()
    if "Y" not in axes or "X" not in axes or image.ndim not in (2, 3):
        raise UnreadableImage(f"{path}: axes {axes} are no single picture")
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path}: {image.dtype} pixels; 8 or 16 bit unsigned are read")
    image = (
        image[:, :, None]
        if image.ndim == 2
        else np.moveaxis(image, [axes.index(a) for a in "YX"], [0, 1])
    )
    if alpha and image.shape[2] in (2, 4):
        image = image[:, :, :-1]
    return _oriented(image, orientation)
