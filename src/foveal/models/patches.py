"""A picture as how strongly it answers to a dictionary of small patches, learned without labels.

Patches of the training pictures are brought to one contrast, whitened and clustered; a picture is
then described by the mean, the root mean square and the maximum of what every word of the
dictionary finds in it. One layer, learned in seconds.

Reference:
    Coates and Ng, Learning Feature Representations with K-means, 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from foveal.arrays import Pixels

FAINT = 8 / 255
"""Contrast, of full scale, under which a patch counts as noise."""

FLIPS = tuple(
    (slice(None, None, rows), slice(None, None, columns)) for rows in (1, -1) for columns in (1, -1)
)
"""A picture, its mirror images, and both at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchDictionary:
    """Learns a dictionary of patches, and describes pictures by it.

    Attributes:
        words: Of the dictionary; each counts twice, for a patch and for its negative.
        side: Of a patch, in pixels.
        stride: From one patch of a described picture to the next, in pixels.
        threshold: An answer must be stronger; in standard deviations of a whitened patch.
        patches: To learn from.
        rounds: Of clustering.
        whitening: Added to the variance of every direction, so that noise is not blown up.
        mirrored: Whether a picture and its mirror images, left to right and top to bottom, are to
            be one: their descriptions are averaged.
    """

    words: int = 256
    side: int = 6
    stride: int = 2
    threshold: float = 1.0
    patches: int = 60_000
    rounds: int = 10
    whitening: float = 0.1
    mirrored: bool = True

    def learn(
        self,
        pictures: Callable[[int], Pixels],
        rows: Sequence[int],
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """The dictionary of some pictures: `filters` (value x word) and `offset` (word)."""
        found = self._drawn(pictures, rows, rng)
        centre = found.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((found - centre).T))
        whiten = ((vectors / np.sqrt(np.maximum(values, 0) + self.whitening)) @ vectors.T).astype(
            np.float32
        )
        words = self._clustered((found - centre) @ whiten, rng)
        filters = whiten @ words.T
        return {"filters": filters, "offset": centre @ filters}

    def __call__(
        self, picture: Pixels, dictionary: Mapping[str, np.ndarray]
    ) -> Float[np.ndarray, " feature"]:
        """Describe a picture: 6 numbers a word, whose square roots are taken (Hellinger)."""
        flips = FLIPS if self.mirrored else FLIPS[:1]
        pooled = [self._pooled(picture[flip], dictionary) for flip in flips]
        return np.sqrt(np.mean(pooled, axis=0)).astype(np.float32)

    def _pooled(
        self, picture: Pixels, dictionary: Mapping[str, np.ndarray]
    ) -> Float[np.ndarray, " feature"]:
        """Mean, root mean square and maximum of the answers of every word and its negative."""
        answers = _even_contrast(_windows(picture, self.side, self.stride)) @ dictionary["filters"]
        answers -= dictionary["offset"]
        parts = []
        for sign in (1, -1):
            strong = np.maximum(sign * answers - self.threshold, 0)
            square = np.einsum("pw,pw->w", strong, strong) / len(strong)
            parts += [strong.mean(axis=0), np.sqrt(square), strong.max(axis=0)]
        return np.concatenate(parts)

    def _drawn(
        self, pictures: Callable[[int], Pixels], rows: Sequence[int], rng: np.random.Generator
    ) -> Float[np.ndarray, "patch value"]:
        """Patches from random places, as many from every picture."""
        each = max(1, self.patches // len(rows))
        drawn = []
        for row in rows:
            windows = _windows(pictures(row), self.side, 1)
            drawn.append(_even_contrast(windows[rng.integers(0, len(windows), each)]))
        return np.concatenate(drawn)

    def _clustered(
        self, patches: Float[np.ndarray, "patch value"], rng: np.random.Generator
    ) -> Float[np.ndarray, "word value"]:
        """Spherical k-means in which a patch and its negative are one."""
        picked = rng.choice(len(patches), self.words, replace=len(patches) < self.words)
        words = _unit(patches[picked])
        for _ in range(self.rounds):
            likeness = patches @ words.T
            nearest = np.abs(likeness).argmax(axis=1)
            weight = likeness[np.arange(len(patches)), nearest]
            order = np.argsort(nearest, kind="stable")
            present, starts = np.unique(nearest[order], return_index=True)
            sums = np.add.reduceat((patches * weight[:, None])[order], starts, axis=0)
            words = patches[rng.choice(len(patches), self.words)]  # a word that nobody chose ...
            words[present] = sums  # ... starts again at a patch
            words = _unit(words)
        return words


def _windows(picture: Pixels, side: int, stride: int) -> np.ndarray:
    """All patches of a picture, or views of them, as rows of values."""
    height, width = picture.shape[:2]
    if min(height, width) < side:
        grow = ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0))
        picture = np.pad(picture, grow, mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(picture, (side, side), axis=(0, 1))
    views = views[::stride, ::stride]
    return views.reshape(views.shape[0] * views.shape[1], -1)


def _even_contrast(patches: np.ndarray) -> Float[np.ndarray, "patch value"]:
    """Patches without their brightness, at one contrast."""
    unit = patches.astype(np.float32) / np.iinfo(patches.dtype).max
    unit -= unit.mean(axis=1, keepdims=True)
    square = np.einsum("pv,pv->p", unit, unit) / unit.shape[1]
    return unit / np.sqrt(square + FAINT**2)[:, None]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
