"""A picture as its strongest keypoints, each described by the gradients around it.

Where a network from scratch needs thousands of pictures to learn what to look at, spots, scars,
stripes and edges of one individual are found again without learning, turned, scaled or partly
hidden.

Reference:
    Lowe, Distinctive Image Features from Scale-Invariant Keypoints, 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from foveal.arrays import Pixels

WIDTH = 128
"""Numbers that describe a keypoint."""

ENDS = (0.005, 0.995)
"""Quantiles of the grey picture that become black and white."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keypoints:
    """SIFT descriptors of a prepared picture.

    Attributes:
        count: Keypoints that are kept, the strongest; rows of zeros where a picture has fewer.
        contrast: Of the faintest blob that is one, of full scale.
        edge: How much longer than wide a blob may be.
    """

    count: int = 200
    contrast: float = 0.01
    edge: float = 20.0

    def __call__(self, image: Pixels) -> UInt8[np.ndarray, "keypoint 128"]:
        """Describe a picture."""
        sift = cv2.SIFT.create(
            nfeatures=self.count, contrastThreshold=self.contrast, edgeThreshold=self.edge
        )
        found, described = sift.detectAndCompute(_grey(image), None)  # pyright: ignore
        out = np.zeros((self.count, WIDTH), dtype=np.uint8)
        if found:
            order = np.lexsort(np.array([(*k.pt, k.angle, -k.response) for k in found]).T)[
                : self.count
            ]
            out[: len(order)] = described[order]
        return out


def rooted(described: Shaped[np.ndarray, "keypoint 128"]) -> Float[np.ndarray, "found 128"]:
    """Descriptors whose distances are Hellinger's, at length 1; rows of zeros are left out.

    Reference:
        Arandjelovic and Zisserman, Three Things Everyone Should Know to Improve Object Retrieval,
        2012.
    """
    total = described.sum(axis=1, dtype=np.float32)
    found = described[total > 0].astype(np.float32)
    return np.sqrt(found / total[total > 0, None])


def _grey(image: Pixels) -> UInt8[np.ndarray, "row column"]:
    """The mean of all channels, stretched to all levels of 8 bits."""
    grey = image.mean(axis=2, dtype=np.float32)
    low, high = np.quantile(grey, ENDS)
    unit = (grey - low) / max(float(high - low), 1e-6)
    return np.round(255 * np.clip(unit, 0, 1)).astype(np.uint8)
