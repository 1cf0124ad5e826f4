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
from foveal.models.keypoints import WIDTH, rooted, waves
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
        found = [_found(table, np.arange(len(job.cases))) for table in tables]
        features = [
            np.hstack([self._features(one), np.full((len(one.row), 1), way)])
            for way, one in enumerate(found)
        ]
        job.report({"done": 1.0})
        vectors = np.concatenate(features).astype(np.float16)  # a gallery is large
        return with_gallery(State({}), job, vectors, np.concatenate([one.row for one in found]))

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
        found = [_found(table, rows) for table in tables]
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
                    self._features(one),
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

    def _features(self, found: _Found) -> Float[np.ndarray, "keypoint feature"]:
        """Descriptors as waves, and places.

        Picture by picture: the last bits of a product may follow from how many rows it has.
        """
        basis, starts = waves(self.waves), np.flatnonzero(np.diff(found.row)) + 1
        waved = np.concatenate([own @ basis for own in np.split(found.roots, starts)])
        return np.hstack([waved, self.places * found.places])


@dataclass(frozen=True, slots=True)
class _Found:
    """All keypoints of some pictures.

    Attributes:
        roots: Their descriptors.
        places: Column and row, 0 to 1.
        row: The picture of each, counted from 0.
    """

    roots: Float[np.ndarray, "keypoint 128"]
    places: Float[np.ndarray, "keypoint 2"]
    row: Int[np.ndarray, " keypoint"]


def _found(table: Pictures, rows: Int[np.ndarray, " row"]) -> _Found:
    parts = [rooted(table(row)) for row in rows.tolist()]
    empty = (np.zeros((0, WIDTH), dtype=np.float32), np.zeros((0, 2), dtype=np.float32))
    roots, places = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
    return _Found(roots, places, np.repeat(np.arange(len(rows)), [len(r) for r, _ in parts]))
