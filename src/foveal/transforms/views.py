"""Test-time views: a batch seen another way, and how to bring its scores back.

For one number a case the way back is the identity; a mask must be turned back with its picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


def identity(batch: Tensor) -> Tensor:
    """The batch itself."""
    return batch


def flip_horizontal(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return images.flip(-1)


def flip_vertical(images: Tensor) -> Tensor:
    """Top and bottom exchanged."""
    return images.flip(-2)


@dataclass(frozen=True, slots=True)
class Turned:
    """Turned by a quarter so many times, and mirrored before.

    Attributes:
        quarters: Times, against the clock.
        mirrored: Whether left and right are exchanged first.
    """

    quarters: int
    mirrored: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Every picture turned; one that is no square lies down or stands up."""
        return (images.flip(-1) if self.mirrored else images).rot90(self.quarters, (-2, -1))


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a batch.

    Attributes:
        forward: From images to images.
        inverse: From the scores of those images to scores of the original ones.
    """

    forward: Callable[[Tensor], Tensor] = identity
    inverse: Callable[[Tensor], Tensor] = identity


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of the picture, enlarged to its size.

    Attributes:
        top: Place of the window, 0 the uppermost, 1 the lowest.
        left: Place of the window, 0 the leftmost, 1 the rightmost.
        share: Side of the window over the side of the picture.
        mirrored: Whether left and right are exchanged too.
    """

    top: float = 0.5
    left: float = 0.5
    share: float = 0.875
    mirrored: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """The window of every picture."""
        rows, columns = images.shape[-2:]
        height, width = round(rows * self.share), round(columns * self.share)
        top, left = round((rows - height) * self.top), round((columns - width) * self.left)
        window = images[..., top : top + height, left : left + width]
        window = F.interpolate(window, (rows, columns), mode="bilinear", align_corners=False)
        return window.flip(-1) if self.mirrored else window


centre = (View(),)
"""The picture as it is."""

flips = (View(), View(forward=flip_horizontal, inverse=identity))
"""The picture and its mirror image, for scores that have no place."""

ten_crop = tuple(
    View(forward=Crop(top, left, mirrored=mirrored))
    for mirrored in (False, True)
    for top, left in ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
)
"""Centre and corners, each with its mirror image; corners of round pictures are mostly empty."""

eight = tuple(
    View(forward=Turned(quarters, mirrored)) for mirrored in (False, True) for quarters in range(4)
)
"""All quarter turns, and those of the mirror image, for pictures that have no up and down."""
