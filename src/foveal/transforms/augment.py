"""One case: made ready once, then varied at every draw.

`Prepare` crops dark borders and resizes; its result is what a study caches. `Augment` draws its
parameters from the generator it is given, composes flip, turn, zoom, shear, shift and elastic
bending into *one* map, and reads the picture once through it (every further interpolation blurs).
Colour is one line a channel, or one table where gamma bends it::

    picture = Prepare(height=256, width=256)(image)
    varied = Augment(rotate_degrees=180)(picture, np.random.default_rng((*key, epoch, place)))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from jaxtyping import Float, Shaped

from foveal.arrays import Pixels, Resized

DARK = 12 / 255
"""Brightness, of full scale, that a blurred border does not reach."""

Parts = Shaped[np.ndarray, "height width part"]
"""What belongs to the pixels of a picture, such as a mask and where it counts."""

Moved = Shaped[np.ndarray, "_ _ part"]

UNMOVED = np.eye(2, 3)
LEVELS = np.arange(256.0)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Crop dark borders, then resize to a fixed size.

    Attributes:
        height: Rows of the result.
        width: Columns of the result.
        crop_border: Whether borders darker than `DARK` are cut off.
        local_contrast: Weight of what remains after a blur of a thirtieth of the height is taken
            away, 0 for none; 4 is the usual one for retina photographs.

    Reference:
        Graham, Kaggle Diabetic Retinopathy Detection competition report, 2015 (local_contrast).
    """

    height: int
    width: int
    crop_border: bool = True
    local_contrast: float = 0.0

    def __call__(self, image: Shaped[np.ndarray, "channel rows columns"]) -> Pixels:
        """The picture as it is cached: height x width x channel."""
        picture = np.ascontiguousarray(np.moveaxis(image, 0, 2))
        if self.crop_border:
            top, bottom, left, right = content_box(picture)
            picture = picture[top:bottom, left:right]
        picture = resize(picture, self.height, self.width)
        return self._sharpened(picture) if self.local_contrast else picture

    def _sharpened(self, picture: Pixels) -> Pixels:
        full = np.iinfo(picture.dtype).max
        plain = picture.astype(np.float32)
        blurred = _planewise(plain, lambda p: cv2.GaussianBlur(p, (0, 0), self.height / 30))
        sharp = self.local_contrast * (plain - blurred) + full / 2
        return np.clip(sharp, 0, full).astype(picture.dtype)


