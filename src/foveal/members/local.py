"""Individuals told by their keypoints: what is found again of a pattern, without learning it.

Descriptors of all labelled pictures, turned to their main directions, are the gallery; those of a
query vote for the individuals whose descriptors they are nearest to. Keypoints are described in
several ways, as the picture stands and along their own directions: the first tells more of pictures
that show everybody alike, the second also of turned ones. All vote, each among its kind. Where a
keypoint lies counts a little.

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
from foveal.models.keypoints import WIDTH, rooted
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures

SEEN = 100_000
"""Most descriptors from which main directions are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFeatures:
    """Votes of the keypoints of a query for individuals.

    Attributes:
        ways: To describe prepared pictures.
        name: Of the member.
        directions: Main directions of descriptors that are kept.
        places: How much a place across the whole picture counts; descriptors lie within 1.4 of each
            other.
    """

    kind: ClassVar[str] = "classical"

    ways: tuple[Stored, ...]
    name: str = "keypoints"
    directions: int = 48
    places: float = 0.5

    def fit(self, job: Job) -> State:
        """Find the directions of the training pictures, and remember all labelled pictures."""
        tables = [way(job.cases, job.resources) for way in self.ways]
        all_readable(job, *tables)
        every = np.arange(len(job.cases))
        found = [_found(table, every) for table in tables]
        turns = []
        for one in found:
            learned = np.flatnonzero(np.isin(one.row, job.counted))
            some = np.random.default_rng(job.key).permutation(learned)[:SEEN]
            turns.append(_main_directions(one.roots[np.sort(some)], self.directions))
        centre, turn = (np.stack(part) for part in zip(*turns, strict=True))
        state = State({"centre": centre, "turn": turn})
        features = [
            np.hstack([self._features(state, way, one), np.full((len(one.row), 1), way)])
            for way, one in enumerate(found)
        ]
        job.report({"done": 1.0})
        vectors = np.concatenate(features).astype(np.float16)  # a gallery is large
        return with_gallery(state, job, vectors, np.concatenate([one.row for one in found]))

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        tables = [way(cases, resources) for way in self.ways]
        rows = readable(cases, rows, resources, *tables)
        found = [_found(table, rows) for table in tables]

        def compare(state: State, gallery: Gallery) -> Float[np.ndarray, "query individual"]:
            vectors, of_way = gallery.vectors[:, :-1], gallery.vectors[:, -1]
            said = [
                votes(
                    self._features(state, way, one),
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
        """Any number of keypoints and directions can be asked for."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the descriptors are shared by all folds."""
        return 5.0 + cases * 5e-3

    def _features(
        self, state: State, way: int, found: _Found
    ) -> Float[np.ndarray, "keypoint feature"]:
        """Descriptors along the main directions, and places."""
        turned = (found.roots - state.tensors["centre"][way]) @ state.tensors["turn"][way]
        return np.hstack([turned, self.places * found.places]).astype(np.float32)


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


def _main_directions(
    roots: Float[np.ndarray, "keypoint 128"], count: int
) -> tuple[Float[np.ndarray, " 128"], Float[np.ndarray, "128 direction"]]:
    """The mean of descriptors, and the directions in which they differ most."""
    centre = roots.mean(axis=0) if len(roots) else np.zeros(WIDTH, dtype=np.float32)
    away = (roots - centre).astype(np.float64)
    directions = np.linalg.eigh(away.T @ away)[1][:, ::-1][:, :count]
    return centre, np.ascontiguousarray(directions, dtype=np.float32)
