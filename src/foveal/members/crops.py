"""What a segmentation network learns from: crops of volumes, varied, with their cells' targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foveal.errors import UsageError
from foveal.lattice import cells
from foveal.manifest import Window
from foveal.members.training import SAMPLER_STREAM, Training
from foveal.models.volumetric import Volumetric
from foveal.read.volume import Volume
from foveal.train.batches import filled
from foveal.transforms.augment import Augment

PAIR_STREAM = 1 << 22
"""Keeps the randomness of the shift test apart from that of an epoch's draws."""


@dataclass(frozen=True, kw_only=True)
class Crops:
    """The training crops of any epoch, drawn from where may be learned.

    Attributes:
        volumes: Of the units.
        masks: What is foreground in each.
        allowed: Where may be learned in each.
        weight: How much each counts.
        network: That learns; says which slices are looked at, and on which lattice.
        training: Says how large a crop is and how it is varied.
        z_shift: Most slices by which a crop is moved in depth, either way.
        shuffle: Share of crops whose slices are shuffled inside their groups, all groups alike.
        foreground: Share of crops that are drawn around foreground; the others are drawn evenly.
        number: Crops of an epoch.
        key: Of the randomness.
        threads: That make crops; changes no pixel.
    """

    volumes: Sequence[Volume]
    masks: Sequence[Bool[np.ndarray, "_ _"]]
    allowed: Sequence[Bool[np.ndarray, "_ _"]]
    weight: Float[np.ndarray, " row"]
    network: Volumetric
    training: Training
    z_shift: int
    shuffle: float
    foreground: float
    number: int
    key: tuple[int, ...]
    threads: int = 1

    @cached_property
    def everywhere(self) -> _Places:
        """Where may be learned."""
        found = _Places.of([(allowed,) for allowed in self.allowed], self.weight)
        if not found.any:
            raise UsageError(
                "all that may be learned from has a weight of 0; cure: other weights, or folds"
            )
        return found

    @cached_property
    def marked(self) -> _Places:
        """Where may be learned and is foreground."""
        return _Places.of(list(zip(self.masks, self.allowed, strict=True)), self.weight)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, round(self.number / self.training.batch))

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Crops and target planes of the steps from `first` on."""
        height, width = self.training.size
        lattice, sizes = self.network.lattice, [self.training.batch] * self.steps
        forms = [
            ((self.network.slices, height, width), self.volumes[0].dtype),
            ((2, -(-height // lattice), -(-width // lattice)), np.dtype(np.float32)),
        ]
        _ = self.everywhere, self.marked  # worked out once, before threads ask for them

        def fill(place: int, image: np.ndarray, target: np.ndarray) -> None:
            rng = np.random.default_rng((*self.key, epoch, SAMPLER_STREAM + place))
            image[...], target[...] = self._crop(rng)

        yield from map(_as_tensors, filled(fill, sizes, forms, threads=self.threads, first=first))

    def pairs(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Crops "slice height width" as they are, and the same with as much again around them."""
        depth = slice(self.z_shift, self.z_shift + self.network.slices)
        for k in range(number):
            unit, (row, column) = self._drawn(np.random.default_rng((*self.key, PAIR_STREAM + k)))
            height, width = self.training.size
            crops = [
                self.volumes[unit](around(row, column, many * height, many * width))[:, :, depth]
                for many in (1, 3)
            ]
            yield np.moveaxis(crops[0], 2, 0), np.moveaxis(crops[1], 2, 0)

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One crop "slice height width" and its target "2 row column"."""
        lattice = self.network.lattice
        unit, middle = self._drawn(rng)
        augment, (height, width) = self.training.augment, self.training.size
        assert isinstance(augment, Augment)  # the only one that moves masks too
        margin = augment.margin(max(height, width))
        window = around(*middle, height + 2 * margin, width + 2 * margin)
        shift = int(rng.integers(0, 2 * self.z_shift + 1))
        slices = self.volumes[unit](window)[:, :, shift : shift + self.network.slices]
        planes = (self.masks[unit], self.allowed[unit])
        flat = np.concatenate([Volume(p.view(np.uint8)[:, :, None])(window) for p in planes], 2)
        picture, moved = augment.with_mask(
            np.ascontiguousarray(slices), flat * np.uint8(255), rng, margin=margin
        )
        if rng.random() < self.shuffle:
            picture = self._shuffled(picture, rng)
        mask, area = (moved[:, :, k].astype(np.float32) / 255 for k in (0, 1))
        target = np.stack([cells(mask * area, lattice), cells(area, lattice)]) / lattice**2
        return np.ascontiguousarray(np.moveaxis(picture, 2, 0)), target.astype(np.float32)

    def _drawn(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """A unit and a pixel of it that may be learned from."""
        marked = rng.random() < self.foreground
        return (self.marked if marked and self.marked.any else self.everywhere).draw(rng)

    def _shuffled(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Slices in another order inside their groups, all groups alike."""
        groups, channels = self.network.groups, self.network.channels
        order = (np.arange(groups)[:, None] * channels + rng.permutation(channels)).reshape(-1)
        return picture[:, :, order]


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Pixels that are true in all planes of a unit, each drawn alike.

    Attributes:
        planes: Of every unit.
        rows: How many such pixels there are up to every row, of each unit.
        share: Of the draws that each unit gets.
    """

    planes: Sequence[tuple[Bool[np.ndarray, "_ _"], ...]]
    rows: Sequence[Int[np.ndarray, "_"]]
    share: Float[np.ndarray, " unit"]

    @staticmethod
    def of(
        planes: Sequence[tuple[Bool[np.ndarray, "_ _"], ...]], weight: Float[np.ndarray, " unit"]
    ) -> _Places:
        """The pixels of some units, those of a unit as often as its weight says."""
        rows = [np.cumsum(np.logical_and.reduce(p).sum(axis=1)) for p in planes]
        areas = np.array([float(r[-1]) for r in rows]) * weight
        return _Places(planes=planes, rows=rows, share=areas / max(areas.sum(), 1e-12))

    @property
    def any(self) -> bool:
        """Whether there is any pixel."""
        return bool(self.share.any())

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """A unit and a pixel of it."""
        unit = int(rng.choice(len(self.share), p=self.share))
        rows = self.rows[unit]
        row = int(np.searchsorted(rows, rng.random() * rows[-1], side="right"))
        columns = np.flatnonzero(np.logical_and.reduce([p[row] for p in self.planes[unit]]))
        return unit, (row, int(columns[int(rng.random() * len(columns))]))


def _as_tensors(arrays: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
    images, targets = (torch.from_numpy(array) for array in arrays)
    return images, targets


def around(row: int, column: int, height: int, width: int) -> Window:
    """A window with a pixel in its middle."""
    return Window(top=row - height // 2, left=column - width // 2, height=height, width=width)
