"""Individuals told by their keypoints: what is found again of a pattern, without learning it.

Descriptors of all labelled pictures, as their slow waves, are the gallery; those of a query vote
for the individuals whose descriptors they are nearest to. Keypoints are described in several ways,
as the picture stands and along their own directions: the first tells more of pictures that show
everybody alike, the second also of turned ones. All vote, each among its kind. Where a keypoint
lies counts a little.

Reference:
    Boiman and others, In Defense of Nearest-Neighbor Based Image Classification, 2008 (places).
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
from foveal.models.keypoints import rooted, waves
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFeatures:
    """Votes of the keypoints of a query for individuals.

    Attributes:
        ways: To describe prepared pictures.
        name: Of the member.
        waves: Of descriptors, up to how fast ones are kept; see `foveal.models.keypoints.waves`.
        places: How much a place across the whole picture counts; descriptors lie within 1.4 of each
            other.
    """

    kind: ClassVar[str] = "classical"
    device: ClassVar[str] = "cpu"

    ways: tuple[Stored, ...]
    name: str = "keypoints"
    waves: int = 5
    places: float = 0.5

    def fit(self, job: Job) -> State:
        """Remember all labelled pictures."""
        tables = [way(job.cases, job.resources) for way in self.ways]
        all_readable(job, *tables)
        vectors, rows = [], []
        for way, table in enumerate(tables):
            found = self._found(table, np.arange(len(job.cases)))
            of_way = np.full((len(found.row), 1), way, dtype=np.float16)
            vectors.append(np.hstack([found.features.astype(np.float16), of_way]))  # many
            rows.append(found.row)
        job.report({"done": 1.0})
        return with_gallery(State({}), job, np.concatenate(vectors), np.concatenate(rows))

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states; for new cases all say the same."""
        tables = [way(cases, resources) for way in self.ways]
        rows = readable(cases, rows, resources, *tables)
        found = [self._found(table, rows) for table in tables]
        for_new: list[np.ndarray] = []

        def compare(state: State, gallery: Gallery) -> Float[np.ndarray, "query individual"]:
            if not state.for_new:
                return compared(gallery)
            if not for_new:  # every fold has the same gallery then, and nothing else is learned
                for_new.append(compared(gallery))
            return for_new[0]

        def compared(gallery: Gallery) -> Float[np.ndarray, "query individual"]:
            vectors, of_way = gallery.vectors[:, :-1], gallery.vectors[:, -1]
            said = [
                votes(
                    one.features,
                    one.row,
                    vectors[of_way == way],
                    gallery.owner[of_way == way],
                    count=len(rows),
                    individuals=gallery.individuals,
                    farthest=2 + 2 * self.places**2,
                    ask=resources.ask,
                )
                for way, one in enumerate(found)
            ]
            return np.stack(said).mean(axis=0)

        return answers(
            states,
            compare,
            [cases[row].id for row in rows.tolist()],
            reading=sum(way.seconds(cases, rows) for way in self.ways),
            device=resources.device,
        )

    def check(self) -> None:
        """Any number of keypoints and waves can be asked for."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the descriptors are shared by all folds."""
        return 5.0 + cases * 5e-3

    def _found(self, table: Pictures, rows: Int[np.ndarray, " row"]) -> _Found:
        """Descriptors as waves, and places.

        Picture by picture: the last bits of a product may follow from how many rows it has.
        """
        basis = waves(self.waves)
        parts = [np.zeros((0, basis.shape[1] + 2), dtype=np.float32)]
        for row in rows.tolist():
            roots, places = rooted(table(row))
            parts.append(np.hstack([roots @ basis, self.places * places]))
        counts = [len(part) for part in parts[1:]]
        return _Found(np.concatenate(parts), np.repeat(np.arange(len(rows)), counts))


@dataclass(frozen=True, slots=True)
class _Found:
    """All keypoints of some pictures.

    Attributes:
        features: Of each.
        row: The picture of each, counted from 0.
    """

    features: Float[np.ndarray, "keypoint feature"]
    row: Int[np.ndarray, " keypoint"]
