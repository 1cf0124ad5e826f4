"""Photographs and stained channels: JPEG, PNG, TIFF and whatever else OpenCV reads.

8 or 16 bit, grey, colour or any number of channels, the camera's orientation honoured, alpha left
out. A file is readable only when it decodes in full: OpenCV fills the missing end of a truncated
file with grey and says nothing, so the end is looked for first. What is harmed between is seen
where a format has sums to tell by, as PNG; of a JPEG its decoder goes on and says nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from foveal.arrays import Pixels, Resized
from foveal.errors import UnreadableImage
from foveal.manifest import Case
from foveal.read.limits import PIXEL_LIMIT, PLANE_LIMIT, check_file, check_size
from foveal.read.tiff import ORIENTATION_TAG, TIFF_START, MaskValues, decode_tiff, values_of_mask

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
BMP_START = b"BM"
"""How files begin."""

BMP_HEADER = 26
"""Bytes that hold the sides of a BMP."""

PNG_KIND, PNG_PALETTE = 25, 3
"""Where a PNG says what its values are, and the word for numbers of colours in a palette."""

PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Without one of these words a PNG does not say how its camera was held."""

REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: 32, 8: 64}
"""OpenCV's flag for a decoding at 1/1, 1/2, 1/4 and 1/8; with no word on colour it is grey."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """Read a case as `channels` x height x width: one file, or one for every channel in turn.

    Attributes:
        channels: Wanted; a grey picture is repeated where colour is wanted, and grey that was saved
            as colours is grey where that is wanted.
        bits: 8 or 16; an 8-bit picture is stretched where 16 are wanted. One of 16 is refused where
            8 are: how many of them a camera uses cannot be told from a single picture.
        spare_bits: Of 16, that the study's pictures leave empty.
        at_least: Shorter and longer side, in pixels, under which no picture is wanted: a JPEG is
            decoded at 1/2, 1/4 or 1/8 where both sides stay as long, in down to a third of the
            time. None decodes everything in full.
    """

    channels: int = 3
    bits: int = 8
    at_least: tuple[int, int] | None = None
    spare_bits: int = 0

    def __call__(self, case: Case) -> Shaped[np.ndarray, "channel height width"]:
        """The picture of a case.

        Raises:
            UnreadableImage: A file does not decode in full, has other channels, is too deep, or is
                brighter than the bits that the study uses can say.
        """
        image = _joined(case, [decode(path, self.at_least) for path in case.paths])
        if image.shape[2] == 1 and self.channels == 3:
            image = np.repeat(image, 3, axis=2)
        elif self.channels == 1 and (image == image[:, :, :1]).all():
            image = image[:, :, :1]
        if image.shape[2] != self.channels:
            raise UnreadableImage(
                f"{case.paths[0]}: {image.shape[2]} channels, where the study has {self.channels}"
            )
        image = not_deeper(image, self.bits, case.paths[0])
        _check_white(image, self.spare_bits, case.paths[0])
        return np.moveaxis(at_depth(image, self.bits, self.spare_bits), 2, 0)


def not_deeper(values: Shaped[np.ndarray, "*_"], bits: int, name: str) -> Shaped[np.ndarray, "*_"]:
    """Values no deeper than a study: those of 16 bit that were stretched from 8 are so again.

    Raises:
        UnreadableImage: They are deeper.
    """
    if bits == 8 and values.dtype == np.uint16 and not (values % STRETCH).any():
        return (values // STRETCH).astype(np.uint8)
    check_depth(values.dtype, bits, name)
    return values


STRETCH = 257
"""What 8 bit are multiplied by to fill 16."""


def check_depth(dtype: np.dtype, bits: int, name: str) -> None:
    """Raise `UnreadableImage` where a file is deeper than the study.

    How much of its depth is used, one file does not tell.
    """
    if dtype.itemsize * 8 > bits:
        raise UnreadableImage(
            f"{name}: {dtype.itemsize * 8} bit, where the study has {bits}; cure: save it with "
            f"{bits} bit, as bright as the others"
        )


def _check_white(values: Shaped[np.ndarray, "*_"], spare_bits: int, name: str) -> None:
    """Raise `UnreadableImage` where much would be cut off as white: its camera uses more bits."""
    if not spare_bits or values.dtype != np.uint16:
        return
    share = np.mean(values > 0xFFFF >> spare_bits)
    if share > CUT_OFF:
        used = 16 - spare_bits
        raise UnreadableImage(
            f"{name}: {share:.0%} of its values are above {0xFFFF >> spare_bits}, and pictures of "
            f"the study use {used} of 16 bits; cure: save it with {used} bits, as bright as the "
            "others"
        )


CUT_OFF = 0.1
"""Share of a picture's values that may be brighter than anything in the study."""


