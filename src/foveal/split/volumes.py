"""Folds over volumes, or over parts of them where there are too few.

Volumes that share slices, or a group, are one. Where fewer remain than folds were asked for, and no
group was named, every volume is cut at the same lines into as many parts as folds, of equal region
area over all volumes, and a fold judges one part of each: volumes may lie on top of each other. The
lines are the same shares of every side, so that in volumes of one size the same place is never both
learned from and judged; of volumes of several sizes that lie on top of each other, it may be. What
is learned keeps a distance from what is judged, the guard of the member that learns::

    made = VolumeFolds(5, lattice=8, profile=region_profile)(manifest)
    made.units(manifest).case(0).window
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import SplitError
from foveal.manifest import Case, Manifest, Window
from foveal.metrics.interval import FEWEST
from foveal.split.folds import Folds
from foveal.split.record import NONE, Split, groups

Profile = Callable[[Case, int], Float[np.ndarray, " place"]]
"""From a case and an axis (0 rows, 1 columns) to the region's pixels at each place along it."""


@dataclass(frozen=True, slots=True)
class VolumeFolds:
    """Whole volumes where there are enough, else parts at the same place of all volumes.

    Attributes:
        folds: How many.
        lattice: Pixels a cell is wide; lines between parts fall between cells.
        profile: Where the region of a volume lies.
        seed: Which of equally good folds.
    """

    folds: int
    lattice: int
    profile: Profile
    seed: int = 0

    def __call__(self, manifest: Manifest) -> Split:
        """Assign every volume, or every part, to a fold.

        Raises:
            SplitError: The volumes are too narrow to be cut.
        """
        group, _ = groups(manifest)
        enough = int(group.max()) + 1 >= self.folds
        if enough or "group" in manifest.roles or "fold" in manifest.roles:
            return self._of_whole(manifest)
        return self._of_parts(manifest, int(group.max()) + 1)

    def _of_whole(self, manifest: Manifest) -> Split:
        alike = replace(manifest, target=np.full(manifest.target.shape, "volumes"))  # no classes
        made = Folds(self.folds, self.seed)(alike)
        notes = [*made.notes, "every fold is judged on volumes that it has not seen"]
        groups = len(np.unique(made.group[manifest.weight > 0]))
        if groups < FEWEST:
            notes.append(f"{groups} groups of volumes are too few to draw: intervals draw blocks")
        return replace(made, notes=tuple(notes))

    def _of_parts(self, manifest: Manifest, physical: int) -> Split:
        if self.folds < 2:
            raise SplitError(f"folds={self.folds}, but cross-validation needs at least 2")
        sizes = [_size(manifest, k) for k in range(len(manifest))]
        axis = int(np.sum([w for _, w in sizes]) > np.sum([h for h, _ in sizes]))
        lines = self._lines(manifest, sizes, axis)
        parts = [
            [_strip(size, axis, lines, part, self.lattice) for part in range(self.folds)]
            for size in sizes
        ]
        narrow = [
            f"{manifest.name(k)}: a side of {size[axis]} pixels"
            for k, (size, own) in enumerate(zip(sizes, parts, strict=True))
            if min(w.height for w in own) < 1 or min(w.width for w in own) < 1
        ]
        if narrow:
            raise SplitError(
                f"{len(narrow)} volumes cannot be cut into {self.folds} parts of whole cells of "
                f"{self.lattice} pixels; cure: fewer folds, a finer lattice, or a table without "
                "them",
                narrow,
            )
        windows = [window for own in parts for window in own]
        part = np.tile(np.arange(self.folds), len(manifest))
        note = (
            f"{physical} volume{'s' if physical > 1 else ''} for {self.folds} folds: each is cut "
            f"into {self.folds} parts along its {'columns' if axis else 'rows'}; parts of one "
            "volume are no unseen volumes"
        )
        return Split(
            fold=part,
            hidden=np.full(len(part), NONE),
            group=part,
            kind=np.full(len(part), "parts"),
            imbalance=0.0,
            notes=(note,),
            row=np.repeat(np.arange(len(manifest)), self.folds),
            window=tuple(windows),
        )

    def _lines(
        self, manifest: Manifest, sizes: Sequence[tuple[int, int]], axis: int
    ) -> Float[np.ndarray, " line"]:
        """Where parts end, as shares of the side, so that all hold the same region area."""
        grid = np.linspace(0, 1, 1025)
        total = np.zeros(len(grid))
        for k, size in enumerate(sizes):
            area = np.append(0.0, np.cumsum(self.profile(manifest.case(k), axis)))
            total += np.interp(grid * size[axis], np.arange(len(area)), area)
        if not total[-1] > 0:
            raise SplitError("the regions of all volumes are empty; cure: other region masks")
        wanted = np.arange(1, self.folds) / self.folds * total[-1]
        return np.interp(wanted, total, grid)


def _size(manifest: Manifest, row: int) -> tuple[int, int]:
    """Height and width of a volume's slices."""
    height, width = str(manifest.measured["image_size"][row]).split("x")
    return int(height), int(width)


def _strip(
    size: tuple[int, int], axis: int, lines: Float[np.ndarray, " line"], part: int, lattice: int
) -> Window:
    """One part of a plane, between two lines that fall between cells."""
    ends: Int[np.ndarray, " end"] = np.round(lines * size[axis] / lattice).astype(np.int64)
    ends = np.concatenate([[0], ends * lattice, [size[axis]]])
    start, stop = int(ends[part]), int(ends[part + 1])
    if axis == 0:
        return Window(top=start, left=0, height=stop - start, width=size[1])
    return Window(top=0, left=start, height=size[0], width=stop - start)