def content_box(image: Pixels) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is not a dark border.

    A blur keeps single hot pixels from counting. A picture with a box under half its area is left
    whole: it is dark, not bordered.
    """
    rows, columns = image.shape[:2]
    step = max(1, min(rows, columns) // 256)
    small = np.ascontiguousarray(image[::step, ::step].max(axis=2))
    bright = (
        cv2.blur(small, (7, 7), borderType=cv2.BORDER_CONSTANT) > DARK * np.iinfo(image.dtype).max
    )
    filled_rows, filled_columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    if not len(filled_rows):
        return 0, rows, 0, columns
    top, left = int(filled_rows[0]) * step, int(filled_columns[0]) * step
    bottom = min(rows, (int(filled_rows[-1]) + 1) * step)
    right = min(columns, (int(filled_columns[-1]) + 1) * step)
    if (bottom - top) * (right - left) < rows * columns / 2:
        return 0, rows, 0, columns
    return top, bottom, left, right


def resize(image: Pixels, height: int, width: int) -> Resized:
    """Averages of areas along a side that shrinks, a line between pixels along one that grows.

    Shrinking halves as often as it can first: averages of 2 x 2 are many times cheaper than those
    of broken numbers of pixels, and an average of averages is one. What is left, if it is less than
    a half more, is too little for patterns to fold over, and a line does.
    """
    while image.shape[0] >= 2 * height or image.shape[1] >= 2 * width:
        down, across = 1 + (image.shape[0] >= 2 * height), 1 + (image.shape[1] >= 2 * width)
        rows, columns = image.shape[0] // down, image.shape[1] // across
        image = _averaged(image[: down * rows, : across * columns], rows, columns)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    rows, columns = image.shape[:2]
    if rows >= height and columns >= width and rows * columns > 1.5**2 * height * width:
        return _averaged(image, height, width)
    if rows > 1.5 * height or columns > 1.5 * width:  # and the other side grows
        image = _averaged(image, min(rows, height), min(columns, width))
    line = partial(_resized, size=(width, height), how=cv2.INTER_LINEAR)
    return _planewise(image, line)


def _averaged(image: Pixels, height: int, width: int) -> Resized:
    """Averages of areas; no side may grow, for then OpenCV would draw lines along both."""
    return _planewise(image, partial(_resized, size=(width, height), how=cv2.INTER_AREA))


def _resized(planes: np.ndarray, *, size: tuple[int, int], how: int) -> np.ndarray:
    return cv2.resize(planes, size, interpolation=how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Random variants of a picture, of the same size.

    Attributes:
        flip_horizontal: Probability of a mirror image, left to right.
        flip_vertical: Probability of a mirror image, top to bottom.
        rotate_degrees: Largest turn either way.
        quarter_turns: Whether a picture is turned by 0 to 3 quarters first, all alike; by 0 or 2
            where it is no square, which others would turn out of sight.
        warp: Share of variants that are turned by any angle, zoomed, slanted, shifted and bent; the
            others are only mirrored and turned by quarters, so that pixels stay as sharp as those
            that will be scored.
        scale: Smallest and largest zoom; below 1 shows more than the picture, mirrored at its edge.
        shear_degrees: Largest slant either way.
        shift: Largest move either way, as a share of the side.
        elastic: Largest bend of a 5 x 5 lattice, as a share of the side.
        brightness: Largest change either way, in standard deviations of a channel.
        contrast: Largest change of the slope either way, about the mean of a channel.
        colour: Largest change of the strength of a single channel, as a share.
        gamma: Largest change of the exponent, as a share; 8-bit pictures only.
        cutout: Probability of one grey square of a quarter of the side.
    """

    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    rotate_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear_degrees: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    gamma: float = 0.0
    cutout: float = 0.0
    quarter_turns: bool = False
    warp: float = 1.0

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """A variant of the picture; the picture itself is never written to.

        Everything is drawn whether it is used or not, so that no setting moves another.
        """
        return self._varied(image, None, rng)[0]

    def with_mask(
        self, image: Pixels, mask: Parts, rng: np.random.Generator, *, margin: int = 0
    ) -> tuple[Resized, Moved]:
        """A variant of a picture, and its mask moved as the picture was; neither is written to.

        A hidden square hides nothing of the mask.

        Args:
            image: To be varied.
            mask: As high and wide.
            rng: Of all draws.
            margin: Pixels on every side that only variants show, in place of mirrored edges.
        """
        picture, moved = self._varied(image, mask, rng, margin)
        assert moved is not None
        return picture, moved

    def margin(self, side: int) -> int:
        """Pixels around a square of that side which its variants may show."""
        turn = math.radians(min(self.rotate_degrees, 45.0))  # quarters of a square need no more
        slant = math.tan(math.radians(self.shear_degrees))
        reach = (math.cos(turn) + math.sin(turn)) * (1 + slant) / min(self.scale[0], 1.0)
        return math.ceil(side * ((reach - 1) / 2 + self.shift + self.elastic))

    def _varied(
        self, image: Pixels, mask: Parts | None, rng: np.random.Generator, margin: int = 0
    ) -> tuple[Resized, Moved | None]:
        height, width = (side - 2 * margin for side in image.shape[:2])
        draws = rng.random(63 + image.shape[2])
        cut, around_zero = draws[:3], 2 * draws[3:] - 1
        shape, tone, bend = around_zero[:7], around_zero[7:10], around_zero[10:60]
        turned, warped = rng.random(2)
        quarters = int(4 * turned) if height == width else 2 * int(2 * turned)
        how = self if warped < self.warp else self._upright()
        matrix = how._matrix(shape, height, width, quarters * self.quarter_turns)
        matrix += np.array([[0, 0, margin]] * 2)
        move = how._movement(matrix, bend, height, width)
        picture = self._coloured(move(image), tone, around_zero[60:])
        if cut[0] < self.cutout:
            picture = _cut_out(picture, cut[1:])
        return picture, None if mask is None else move(mask)

    def _upright(self) -> Augment:
        """The same without what reads between pixels."""
        still = {"rotate_degrees": 0.0, "shear_degrees": 0.0, "shift": 0.0, "elastic": 0.0}
        return replace(self, scale=(1.0, 1.0), **still)

    def _movement(
        self, matrix: np.ndarray, bend: np.ndarray, height: int, width: int
    ) -> Callable[[Pixels], Resized]:
        """Flip, turn, zoom, slant, shift and bend as one reading of a picture."""
        if self.elastic:
            lattice = (self.elastic * bend.reshape(5, 5, 2)).astype(np.float32)
            return partial(_remap, maps=_bent_maps(matrix, lattice, height, width))
        if (matrix != UNMOVED).any():
            return partial(_planewise, apply=partial(_warp, matrix=matrix, size=(width, height)))
        return np.asarray

    def _matrix(
        self, draws: Float[np.ndarray, "7"], height: int, width: int, quarters: int
    ) -> np.ndarray:
        """The map from places in the result to places in the picture, as 2 x 3."""
        left_right, top_bottom, turn, slant, across, down, zoom = draws.tolist()
        mirror_x = -1.0 if (left_right + 1) / 2 < self.flip_horizontal else 1.0
        mirror_y = -1.0 if (top_bottom + 1) / 2 < self.flip_vertical else 1.0
        angle = math.radians(self.rotate_degrees * turn + 90 * quarters)
        slope = math.tan(math.radians(self.shear_degrees * slant))
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        larger = math.exp(low + (high - low) * (zoom + 1) / 2)
        cos, sin = math.cos(angle) / larger, math.sin(angle) / larger
        a, b = cos * mirror_x, (cos * slope - sin) * mirror_y
        c, d = sin * mirror_x, (sin * slope + cos) * mirror_y
        x, y = (width - 1) / 2, (height - 1) / 2
        to_x = x + self.shift * across * width - (a * x + b * y)
        to_y = y + self.shift * down * height - (c * x + d * y)
        return np.array([[a, b, to_x], [c, d, to_y]])

    def _coloured(
        self, image: Pixels, tone: Float[np.ndarray, "3"], channels: Float[np.ndarray, " channel"]
    ) -> Pixels:
        """One line a channel, or a table where it is bent.

        Measured by the picture itself: about the middle of full scale, more contrast would black
        out a dim picture. Few operations on purpose: each hands the interpreter lock to another
        thread and back.
        """
        if not (self.brightness or self.contrast or self.colour or self.gamma):
            return image
        full = float(np.iinfo(image.dtype).max)
        mean, deviation = _light(image)
        steeper, strength = 1 + self.contrast * float(tone[0]), 1 + self.colour * channels
        lighter = self.brightness * float(tone[1]) * deviation
        slope, offset = strength * steeper, strength * (mean - steeper * mean + lighter)
        if self.gamma and image.dtype == np.uint8:
            level = full * (LEVELS / full) ** math.exp(self.gamma * float(tone[2]))
            table = np.clip(level * slope + offset + 0.5, 0, full).astype(np.uint8)
            return _through_table(image, table)
        lines = np.zeros((len(slope), len(slope) + 1))
        np.fill_diagonal(lines, slope)
        lines[:, -1] = offset
        return cv2.transform(image, lines).reshape(image.shape)


