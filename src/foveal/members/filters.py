"""The floor of a segmentation: filter responses of every cell into extremely random trees.

The slices are reduced to their mean, maximum and spread over depth; each is seen blurred, by its
slopes and by its ridges at several widths, and the responses are averaged over a cell. Planes are
seen band by band, so that memory does not grow with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.lattice import cells, part_of, read_mask
from foveal.manifest import Case, Window
from foveal.members.forest import forest, walk
from foveal.members.pictures import peak_bytes
from foveal.members.volumes import (
    StoredVolumes,
    as_predictions,
    each_readable,
    inside_region,
    learnable,
    window_of,
)
from foveal.predictions import Predictions
from foveal.read.volume import Volume
from foveal.task import Job, Resources, State
from foveal.train.seeds import seed_of

WIDTHS = (1.0, 2.0, 4.0, 8.0)
"""Of the filters, in pixels."""

HALO = 34
"""Pixels around a band that its filters look at: the widest blur, and two slopes of it."""

BAND = 1 << 20
"""Most pixels of a band."""

FEW_SLICES = 3
"""Slices up to which each is looked at by itself, as the colours of a picture must be."""

PROBE = 256
"""Rows and columns of the band that says how long all of them take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterTrees:
    """Filter responses and trees.

    Attributes:
        lattice: Pixels a cell is wide.
        slices: Around the middle that are looked at.
        name: Of the member.
        trees: Of the forest.
        samples: Most cells that it learns from.
        position: Whether it is told where in its plane a cell lies, as shares of both sides.
        guard: Pixels that learning keeps away from parts that the fold judges.
        spare_bits: Of 16, that the study's volumes leave empty.
        bits: Of the study.
        pixels: Of a slice of every volume, about; for estimates alone.
    """

    kind: ClassVar[str] = "classical"
    device: ClassVar[str] = "cpu"

    lattice: int
    slices: int
    name: str = "floor"
    trees: int = 50
    samples: int = 60_000
    position: bool = False
    guard: int = 0
    spare_bits: int = 0
    bits: int = 8
    pixels: int = field(default=0, metadata={"digest": False})

    def fit(self, job: Job) -> State:
        """Learn from cells of the training rows, drawn evenly."""
        learned = job.counted.tolist()
        volumes = [self._volumes(job.cases[k], job.resources) for k in learned]
        allowed = learnable(job.cases, learned, job.held.tolist(), volumes, guard=self.guard)
        rng = np.random.default_rng(job.key)
        share = self.samples / max(sum(float(a.sum()) for a in allowed) / self.lattice**2, 1)
        x, y, w = [], [], []
        for k, volume, where in zip(learned, volumes, allowed, strict=True):
            window = window_of(job.cases[k], volume)
            true = part_of(read_mask(str(job.target[k]), volume.plane) & where, window)
            area = cells(part_of(where, window), self.lattice)
            drawn = (area > 0) & (rng.random(area.shape) < share)
            bands = self._bands(volume, window, job.resources)
            x += [table[drawn[rows]] for rows, table in bands]
            y.append((cells(true, self.lattice) / np.maximum(area, 1))[drawn])
            w.append(job.weight[k] * area[drawn])
        nodes = forest(
            np.concatenate(x),
            np.concatenate(y)[:, None],
            np.concatenate(w),
            trees=self.trees,
            seed=seed_of(job.key),
        )
        job.report({"done": 1.0})
        return State(nodes)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states; an unreadable case is left out."""
        kept: list[Case] = []
        planes: list[list[np.ndarray]] = [[] for _ in states]
        seconds: list[float] = []
        for case, volume, reading in each_readable(self._volumes, cases, rows, resources):
            started = time.monotonic()
            said: list[list[np.ndarray]] = [[] for _ in states]
            window = window_of(case, volume)
            for at, table in self._bands(volume, window, resources):
                share = at.start * self.lattice / window.height
                resources.scored((len(kept) + share) / len(rows))
                for state, into in zip(states, said, strict=True):
                    found = walk(state.tensors, table.reshape(-1, table.shape[2]))[:, 0]
                    into.append(found.reshape(table.shape[:2]).astype(np.float32))
            for bands, into in zip(said, planes, strict=True):
                into.append(inside_region(np.concatenate(bands), case, volume, self.lattice))
            kept.append(case)
            seconds.append((time.monotonic() - started + reading) / max(len(states), 1))
        peak = peak_bytes(resources.device)
        return [as_predictions(kept, p, seconds=seconds, peak_bytes=peak) for p in planes]

    def check(self) -> None:
        """Any lattice and any number of trees can be built."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training and its answers take: every pixel is looked at once."""
        probe = np.zeros((self.slices, PROBE + 2 * HALO, PROBE + 2 * HALO), dtype=np.uint8)
        started = time.perf_counter()
        self._responses(probe)
        return 5.0 + cases + (time.perf_counter() - started) * self.pixels / PROBE**2

    @property
    def _volumes(self) -> StoredVolumes:
        return StoredVolumes(self.slices, self.spare_bits, self.bits)

    def _bands(
        self, volume: Volume, window: Window, resources: Resources
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Bands of a window: which rows of cells, and the responses "row column feature" there."""
        step = max(1, BAND // (window.width + 2 * HALO) // self.lattice) * self.lattice
        for top in range(window.top, window.top + window.height, step):
            resources.ask()
            height = min(step, window.top + window.height - top)
            around = Window(
                top=top - HALO,
                left=window.left - HALO,
                height=height + 2 * HALO,
                width=window.width + 2 * HALO,
            )
            table = self._responses(np.moveaxis(volume(around), 2, 0))
            if self.position:
                table = self._placed(table, top, window.left, volume.plane)
            first = (top - window.top) // self.lattice
            yield slice(first, first + len(table)), table

    def _placed(
        self, table: Float[np.ndarray, "_ _ _"], top: int, left: int, plane: tuple[int, int]
    ) -> Float[np.ndarray, "_ _ _"]:
        """The same and where each cell lies, from 0 to 1 down and across."""
        down, across = (
            (first + (np.arange(count, dtype=np.float32) + 0.5) * self.lattice) / length
            for first, count, length in zip((top, left), table.shape, plane, strict=False)
        )
        places = np.stack(np.meshgrid(down, across, indexing="ij"), axis=2)
        return np.concatenate([table, places], axis=2)

    def _responses(
        self, slices: Shaped[np.ndarray, "slice height width"]
    ) -> Float[np.ndarray, "_ _ _"]:
        """Of one band without its halo, averaged over cells."""
        stack = slices.astype(np.float32) / float(np.iinfo(slices.dtype).max)
        inner = (slice(HALO, -HALO), slice(HALO, -HALO))
        area = cells(np.ones(stack[0][inner].shape, dtype=np.float32), self.lattice)
        seen = [stack.mean(axis=0)]
        if 1 < len(stack) <= FEW_SLICES:
            seen += [*stack, stack.max(axis=0)]
        elif len(stack) > FEW_SLICES:
            seen += [stack.max(axis=0), stack.std(axis=0)]
        answers = [
            cells(response[inner], self.lattice) / area
            for plane in seen
            for response in _filtered(plane)
        ]
        return np.stack(answers, axis=2)


def _filtered(plane: Float[np.ndarray, "height width"]) -> list[Float[np.ndarray, "height width"]]:
    """The plane blurred, its slope, and its two curvatures, at every width."""
    found = [plane]
    for width in WIDTHS:
        blurred = cv2.GaussianBlur(plane, (0, 0), width, borderType=cv2.BORDER_REFLECT_101)
        dy, dx = np.gradient(blurred)
        (dyy, dyx), dxx = np.gradient(dy), np.gradient(dx, axis=1)
        middle, apart = (dyy + dxx) / 2, np.sqrt(((dyy - dxx) / 2) ** 2 + dyx**2)
        found += [blurred, np.hypot(dx, dy), middle + apart, middle - apart]
    return found
