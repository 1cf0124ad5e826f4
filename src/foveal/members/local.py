"""Individuals told by their keypoints: what is found again of a pattern, without learning it.

Descriptors of all labelled pictures, turned to their main directions, are the gallery; those of a
query vote for the individuals whose descriptors they are nearest to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.decide.votes import votes
from foveal.manifest import Case
from foveal.members.gallery import Gallery, answers, with_gallery
from foveal.members.pictures import Stored, all_readable, readable
from foveal.models.keypoints import rooted
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures

SEEN = 100_000
"""Most descriptors from which main directions are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFeatures:
    """Votes of the keypoints of a query for individuals.

    Attributes:
        described: Descriptors of prepared pictures.
        name: Of the member.
        directions: Main directions of descriptors that are kept.
    """

    kind: ClassVar[str] = "classical"

    described: Stored
    name: str = "keypoints"
    directions: int = 48

    def fit(self, job: Job) -> State:
        """Find the directions of the training pictures, and remember all labelled pictures."""
        table = self.described(job.cases, job.resources)
        all_readable(job, table)
        found, case = _descriptors(table, np.arange(len(job.cases)))
        learned = np.flatnonzero(np.isin(case, job.counted))
        some = np.random.default_rng(job.key).permutation(learned)[:SEEN]
        state = State(_main_directions(found[np.sort(some)], self.directions))
        job.report({"done": 1.0})
        return with_gallery(state, job, _turned(state, found), case)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        table = self.described(cases, resources)
        rows = readable(cases, rows, resources, table)
        found, place = _descriptors(table, rows)

        def compare(state: State, gallery: Gallery) -> Float[np.ndarray, "query individual"]:
            return votes(
                _turned(state, found),
                place,
                gallery.vectors,
                gallery.owner,
                count=len(rows),
                individuals=gallery.individuals,
            )

        return answers(
            states,
            compare,
            [cases[row].id for row in rows.tolist()],
            reading=self.described.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Any number of keypoints and directions can be asked for."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the descriptors are shared by all folds."""
        return 2.0 + cases * 5e-3


def _descriptors(
    table: Pictures, rows: Int[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, "descriptor 128"], Int[np.ndarray, " descriptor"]]:
    """All descriptors of some rows, and the place of the row that each is of."""
    found = [rooted(table(row)) for row in rows.tolist()]
    place = np.repeat(np.arange(len(rows)), [len(one) for one in found])
    return np.concatenate([np.zeros((0, table.shape[1]), dtype=np.float32), *found]), place


def _main_directions(
    found: Float[np.ndarray, "descriptor 128"], count: int
) -> dict[str, np.ndarray]:
    """The mean of descriptors, and the directions in which they differ most."""
    centre = found.mean(axis=0) if len(found) else np.zeros(found.shape[1], dtype=np.float32)
    away = (found - centre).astype(np.float64)
    directions = np.linalg.eigh(away.T @ away)[1][:, ::-1][:, :count]
    return {"centre": centre, "turn": np.ascontiguousarray(directions, dtype=np.float32)}


def _turned(
    state: State, found: Float[np.ndarray, "descriptor 128"]
) -> Float[np.ndarray, "descriptor direction"]:
    """Descriptors along the main directions, in half precision: a gallery is large."""
    return ((found - state.tensors["centre"]) @ state.tensors["turn"]).astype(np.float16)