def at_depth(
    values: Shaped[np.ndarray, "*_"], bits: int, spare_bits: int
) -> Shaped[np.ndarray, "*_"]:
    """Values at the full scale of a study: those of 8 bit stretched to 16, those of 16 filled.

    Example:
        >>> at_depth(np.array([1, 255], dtype=np.uint8), 16, 4).tolist()
        [257, 65535]
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(STRETCH) if bits == 16 else values
    return filled(values, spare_bits)


def filled(values: Shaped[np.ndarray, "*_"], spare_bits: int) -> Shaped[np.ndarray, "*_"]:
    """16-bit values of a camera of fewer bits brought to full scale; brighter ones stay white.

    Example:
        >>> filled(np.array([0, 4095, 9999], dtype=np.uint16), 4).tolist()
        [0, 65520, 65520]
    """
    if not spare_bits:
        return values
    return np.minimum(values, np.uint16(0xFFFF >> spare_bits)) << np.uint16(spare_bits)


def in_eight_bits(values: Shaped[np.ndarray, "*_"], spare_bits: int) -> Shaped[np.ndarray, "*_"]:
    """The upper 8 of the bits that are used; values of 8 bit as they are.

    Example:
        >>> in_eight_bits(np.array([0, 15, 4095], dtype=np.uint16), 4).tolist()
        [0, 0, 255]
    """
    return (filled(values, spare_bits) >> 8).astype(np.uint8) if values.itemsize > 1 else values


def spare_bits_of(white: float) -> int:
    """How many of 16 bits are empty where nothing is brighter than `white`, a share of full scale.

    Example:
        >>> spare_bits_of(1.0), spare_bits_of(4095 / 65535), spare_bits_of(0.0)
        (0, 4, 0)
    """
    used = round(white * 0xFFFF).bit_length()
    return 16 - used if used else 0


def depth_of(
    bits: Sequence[int], white: Sequence[float]
) -> tuple[int, int, Float[np.ndarray, " picture"]]:
    """What pictures of 8 and 16 bits have in common.

    Args:
        bits: Of each.
        white: The brightest value of each, as a share of full scale.

    Returns:
        The bits of the study, how many of 16 are empty in all of its deep pictures, and what a
        value of each is multiplied by when those are filled; pictures of 8 bit are full already.
    """
    deep = np.asarray(bits) == 16
    spare = spare_bits_of(float(np.asarray(white)[deep].max())) if deep.any() else 0
    return max(bits), spare, np.where(deep, 2.0**spare, 1.0)


def _joined(case: Case, images: list[Shaped[np.ndarray, "_ _ _"]]) -> Pixels:
    """One picture; of several files each gives a channel, that with most light where it has more.

    Microscopes write a channel as a picture in its own colour, or as one in grey.
    """
    if len(images) == 1:
        return images[0]
    sizes = {image.shape[:2] for image in images}
    kinds = {image.dtype for image in images}
    if len(sizes) > 1 or len(kinds) > 1:
        told = ", ".join(
            f"{path} {image.shape[0]}x{image.shape[1]} {image.dtype}"
            for path, image in zip(case.paths, images, strict=True)
        )
        raise UnreadableImage(f"the channels of a picture differ in size or depth: {told}")
    brightest = (int(image.mean(axis=(0, 1)).argmax()) for image in images)
    return np.stack([image[:, :, k] for image, k in zip(images, brightest, strict=True)], axis=2)


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
    white: float = 1.0
    """The largest value, as a share of full scale."""


def inspect(case: Case) -> tuple[Inspection, Pixels]:
    """Decode a case in full and measure it.

    Raises:
        UnreadableImage: A file does not decode in full.
    """
    files = [_bytes(path, PIXEL_LIMIT) for path in case.paths]
    image = _joined(
        case,
        [
            _decode(data, path, None, PIXEL_LIMIT)
            for data, path in zip(files, case.paths, strict=True)
        ],
    )
    digests = [hashlib.sha256(data) for data in files]
    several = hashlib.sha256(b"".join(one.digest() for one in digests))
    sample = image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]
    unit = sample.reshape(-1, image.shape[2]) / float(np.iinfo(image.dtype).max)
    return (
        Inspection(
            height=image.shape[0],
            width=image.shape[1],
            channels=image.shape[2],
            bits=image.dtype.itemsize * 8,
            sha256=(several if len(files) > 1 else digests[0]).hexdigest(),
            mean=tuple(unit.mean(axis=0).tolist()),
            square=tuple((unit**2).mean(axis=0).tolist()),
            white=float(image.max()) / float(np.iinfo(image.dtype).max),
        ),
        image,
    )


def decode(
    path: str, at_least: tuple[int, int] | None = None, *, limit: int = PIXEL_LIMIT
) -> Pixels:
    """One picture, height x width x channel, in the file's own depth.

    Args:
        path: Of the file.
        at_least: As in `Photograph`.
        limit: Most pixels that it may have; of a TIFF, also what all its planes may fill.

    Raises:
        UnreadableImage: The file is missing, truncated, too large or no picture.
    """
    return _decode(_bytes(path, limit), path, at_least, limit)


def decode_with_alpha(path: str) -> tuple[Pixels, Shaped[np.ndarray, "height width"] | None]:
    """The same of a PNG or JPEG, and how opaque its pixels are, where it says so."""
    data = _bytes(path, PIXEL_LIMIT)
    if not data.startswith(PNG_START):
        return _decode(data, path, None, PIXEL_LIMIT), None
    image, orientation = _whole(data, path, PIXEL_LIMIT)
    has_alpha = image.ndim == 3 and image.shape[2] == 4
    alpha = _oriented(image[:, :, 3:], orientation)[:, :, 0] if has_alpha else None
    return _oriented(_rgb(image), orientation), alpha


def decode_mask(path: str) -> Bool[np.ndarray, "height width"]:
    """Where a picture marks something: anything but 0, more than half of full scale in a JPEG.

    JPEG leaves ripples about what is marked. Of a TIFF the values count, of any type of number,
    however light it says that they are shown: Fiji shows masks black on white by such a word. A
    palette without black has its background first. Alpha is left out, unless all colours are one.

    Raises:
        UnreadableImage: As `decode` does; or the file holds several pictures.
    """
    found = _values_of_mask(_bytes(path, PLANE_LIMIT), path)
    return _oriented(_marked(found), found.orientation)[:, :, 0]


def _values_of_mask(data: bytes, path: str) -> MaskValues:
    if data[:4] in TIFF_START:
        return values_of_mask(data, path, PLANE_LIMIT)
    if not data or data[:2] == JPEG_START:
        return MaskValues(values=_decode(data, path, None, PLANE_LIMIT), is_jpeg=True)
    image, orientation = _whole(data, path, PLANE_LIMIT)
    indices = _indices_without_black(data, path)
    values = np.atleast_3d(image) if indices is None else indices
    return MaskValues(values=values, has_alpha=values.shape[2] == 4, orientation=orientation)


def _marked(mask: MaskValues) -> Bool[np.ndarray, "height width 1"]:
    values = mask.values
    if mask.has_alpha:
        values, alpha = values[:, :, :-1], values[:, :, -1:]
        if not alpha.all() and (values == values[0, 0]).all():
            return alpha != 0  # one colour all over: the shape lies in what is transparent
    is_soft = mask.is_jpeg or _has_soft_edges(values)
    found = values > np.iinfo(values.dtype).max // 2 if is_soft else values != 0
    if values.dtype.kind == "f":
        found &= ~np.isnan(values)
    return np.asarray(found.any(axis=2, keepdims=True))


def _has_soft_edges(values: Shaped[np.ndarray, "height width channel"]) -> bool:
    """Whether a mask of 0 and full scale was smoothed, or kept lossily: it has all between, too.

    Numbers of objects or classes, with or without 255 for what is not known, look otherwise: few
    values of them are bright, or few pixels of full scale.
    """
    if values.dtype not in (np.uint8, np.uint16):
        return False
    bright = values.max(axis=2)
    counts = np.bincount(
        (bright if bright.itemsize == 1 else bright >> 8).reshape(-1), minlength=256
    )
    dim, light = counts[NEAR:128], counts[128 : 256 - NEAR]
    between = min(np.count_nonzero(dim), np.count_nonzero(light))
    white, shown = counts[256 - NEAR :].sum(), counts[NEAR:].sum()
    return bool(between >= SOFT_VALUES and white > SOFT_SHARE * shown)


NEAR, SOFT_VALUES, SOFT_SHARE = 6, 4, 0.3
"""Values from black and from white that count as such in a mask; how many of each half lie between
where it has soft edges, and how much of what is not black is white."""


def _indices_without_black(data: bytes, path: str) -> Shaped[np.ndarray, "height width 1"] | None:
    """Of a PNG with a palette, the numbers of its colours, where none that is used is black."""
    if not data.startswith(PNG_START) or data[PNG_KIND] != PNG_PALETTE:
        return None
    try:
        with PngImageFile(io.BytesIO(data)) as picture:
            indices = np.asarray(picture)
            colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    except (OSError, ValueError, SyntaxError, struct.error):
        raise UnreadableImage(f"{path}: the picture does not decode") from None
    used = np.unique(indices)
    is_black = used >= len(colours)  # what the palette does not tell of is shown so
    is_black[~is_black] = ~colours[used[~is_black]].any(axis=1)
    return None if is_black.any() else indices[:, :, None]


def _bytes(path: str, limit: int) -> bytes:
    """All of a file, if it may be a picture of at most so many pixels."""
    try:
        with Path(path).open("rb", buffering=0) as file:  # half the system calls of `read_bytes`
            check_file(os.fstat(file.fileno()).st_size, path, limit)
            return file.read()
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _decode(data: bytes, path: str, at_least: tuple[int, int] | None, limit: int) -> Pixels:
    if not data:
        raise UnreadableImage(f"{path}: the file is empty")
    if data[:4] in TIFF_START:
        return _oriented(*decode_tiff(data, path, limit))
    frame = _jpeg_frame(data) if data[:2] == JPEG_START else None
    if frame and frame.channels in (1, 3):
        check_size(frame.width, frame.height, path, limit)
        return _decode_jpeg(data, frame, path, at_least)
    image, orientation = _whole(data, path, limit)
    return _oriented(_rgb(image), orientation)


def _whole(data: bytes, path: str, limit: int) -> tuple[np.ndarray, int]:
    """A picture as OpenCV gives it, alpha and all, and how the camera was held."""
    orientation = _orientation(data, path, limit)
    if data.startswith(PNG_START) and data.rfind(b"IEND") < 0:
        raise UnreadableImage(f"{path}: the file is truncated")
    return _by_opencv(data, cv2.IMREAD_UNCHANGED, path), orientation


def _by_opencv(data: bytes, flags: int, path: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # such as of a side longer than it reads
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"{path}: the picture does not decode")
    return image


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """What the markers of a JPEG say, and where its picture data starts."""

    height: int
    width: int
    channels: int
    start: int


def _jpeg_frame(data: bytes) -> JpegFrame | None:
    """Walk the markers up to the picture data; None where they are broken.

    Pillow would do it too, for a tenth of the time that a small picture takes to decode.
    """
    place, found = 2, None
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return found and JpegFrame(*found, start=place)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            found = height, width, data[place + 9]
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _decode_jpeg(
    data: bytes, frame: JpegFrame, path: str, at_least: tuple[int, int] | None
) -> Pixels:
    """Grey or colour; OpenCV turns it as the camera was held."""
    if data.rfind(b"\xff\xd9") < frame.start:  # before it: the end of an embedded thumbnail
        raise UnreadableImage(f"{path}: the file is truncated")
    colour = cv2.IMREAD_COLOR_RGB if frame.channels == 3 else cv2.IMREAD_GRAYSCALE
    image = _by_opencv(data, colour | REDUCED[_reduction(frame, at_least)], path)
    return image if image.ndim == 3 else image[:, :, None]


def _reduction(frame: JpegFrame, at_least: tuple[int, int] | None) -> int:
    """The largest factor that leaves both sides long enough."""
    if at_least is None:
        return 1
    sides = zip(sorted((frame.height, frame.width)), sorted(at_least), strict=True)
    most = min(have / max(wanted, 1) for have, wanted in sides)
    return max((factor for factor in REDUCED if factor <= most), default=1)


def _orientation(data: bytes, path: str, limit: int) -> int:
    """How the camera was held, after the size was found sane."""
    sides = _sides(data)
    if sides is not None:
        check_size(*sides, path, limit)
        if not any(word in data for word in PNG_EXIF):
            return 1  # Pillow would decode all of it to look behind the pixels
    opened = PngImageFile if data.startswith(PNG_START) else Image.open  # which has its own limit
    try:
        with opened(io.BytesIO(data)) as picture:
            check_size(picture.width, picture.height, path, limit)
            orientation = picture.getexif().get(ORIENTATION_TAG, 1)
            return orientation if orientation in range(1, 9) else 1
    except Image.DecompressionBombError:
        raise UnreadableImage(f"{path}: more than {PIXEL_LIMIT} pixels") from None
    except UnreadableImage:
        raise
    except (OSError, ValueError, SyntaxError, RuntimeError, struct.error):
        if sides is not None:  # Pillow refuses long words beside the pixels
            return 1
        raise UnreadableImage(f"{path}: the file is no picture that can be read") from None


def _sides(data: bytes) -> tuple[int, int] | None:
    """Width and height, where the beginning of a PNG or BMP tells."""
    if data.startswith(PNG_START) and len(data) >= PNG_KIND:
        return struct.unpack_from(">II", data, 16)
    if data.startswith(BMP_START) and len(data) >= BMP_HEADER:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    return None


def _rgb(image: np.ndarray) -> Pixels:
    """OpenCV's order turned into red, green, blue; alpha left out."""
    if image.ndim == 2:
        return image[:, :, None]
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _oriented(image: Pixels, orientation: int) -> Resized:
    """The picture as the camera was held (EXIF orientation 1 to 8)."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
