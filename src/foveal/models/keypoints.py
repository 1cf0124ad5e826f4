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
from jaxtyping import Float, UInt8

from foveal.arrays import Pixels

WIDTH = 128
"""Numbers that describe a keypoint."""

ENDS = (0.005, 0.995)
"""Quantiles of the grey picture that become black and white."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keypoints:
    """SIFT descriptors of a prepared picture, and where they lie.

    Attributes:
        count: Keypoints that are kept, the strongest; rows of zeros where a picture has fewer.
        upright: Whether all are described as the picture stands, which tells more where pictures
            are not turned; else each along its own direction.
        contrast: Of the faintest blob that is one, of full scale.
        edge: How much longer than wide a blob may be.
    """

    count: int = 200
    upright: bool = True
    contrast: float = 0.003
    edge: float = 100.0

    def __call__(self, image: Pixels) -> UInt8[np.ndarray, "keypoint 130"]:
        """Describe a picture: 128 numbers a keypoint, column and row as shares of 255."""
        sift = cv2.SIFT.create(contrastThreshold=self.contrast, edgeThreshold=self.edge)
        grey = _grey(image)
        found = list(sift.detect(grey, None))  # pyright: ignore
        if self.upright:
            found = [cv2.KeyPoint(k.pt[0], k.pt[1], k.size, 0, k.response, k.octave) for k in found]
        order = {(-k.response, *k.pt, k.size, k.angle): k for k in found}  # each once
        kept = [order[place] for place in sorted(order)[: self.count]]
        out = np.zeros((self.count, WIDTH + 2), dtype=np.uint8)
        if kept:
            kept, described = sift.compute(grey, kept)  # pyright: ignore
            height, width = grey.shape
            places = np.array([k.pt for k in kept]) / (width, height)
            out[: len(kept), :WIDTH] = described
            out[: len(kept), WIDTH:] = np.round(255 * np.clip(places, 0, 1))
        return out


def rooted(
    described: UInt8[np.ndarray, "keypoint 130"],
) -> tuple[Float[np.ndarray, "found 128"], Float[np.ndarray, "found 2"]]:
    """Descriptors whose distances are Hellinger's, at length 1, and places; empty rows left out.

    Reference:
        Arandjelovic and Zisserman, Three Things Everyone Should Know to Improve Object Retrieval,
        2012.
    """
    total = described[:, :WIDTH].sum(axis=1, dtype=np.float32)
    found = described[total > 0].astype(np.float32)
    return np.sqrt(found[:, :WIDTH] / total[total > 0, None]), found[:, WIDTH:] / 255


def waves(most: int) -> Float[np.ndarray, "128 wave"]:
    """Descriptors as waves over their 4 x 4 places and 8 directions, the slow ones alone.

    Neighbouring places and directions differ little, so that few waves hold nearly all of what
    descriptors differ by, of any pictures: there is nothing to learn.

    Args:
        most: Half periods of a wave along rows and columns, and periods around the directions, all
            added up.

    Example:
        >>> waves(0).shape, waves(5).shape, waves(10).shape
        ((128, 1), (128, 76), (128, 128))
    """
    place, turn = np.arange(4), 2 * np.pi * np.arange(8) / 8
    along = [np.cos(np.pi * k * (place + 0.5) / 4) for k in range(4)]
    around = [f(k * turn) for k in range(5) for f in (np.cos, np.sin)]
    kinds = [(k // 2, wave) for k, wave in enumerate(around) if wave.any(where=np.abs(wave) > 1e-9)]
    found = [
        np.einsum("r,c,d->rcd", along[i], along[j], wave).reshape(-1)
        for i in range(4)
        for j in range(4)
        for k, wave in kinds
        if i + j + k <= most
    ]
    table = np.stack(found, axis=1)
    return (table / np.linalg.norm(table, axis=0)).astype(np.float32)


def _grey(image: Pixels) -> UInt8[np.ndarray, "row column"]:
    """The mean of all channels, stretched to all levels of 8 bits."""
    grey = image.mean(axis=2, dtype=np.float32)
    low, high = np.quantile(grey, ENDS)
    unit = (grey - low) / max(float(high - low), 1e-6)
    return np.round(255 * np.clip(unit, 0, 1)).astype(np.uint8)
