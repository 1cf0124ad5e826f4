"""The answer of a segmentation: a folder of masks as large as the slices, and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped

from foveal.errors import UnreadableImage
from foveal.files import csv_text, write_bytes, write_text
from foveal.lattice import enlarged, has_region, region_of
from foveal.manifest import Case, Truth
from foveal.metrics.overlap import CellFBeta
from foveal.predictions import Predictions
from foveal.read.slices import find_slices
from foveal.ship.numbers import short
from foveal.task import Asked, Given


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """A folder with one mask a volume, as large as its slices, and all of them as runs.

    `ID.png` holds 0 and 255; `masks.csv` (`id,rle`) pairs of start and length, counted from 1, row
    by row; with scores `probability/ID.png` holds 16 bit. A slash in an id becomes `%2F` in file
    names.

    Attributes:
        lattice: Pixels a cell is wide.
        beta: Of the F-beta that units are judged by.
    """

    suffix: ClassVar[str] = ""

    lattice: int
    beta: float = 0.5

    def prior(
        self, truth: Shaped[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> dict[str, Any]:
        """Nothing is foreground."""
        return {}

    def files(self, path: Path, asked: Asked) -> list[Path]:
        """The masks, the table of runs, and with scores the pictures of them."""
        folders = [path, path / "probability"] if asked.scores else [path]
        names = [mask_name(case.id) for case in asked.cases]
        return [path / "masks.csv", *(folder / name for folder in folders for name in names)]

    def write(self, path: Path, asked: Asked, given: Given) -> None:
        """Write every mask, then the table; a case of which nothing is known gets an empty mask."""
        planes = {} if given.predictions is None else dict(given.predictions.arrays())
        labels = dict(zip(given.ids, given.labels, strict=True))
        rows: list[tuple[str, str]] = [("id", "rle")]
        for case in asked.cases:
            size = _slice_size(case)
            score = np.zeros(size, dtype=np.float32)
            mask = np.zeros(size, dtype=bool)
            if case.id in labels:
                score = self._score(planes[case.id], size)
                if has_region(case):
                    score[~region_of(case, *size)] = 0
                mask = score >= _threshold(planes[case.id], labels[case.id])
            name = mask_name(case.id)
            write_bytes(path / name, png(mask * np.uint8(255)))
            if asked.scores:
                deep = np.round(score * 65535).astype(np.uint16)
                write_bytes(path / "probability" / name, png(deep))
            rows.append((case.id, run_lengths(mask)))
        write_text(path / "masks.csv", csv_text(rows))

    def _score(self, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A plane at the size of a slice; cells outside the region draw nothing down."""
        inside = enlarged((plane > 0).astype(np.float32), self.lattice, *size)
        score = enlarged(plane, self.lattice, *size)
        np.maximum(inside, np.float32(1e-6), out=inside)
        return np.divide(score, inside, out=score)  # planes are large: no third one

    def out_of_fold(
        self, labels: Sequence[np.ndarray], predictions: Predictions, truth: Truth
    ) -> dict[str, list]:
        """Pixels found, given and true of every unit, and what they come to; empty of nothing."""
        judge, dice = CellFBeta(self.beta), CellFBeta(1.0)
        tally = judge.tally(labels, replace(truth, weight=np.ones(len(truth.weight))))
        hit, extra, missed = tally.T
        return {
            "hit": [short(v) for v in hit.tolist()],
            "given": [short(v) for v in (hit + extra).tolist()],
            "true": [short(v) for v in (hit + missed).tolist()],
            **{one.name: _shown(one.value(tally), tally) for one in (judge, dice)},
        }


def _shown(value: Float[np.ndarray, " unit"], tally: Float[np.ndarray, "unit 3"]) -> list[str]:
    """Scores as texts; none where nothing is there and nothing was given."""
    return [short(v) if one.any() else "" for v, one in zip(value.tolist(), tally, strict=True)]


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> str:
    """Start and length of every run of foreground, counted from 1, row by row.

    Example:
        >>> run_lengths(np.array([[False, True, True], [True, False, True]]))
        '2 3 6 1'
    """
    flat = np.concatenate([[False], mask.reshape(-1), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, lengths = edges[::2] + 1, edges[1::2] - edges[::2]
    return " ".join(map(str, np.stack([starts, lengths], axis=1).reshape(-1).tolist()))


def png(picture: Shaped[np.ndarray, "height width"]) -> bytes:
    """A grey picture of 8 or 16 bit as a file."""
    return cv2.imencode(".png", picture)[1].tobytes()


def _threshold(plane: np.ndarray, label: Bool[np.ndarray, "_ _"]) -> float:
    """Midway between the least score that a label holds and the most that it does not.

    The least alone would be reached at the very middle of a small object, and nowhere else: between
    cells enlarged scores are lower.
    """
    if not label.any():
        return float("inf")
    return float(plane[label].min() + plane[~label].max(initial=0.0)) / 2


def mask_name(name: str) -> str:
    """The file of a case's mask in an answer."""
    return f"{name.replace('%', '%25').replace('/', '%2F')}.png"


def _slice_size(case: Case) -> tuple[int, int]:
    """Height and width of a volume's slices; one pixel where none can be read."""
    try:
        return find_slices(case.paths[0]).form()[0]
    except UnreadableImage:
        return 1, 1
