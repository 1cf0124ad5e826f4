"""Slow random changes over a plane: light, pigment, paths, and where what grows."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float


def clouds(
    rng: np.random.Generator, shape: tuple[int, ...], cells: int | tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Smooth random values around 0.

    Args:
        rng: Of all draws.
        shape: Rows and columns of the plane.
        cells: Ups and downs along the rows and the columns; one number for the shorter side, and
            as many for as long a piece of the other.
    """
    if isinstance(cells, int):
        cells = round(shape[0] * cells / min(shape)), round(shape[1] * cells / min(shape))
    coarse = rng.normal(0, 1, cells).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