def _planewise(image: Pixels, apply: Callable[[np.ndarray], np.ndarray]) -> Resized:
    """Apply an OpenCV function in groups of at most four channels, which it handles exactly."""
    channels = image.shape[2]
    if channels in (1, 3, 4):
        out = apply(image)
        return out if out.ndim == 3 else out[:, :, None]
    size = 3 if channels > 3 else 1
    parts = []
    for start in range(0, channels, size):
        group = np.ascontiguousarray(image[:, :, start : start + size])
        parts += [group] if group.shape[2] in (1, 3) else np.split(group, group.shape[2], axis=2)
    done = [apply(np.ascontiguousarray(p)) for p in parts]
    return np.concatenate([d if d.ndim == 3 else d[:, :, None] for d in done], axis=2)


def _warp(planes: Pixels, matrix: Float[np.ndarray, "2 3"], size: tuple[int, int]) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return _as_four(
        planes,
        lambda p: cv2.warpAffine(p, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101),
    )


def _as_four(planes: Pixels, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Three channels as four, which OpenCV reads faster; the pixels are the same to the bit."""
    if planes.shape[2] != 3:
        return apply(planes)
    return cv2.cvtColor(apply(cv2.cvtColor(planes, cv2.COLOR_RGB2RGBA)), cv2.COLOR_RGBA2RGB)


def _bent_maps(
    matrix: Float[np.ndarray, "2 3"], bend: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """For every place of the result, where in the picture to look."""
    lattice = cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC)
    a = matrix.astype(np.float32)
    x = np.arange(width, dtype=np.float32)[None, :] + lattice[:, :, 0] * width
    y = np.arange(height, dtype=np.float32)[:, None] + lattice[:, :, 1] * height
    return a[0, 0] * x + a[0, 1] * y + a[0, 2], a[1, 0] * x + a[1, 1] * y + a[1, 2]


def _remap(image: Pixels, maps: tuple[np.ndarray, np.ndarray]) -> Resized:
    def look_up(planes: np.ndarray) -> np.ndarray:
        return cv2.remap(planes, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    return _planewise(image, lambda planes: _as_four(planes, look_up))


def _light(
    image: Pixels,
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
    """Mean and standard deviation of every channel; OpenCV takes four at a time."""
    groups = range(0, image.shape[2], 4)
    found = [cv2.meanStdDev(np.ascontiguousarray(image[:, :, k : k + 4])) for k in groups]
    mean, deviation = (np.concatenate(parts)[:, 0] for parts in zip(*found, strict=True))
    return mean, deviation


def _through_table(image: Pixels, table: Shaped[np.ndarray, "256 channel"]) -> Pixels:
    """Look every value up in the table of its channel."""
    if image.shape[2] in (1, 3, 4):
        return cv2.LUT(image, np.ascontiguousarray(table[None])).reshape(image.shape)
    planes = np.moveaxis(image, 2, 0)
    looked = [cv2.LUT(np.ascontiguousarray(p), table[:, c].copy()) for c, p in enumerate(planes)]
    return np.stack(looked, axis=2)


def _cut_out(image: Pixels, place: Float[np.ndarray, "2"]) -> Pixels:
    """One square in the mean colour, its corner a share of the room there is."""
    height, width = image.shape[:2]
    side = max(1, min(height, width) // 4)
    top, left = (place * (height - side + 1, width - side + 1)).astype(int).tolist()
    out = image.copy()
    out[top : top + side, left : left + side] = image.mean(axis=(0, 1)).astype(image.dtype)
    return out
