"""The floor for recognising individuals: pixels, their main directions at equal strength, cosines.

Reference:
    Turk and Pentland, Eigenfaces for Recognition, 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.decide.retrieve import unit
from foveal.manifest import Case
from foveal.members.gallery import answers, with_gallery
from foveal.members.pictures import Stored, all_readable, readable
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures

FLOOR_OF_VARIANCE = 0.1
"""Of the weakest direction that is kept, added to all, so that noise is not blown up."""

NO_VARIANCE = 1e-5
"""Of the strongest direction's: below it lies nothing but rounding of 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eigenpictures:
    """Whitened principal components of the pixels.

    Attributes:
        pictures: Small prepared ones.
        name: Of the member.
        components: Directions that are kept.
        nearest: 0 compares with the mean of an individual's pictures, 1 with the best of them.
    """

    kind: ClassVar[str] = "classical"
    device: ClassVar[str] = "cpu"

    pictures: Stored
    name: str = "floor"
    components: int = 96
    nearest: float = 0.5

    def fit(self, job: Job) -> State:
        """Find the directions of the training pictures, and remember where all pictures lie."""
        table = self.pictures(job.cases, job.resources)
        all_readable(job, table)
        flat = _flat(table, np.arange(len(job.cases)))
        centre = flat[job.counted].mean(axis=0)
        away = flat[job.counted] - centre
        variance, directions = _main_directions(away, self.components)
        strength = variance + FLOOR_OF_VARIANCE * variance[-1] + 1e-12
        state = State({"centre": centre, "turn": (directions / np.sqrt(strength)).astype("f4")})
        job.report({"done": 1.0})
        return with_gallery(state, job, _embedded(state, flat))

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        table = self.pictures(cases, resources)
        rows = readable(cases, rows, resources, table)
        flat = _flat(table, rows)
        return answers(
            states,
            lambda state, gallery: gallery.likeness(_embedded(state, flat), self.nearest),
            [cases[row].id for row in rows.tolist()],
            reading=self.pictures.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Any number of directions can be asked for."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes."""
        return 2.0 + cases * 1e-3


def _main_directions(
    away: Float[np.ndarray, "case pixel"], count: int
) -> tuple[Float[np.ndarray, " direction"], Float[np.ndarray, "pixel direction"]]:
    """The directions of most variance, the largest first, from the smaller of the two products."""
    from scipy.linalg import eigh

    rows, columns = away.shape
    size, kept = min(rows, columns), max(1, min(count, rows - 1, columns))
    square = (away.T @ away if columns <= rows else away @ away.T) / rows
    found: Any = eigh(square, subset_by_index=[size - kept, size - 1])
    variance, vectors = found
    variance, vectors = np.maximum(variance[::-1], 0), vectors[:, ::-1]
    varies = variance > NO_VARIANCE * variance[0]  # copies of pictures add none, but rounding
    varies[0] = True
    variance, vectors = variance[varies], vectors[:, varies]
    if columns > rows:
        vectors = unit((away.T @ vectors).T).T
    return variance, vectors


def _flat(table: Pictures, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "case pixel"]:
    """Pixels of pictures, each about its own mean and at its own strength."""
    if not len(rows):
        return np.zeros((0, int(np.prod(table.shape))), dtype=np.float32)
    flat = np.stack([table(row).reshape(-1) for row in rows.tolist()]).astype(np.float32)
    return unit(flat - flat.mean(axis=1, keepdims=True))


def _embedded(
    state: State, flat: Float[np.ndarray, "case pixel"]
) -> Float[np.ndarray, "case feature"]:
    return unit((flat - state.tensors["centre"]) @ state.tensors["turn"])
