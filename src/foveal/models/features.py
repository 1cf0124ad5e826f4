"""A picture as a few hundred numbers, without a network.

Histograms of channels and of colour, local binary patterns, gradient and texture statistics of
every channel, how channels go together, and a thumbnail: what was state of the art before networks,
and on a few hundred pictures still hard to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from foveal.arrays import Pixels

SCALES = (1.0, 2.0, 4.0, 8.0)
"""Of edges and blobs, in pixels."""


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """Numbers that describe one prepared picture.

    Attributes:
        bins: Of every histogram.
        thumbnail: Side of the thumbnail, in pixels; 0 for none.
        grid: The picture is cut into grid x grid parts for local statistics.
    """

    bins: int = 16
    thumbnail: int = 8
    grid: int = 3

    def __call__(self, image: Pixels) -> Float[np.ndarray, " feature"]:
        """Describe a picture; always as many numbers for as many channels."""
        unit = image.astype(np.float32) / np.iinfo(image.dtype).max
        channels = [np.ascontiguousarray(unit[:, :, c]) for c in range(unit.shape[2])]
        planes = [unit.mean(axis=2), *channels] if len(channels) > 1 else channels
        scales = {
            sigma: np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes], axis=2)
            for sigma in (*SCALES, 2 * SCALES[-1])
        }
        blurred = {sigma: every[:, :, -len(channels) :] for sigma, every in scales.items()}
        details = [blurred[sigma] - blurred[2 * sigma] for sigma in SCALES]
        parts = [self._histograms(unit)]
        for k, plane in enumerate(planes):
            parts.append(self._patterns(plane))
            parts.append(self._gradients([scales[sigma][:, :, k] for sigma in SCALES]))
            parts.append(self._texture(plane))
        if len(channels) > 1:
            parts.append(self._histograms((_tint(unit) + 1) / 2))
            parts.append(self._blobs([_tint(detail) for detail in details]))
        parts += [
            self._blobs(details),
            *map(self._agreement, (unit, blurred[2.0], blurred[8.0], *details)),
            self._local(unit),
            self._small(unit),
        ]
        return np.concatenate(parts).astype(np.float32)

    def _histograms(self, unit: np.ndarray) -> np.ndarray:
        """Share of every level a channel, the ends of the distribution, and its moments."""
        out = []
        for c in range(unit.shape[2]):
            plane = unit[:, :, c]
            counts = cv2.calcHist(
                [np.ascontiguousarray(plane)], [0], None, [self.bins], [0, 1.0001]
            )
            centred = plane - plane.mean()
            spread = max(float(plane.std()), 1e-6)
            moments = [plane.mean(), spread, (centred**3).mean() / spread**3]
            ends = np.quantile(plane, [0.005, 0.02, 0.1, 0.5, 0.9, 0.98, 0.995])
            out += [counts.reshape(-1) / plane.size, moments, ends]
        return np.concatenate(out)

    def _patterns(self, grey: np.ndarray) -> np.ndarray:
        """Uniform local binary patterns at two radii."""
        from skimage.feature import local_binary_pattern

        levels = (grey * 255).astype(np.uint8)
        out = []
        for points, radius in ((8, 1), (16, 3)):
            codes = local_binary_pattern(levels, points, radius, method="uniform").astype(np.int64)
            out.append(np.bincount(codes.reshape(-1), minlength=points + 2) / codes.size)
        return np.concatenate(out)

    def _gradients(self, scales: Sequence[np.ndarray]) -> np.ndarray:
        """Directions of edges, weighted by strength, and strength at every scale."""
        out = []
        for smooth in map(np.ascontiguousarray, scales):
            dx, dy = cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)
            strength, angle = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi
            place = np.minimum((angle / np.pi * 8).astype(np.int64), 7)
            directions = np.bincount(place.reshape(-1), strength.reshape(-1), minlength=8)
            out += [directions / max(float(strength.sum()), 1e-6)]
            out += [[strength.mean(), strength.std()], np.quantile(strength, [0.5, 0.9, 0.99])]
        return np.concatenate(out)

    def _texture(self, grey: np.ndarray) -> np.ndarray:
        """Contrast, homogeneity, energy and correlation of neighbouring levels."""
        from skimage.feature import graycomatrix, graycoprops

        levels = np.minimum(grey * 16, 15).astype(np.uint8)
        pairs = graycomatrix(
            levels, [1, 3, 8], [0, np.pi / 2], levels=16, symmetric=True, normed=True
        )
        names = ("contrast", "homogeneity", "energy", "correlation")
        return np.concatenate([graycoprops(pairs, name).mean(axis=1) for name in names])

    def _blobs(self, details: Sequence[np.ndarray]) -> np.ndarray:
        """How much is brighter or darker than its surroundings, a channel and size."""
        out = []
        for c in range(details[0].shape[2]):
            for detail in (every[:, :, c] for every in details):
                ends = np.quantile(detail, [0.001, 0.01, 0.05, 0.95, 0.99, 0.999])
                out += [ends, [detail.std()]]
        return np.concatenate(out)

    def _agreement(self, unit: np.ndarray) -> np.ndarray:
        """How every two channels go together: the correlation of their values over all places."""
        places = unit.reshape(-1, unit.shape[2]) - unit.mean(axis=(0, 1))
        length = np.linalg.norm(places, axis=0) + 1e-6
        return (places.T @ places / length[:, None] / length)[np.triu_indices(unit.shape[2], 1)]

    def _local(self, unit: np.ndarray) -> np.ndarray:
        """Mean and spread of every part of the picture, and how the parts differ."""
        rows = np.array_split(np.arange(unit.shape[0]), self.grid)
        columns = np.array_split(np.arange(unit.shape[1]), self.grid)
        cells = [unit[np.ix_(r, c)] for r in rows for c in columns]
        table = np.stack([np.concatenate([x.mean((0, 1)), x.std((0, 1))]) for x in cells])
        if len(table) == 1:
            return table[0]  # nothing to be put in order, nor to differ
        return np.concatenate([table.reshape(-1), np.sort(table, axis=0).reshape(-1), table.std(0)])

    def _small(self, unit: np.ndarray) -> np.ndarray:
        if not self.thumbnail:
            return np.zeros(0, dtype=np.float32)
        side = (self.thumbnail, self.thumbnail)
        planes = [
            cv2.resize(np.ascontiguousarray(unit[:, :, c]), side, interpolation=cv2.INTER_AREA)
            for c in range(unit.shape[2])
        ]
        return np.stack(planes).reshape(-1)


def _tint(unit: np.ndarray) -> np.ndarray:
    """How far every channel is from the mean of all: colour without light."""
    return unit - unit.mean(axis=2, keepdims=True)


@dataclass(frozen=True, slots=True)
class TileFeatures:
    """Numbers that describe the tiles of a slide together: mean, spread and ends of each.

    Attributes:
        side: Of a tile, in pixels; tiles lie one under the other.
        of_tile: Describes a single one.
    """

    side: int
    of_tile: PictureFeatures = PictureFeatures(thumbnail=0, grid=1)

    def __call__(self, tall: Pixels) -> Float[np.ndarray, " feature"]:
        """Describe the tiles that are not bare glass; all of them where all are."""
        tiles = tall.reshape(-1, self.side, self.side, tall.shape[2])
        shown = tiles[tiles.min(axis=(1, 2, 3)) < np.iinfo(tall.dtype).max]
        found = np.stack([self.of_tile(tile) for tile in (shown if len(shown) else tiles)])
        parts = [found.mean(axis=0), found.std(axis=0), *np.quantile(found, ENDS, axis=0)]
        return np.concatenate(parts).astype(np.float32)


ENDS = (0.05, 0.2, 0.8, 0.95)
"""Shares of the tiles that have less of what a slide is graded by: the best and the worst spots."""


@dataclass(frozen=True, slots=True)
class TissueFeatures:
    """How much tissue there is, and how dense: numbers that tiles of one size do not tell."""

    def __call__(
        self, amount: Float[np.ndarray, "row column"], pixels: float
    ) -> Float[np.ndarray, " feature"]:
        """Describe a map of tissue, 0 to 1, that stands for so many pixels."""
        shown = amount[amount > 0] if amount.any() else np.zeros(1, dtype=np.float32)
        share = (amount > 0).mean()
        area = np.log1p(share * pixels)
        numbers = [share, amount.mean(), shown.mean(), shown.std(), area]
        return np.array(numbers, dtype=np.float32)
