"""What members of a segmentation look at: stored volumes, windows of them, and where to learn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from foveal.digests import digest
from foveal.errors import DataError, StudyError, TargetError, UsageError
from foveal.lattice import cells, has_region, part_of, region_of
from foveal.manifest import Case, Window
from foveal.predictions import NO_FOLD, Predictions
from foveal.read.image import check_depth
from foveal.read.slices import Stack, find_slices, gap_of
from foveal.read.volume import Volume, load, store
from foveal.task import Resources
from foveal.train.cache import CACHE_FORMAT, alone

Plane = Float[np.ndarray, "_ _"]


@dataclass(frozen=True, slots=True)
class StoredVolumes:
    """Slices of volumes around their middle, as mapped files in a study's cache.

    Attributes:
        slices: How many; beyond the ends the edge slice is repeated.
        spare_bits: Of 16, that the study's volumes leave empty.
        bits: Of the study.
    """

    slices: int
    spare_bits: int = 0
    bits: int = 8

    def __call__(self, case: Case, resources: Resources) -> Volume:
        """The volume of a case, stored when it is first asked for.

        Raises:
            DataError: A slice or the region cannot be read, or they do not fit each other or the
                study.
            StudyError: The disk is full.
        """
        stack = self._stack(case, resources)
        first, path = self._first(stack.names), self._path(stack.names, resources)
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            volume = store(
                stack,
                path,
                slices=(first, first + self.slices),
                should_stop=resources.should_stop,
            )
        check_depth(volume.values.dtype, self.bits, case.paths[0])
        if has_region(case):
            region_of(case, *volume.plane)
        if doubts := self._doubts(stack, volume):
            resources.doubt(case, "; ".join(doubts))
        return replace(volume, spare_bits=self.spare_bits, bits=self.bits)

    def forget(self, case: Case, resources: Resources) -> None:
        """Give back what was stored of a case, if nobody asks for it again."""
        if resources.once:
            path = self._path(self._stack(case, resources).names, resources)
            for suffix in (".npy", ".json"):
                path.with_suffix(suffix).unlink(missing_ok=True)

    def _stack(self, case: Case, resources: Resources) -> Stack:
        """The slices of a case; those of a picture that is stored are not decoded again."""
        return find_slices(case.paths[0], lambda n: load(self._path(n, resources)) is not None)

    def _path(self, names: tuple[str, ...], resources: Resources) -> Path:
        """Where the slices are stored; a job of its own where it gives them back."""
        owner = f"{os.getpid()}-" if resources.once else ""
        name = digest(CACHE_FORMAT, names, self._first(names), self.slices)
        return resources.cache / f"volume-{owner}{name}.npy"

    def _first(self, names: tuple[str, ...]) -> int:
        """The first slice that is looked at; below 0 where there are too few."""
        return (len(names) - self.slices) // 2

    def _doubts(self, stack: Stack, volume: Volume) -> list[str]:
        """Why what is said of a volume may be wrong."""
        doubts = []
        if gap := gap_of(stack.names):
            doubts.append(f"slices seem to be missing: {gap}")
        if 2 * len(stack) <= self.slices:
            doubts.append(f"{len(stack)} slices where {self.slices} are looked at: edges repeated")
        if self.spare_bits and volume.values.dtype == np.uint8:
            doubts.append(
                f"8 bit, where the study has {16 - self.spare_bits} bits in 16: taken to be "
                f"brightened {2**self.spare_bits} times when it was made"
            )
        return doubts


def each_readable(
    stored: StoredVolumes,
    cases: Sequence[Case],
    rows: Int[np.ndarray, " row"],
    resources: Resources,
) -> Iterator[tuple[Case, Volume, float]]:
    """The cases whose volumes can be read, with them and the seconds that each took to be stored.

    Of the others it is told why not.

    Raises:
        StudyError: The disk is full or cannot be written, which is no fault of a case.
    """
    last: Case | None = None
    for case in (cases[row] for row in rows.tolist()):
        if last is not None and last.paths[0] != case.paths[0]:  # rows of one scan share it
            stored.forget(last, resources)
        started = time.monotonic()
        try:
            volume = stored(case, resources)
        except StudyError:
            raise
        except DataError as error:
            resources.left_out(case, str(error))
            continue
        last = case
        yield case, volume, time.monotonic() - started
    if last is not None:
        stored.forget(last, resources)


def window_of(case: Case, volume: Volume) -> Window:
    """The part of the plane that a unit stands for."""
    height, width = volume.plane
    return case.window or Window(top=0, left=0, height=height, width=width)


def learnable(
    cases: Sequence[Case],
    rows: Sequence[int],
    held: Sequence[int],
    volumes: Sequence[Volume],
    *,
    guard: int,
) -> list[Bool[np.ndarray, "_ _"]]:
    """Where a training may learn: for each row the pixels of its plane.

    Inside the unit and its region, and at a distance from the parts that the fold judges, at the
    same place in all volumes whose planes are as large: they may lie on top of each other.

    Args:
        cases: All units.
        rows: To learn from.
        held: That the fold judges.
        volumes: Of the rows.
        guard: That distance, in pixels.

    Raises:
        UsageError: The guard leaves nothing.
        TargetError: All regions are empty.
    """
    planes = _planes(cases)
    parts = [(cases[k].paths, w) for k in held if (w := cases[k].window) is not None]
    found = []
    for row, volume in zip(rows, volumes, strict=True):
        own, region = cases[row].window, region_of(cases[row], *volume.plane)
        judged = [w for paths, w in parts if planes[paths] == volume.plane]
        if own is None and not judged:
            found.append(region)
            continue
        allowed = np.zeros(volume.plane, dtype=bool)
        part_of(allowed, own)[...] = part_of(region, own)
        for w in judged:
            top, left = max(w.top - guard, 0), max(w.left - guard, 0)
            allowed[top : w.top + w.height + guard, left : w.left + w.width + guard] = False
        found.append(allowed)
    if not any(allowed.any() for allowed in found):
        names = [cases[row].id for row in rows]
        regions = [region_of(cases[row], *v.plane) for row, v in zip(rows, volumes, strict=True)]
        if not any(region.any() for region in regions):
            raise TargetError("a fold learns from volumes whose regions are all empty", names)
        raise UsageError(
            f"guard={guard} leaves nothing to learn from; cure: a smaller guard=, or fewer folds"
        )
    return found


def _planes(cases: Sequence[Case]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Height and width of the plane that parts are of, by the volume's files."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for case in cases:
        if case.window is not None:
            height, width = found.get(case.paths, (0, 0))
            bottom = case.window.top + case.window.height
            right = case.window.left + case.window.width
            found[case.paths] = (max(height, bottom), max(width, right))
    return found


def as_predictions(
    cases: Sequence[Case],
    planes: Sequence[Plane],
    *,
    seconds: Sequence[float],
    peak_bytes: float,
) -> Predictions:
    """One plane of scores a unit."""
    flat = [plane.reshape(-1) for plane in planes]
    values = np.concatenate(flat) if flat else np.zeros(0)
    return Predictions(
        ids=tuple(case.id for case in cases),
        values=values.astype(np.float32),
        shapes=tuple(plane.shape for plane in planes),
        columns=(),
        fold=np.full(len(cases), NO_FOLD),
        seconds=np.asarray(seconds, dtype=np.float64),
        peak_bytes=np.full(len(cases), float(peak_bytes)),
    )


def inside_region(plane: Plane, case: Case, volume: Volume, lattice: int) -> Plane:
    """Scores of a unit, 0 where no pixel of the region lies, never 0 elsewhere."""
    scores = np.clip(plane, np.float32(1e-6), 1)  # a score of 0 says "outside"
    if has_region(case):
        region = part_of(region_of(case, *volume.plane), window_of(case, volume))
        scores = np.where(cells(region, lattice) > 0, scores, 0)
    return scores.astype(np.float32)
