"""Small pictures, the bytes of their files, and what is read from these."""

import io
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from foveal.read.image import decode


def picture(channels: int, dtype: type = np.uint8) -> np.ndarray:
    """Smooth, and different at every place and in every channel."""
    coarse = np.random.default_rng(channels).random((5, 6, channels))
    smooth = cv2.resize(coarse, (31, 23), interpolation=cv2.INTER_CUBIC).reshape(23, 31, channels)
    return (np.clip(smooth, 0, 1) * np.iinfo(dtype).max).astype(dtype)


RGB, GREY = picture(3), picture(1)
ALPHA = np.dstack([RGB, GREY])
OPAQUE = np.dstack([RGB, np.full_like(GREY, 255)])
PALETTE = Image.fromarray(RGB).quantize(16)
BITS = Image.fromarray(GREY[:, :, 0]).convert("1")
WIDE = {c: picture(c, np.uint16) for c in (1, 3)}


def pil(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """A file as Pillow writes it."""
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image.squeeze())
    image.save(out, kind, **options)
    return out.getvalue()


def tiff(image: np.ndarray, **options: object) -> bytes:
    """A TIFF as tifffile writes it."""
    out = io.BytesIO()
    tifffile.imwrite(out, image, **{"photometric": "minisblack"} | options)
    return out.getvalue()


def planes(image: np.ndarray) -> np.ndarray:
    """Channels first."""
    return np.ascontiguousarray(np.moveaxis(image, 2, 0))


def read(folder: Path, data: bytes) -> np.ndarray:
    """What is read from a file of these bytes."""
    (folder / "file").write_bytes(data)
    return decode(str(folder / "file"))


def seen(data: bytes) -> np.ndarray:
    """What Pillow sees."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return np.array(image)
