"""One batch: cases blended with each other, their targets with them.

Targets are distributions over grades, classes or labels, so a blend of two is a target too and no
loss has to know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "case channel height width"]
Targets = Float[Tensor, "case ..."]


@dataclass(frozen=True, slots=True)
class Mixup:
    """Every case fades into another one of the batch.

    Attributes:
        alpha: Shape of the Beta(alpha, alpha) that gives the share; small stays near 0 and 1.
        probability: Share of batches that are mixed.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018.
    """

    alpha: float = 0.4
    probability: float = 1.0

    def __call__(
        self, images: Images, target: Targets, rng: np.random.Generator
    ) -> tuple[Images, Targets]:
        """The mixed batch."""
        use, share, partner = rng.random(), rng.beta(self.alpha, self.alpha), _partners(images, rng)
        if use >= self.probability:
            return images, target
        return torch.lerp(images[partner], images, share), torch.lerp(
            target[partner], target, share
        )


@dataclass(frozen=True, slots=True)
class Cutmix:
    """Every case shows a rectangle of another one, and owes that share of its target to it.

    Reference:
        Yun et al., CutMix, 2019.
    """

    alpha: float = 1.0
    probability: float = 0.5

    def __call__(
        self, images: Images, target: Targets, rng: np.random.Generator
    ) -> tuple[Images, Targets]:
        """The mixed batch."""
        use, share, partner = rng.random(), rng.beta(self.alpha, self.alpha), _partners(images, rng)
        rows, columns = images.shape[-2:]
        side = np.sqrt(1 - share)
        y, x = rng.uniform(0, rows), rng.uniform(0, columns)
        top, bottom = np.clip([y - side * rows / 2, y + side * rows / 2], 0, rows).astype(int)
        left, right = np.clip([x - side * columns / 2, x + side * columns / 2], 0, columns).astype(
            int
        )
        if use >= self.probability:
            return images, target
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (rows * columns)
        return mixed, torch.lerp(target[partner], target, float(kept))


@dataclass(frozen=True, slots=True)
class CellCutmix:
    """Every case shows a rectangle of another one, mask and all, cut between cells of the lattice.

    Attributes:
        probability: Share of batches that are mixed.
    """

    probability: float = 0.5

    def __call__(
        self,
        images: Images,
        target: Float[Tensor, "case part row column"],
        rng: np.random.Generator,
    ) -> tuple[Images, Float[Tensor, "case part row column"]]:
        """The mixed batch."""
        use, share, partner = rng.random(), rng.random(), _partners(images, rng)
        cells = np.array(target.shape[-2:])
        size = np.maximum(np.round(np.sqrt(share) * cells), 1).astype(int)
        start = rng.integers(0, cells - size + 1)
        if use >= self.probability:
            return images, target
        pixels = images.shape[-1] // target.shape[-1]
        mixed = (images.clone(), target.clone())
        for made, given, wide in zip(mixed, (images, target), (pixels, 1), strict=True):
            (top, left), (bottom, right) = start * wide, (start + size) * wide
            made[..., top:bottom, left:right] = given[partner][..., top:bottom, left:right]
        return mixed


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Ways to mix, each asked in turn until one of them mixes the batch."""

    ways: tuple[Mixup | Cutmix | CellCutmix, ...]

    def __call__(
        self, images: Images, target: Targets, rng: np.random.Generator
    ) -> tuple[Images, Targets]:
        """The batch, mixed at most once."""
        for way in self.ways:
            mixed, owed = way(images, target, rng)
            if mixed is not images:
                return mixed, owed
        return images, target


def _partners(images: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.as_tensor(rng.permutation(len(images)), device=images.device)
