"""Slides as scanners write them, small: pyramids of tiles or strips, and tissue to be found."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from foveal.errors import UnreadableImage
from foveal.read.slide import open_slide

TILE = (32, 48)
"""Height and width of tiles, where nothing else is said."""

ODD = (203, 157)
"""Height and width that neither tiles nor levels divide."""

EOSIN, PURPLE, DARK, BROWN = (225, 140, 180), (130, 80, 155), (80, 50, 120), (130, 80, 40)
"""Red, green and blue of pink stroma, of nuclei, of many nuclei, of an immunostain."""


def noise(height: int, width: int, *channels: int, seed: int = 0, dtype: Any = np.uint8) -> Any:
    """Pixels that are all different."""
    shape = (height, width, *channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_levels(
    path: Path, levels: Iterable[np.ndarray], *, is_sub: bool = False, **more: Any
) -> Path:
    """Write a page a level, the largest first.

    Args:
        path: Of the file.
        levels: What is on every page.
        is_sub: Whether the smaller levels are sub-files of the first page.
        more: Given to tifffile with the file, with the first page or with all.
    """
    first, *smaller = levels
    more = deepcopy(more)  # tifffile writes to what it is given
    of_file = {key: more.pop(key) for key in ("bigtiff", "byteorder", "ome") if key in more}
    said = {"tile": TILE, "photometric": "rgb", "metadata": None, **more}
    of_first = {
        k: said.pop(k) for k in ("description", "resolution", "resolutionunit") if k in said
    }
    with tifffile.TiffWriter(path, **of_file) as file:
        file.write(first, **of_first, **said, subifds=len(smaller) if is_sub else 0)
        for level in smaller:
            file.write(level, **{**said, "metadata": None}, subfiletype=1)
    return path


def shrunk(pixels: np.ndarray, step: int) -> np.ndarray:
    """Every so manieth pixel: a smaller level, whose size is rounded up."""
    return np.ascontiguousarray(pixels[::step, ::step])


def averaged(pixels: np.ndarray, step: int) -> np.ndarray:
    """Means of squares: a smaller level as scanners make it, whose size is rounded down."""
    height, width = (n // step for n in pixels.shape[:2])
    blocks = pixels[: height * step, : width * step].reshape(height, step, width, step, -1)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)


def tissue_picture(
    height: int,
    width: int,
    *boxes: tuple[int, int, int, int],
    glass: int = 255,
    colour: tuple[int, int, int] = PURPLE,
) -> np.ndarray:
    """Glass with boxes (top, left, height, width) of textured tissue."""
    picture = np.full((height, width, 3), glass, np.uint8)
    rng = np.random.default_rng(height + width)
    for top, left, high, wide in boxes:
        part = picture[top : top + high, left : left + wide]
        grain = rng.integers(-12, 13, part.shape)
        part[:] = np.clip(np.array(colour) + grain, 0, 255)
    return picture


def write_slide(path: Path, picture: np.ndarray, *steps: int, **more: Any) -> Path:
    """Write a picture as a slide without loss, with smaller levels of these steps."""
    levels = [picture, *(averaged(picture, step) for step in steps)]
    return write_levels(path, levels, compression="deflate", **more)


def whole(path: Path, level: int) -> np.ndarray:
    """A whole level as tifffile decodes it, 8 bit, on white glass, light as light."""
    with tifffile.TiffFile(path) as file:
        pages = [page.aspage() for page in file.pages]
        pages += [sub.aspage() for page in pages for sub in page.pages or ()]
        page = sorted(pages, key=lambda page: -page.imagelength)[level]
        pixels = page.asarray()
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if page.extrasamples:
        alpha, colours = pixels[:, :, -1:] / 255, pixels[:, :, :-1]
        colours = 255 - colours if page.photometric == 0 else colours  # white is 0
        lit = colours if page.extrasamples == (1,) else colours * alpha
        return np.clip(np.rint(lit + 255 * (1 - alpha)), 0, 255).astype(np.uint8)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels if pixels.dtype == np.uint8 else (pixels // 256).astype(np.uint8)


def crop(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A region, white where it lies outside."""
    far = 400
    around = np.pad(pixels, ((far, far), (far, far), (0, 0)), constant_values=255)
    return around[far + top : far + top + height, far + left : far + left + width]


def refused(path: Path | str, words: str) -> None:
    """Opening it must end in the one error, which begins with the path."""
    with pytest.raises(UnreadableImage, match=words) as error, open_slide(str(path)):
        pass
    assert str(error.value).startswith(f"{path}: ")


def fingerprint(path: Path) -> str:
    """That of a slide which is opened for it."""
    with open_slide(str(path)) as slide:
        return slide.fingerprint()
