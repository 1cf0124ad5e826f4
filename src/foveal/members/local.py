"""Individuals told by their keypoints: what is found again of a pattern, without learning it.

Descriptors of all labelled pictures, turned to their main directions, are the gallery; those of a
query vote for the individuals whose descriptors they are nearest to. Where pictures show everybody
alike, as flukes or faces do, a keypoint tells more if its place counts too, and if it is described
as the picture stands; where they are turned and shifted, it tells less. Which holds is rehearsed on
individuals with several training pictures.

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
from foveal.members.gallery import NOBODY, Gallery, answers, with_gallery
from foveal.members.pictures import Stored, all_readable, readable
from foveal.models.keypoints import WIDTH, rooted
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures

SEEN = 100_000
"""Most descriptors from which main directions are found."""

PLACES = (0.5, 0.0, 1.0, 2.0)
"""How much a place across the whole picture may count; descriptors lie within 1.4 of each other."""

REHEARSED = 96
"""Most individuals that are asked for, each once, to choose how keypoints are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFeatures:
    """Votes of the keypoints of a query for individuals.

    Attributes:
        ways: To describe prepared pictures; the one that recognises better is chosen.
        name: Of the member.
        directions: Main directions of descriptors that are kept.
    """

    kind: ClassVar[str] = "classical"

    ways: tuple[Stored, ...]
    name: str = "keypoints"
    directions: int = 48

    def fit(self, job: Job) -> State:
        """Choose how to compare, and remember all labelled pictures."""
        tables = [way(job.cases, job.resources) for way in self.ways]
        all_readable(job, *tables)
        asked, shown = _rehearsal(job)
        tried = []
        for number, table in enumerate(tables):
            found = _found(table, np.arange(len(job.cases)))
            some = np.flatnonzero(np.isin(found.row, job.counted))
            some = np.sort(np.random.default_rng(job.key).permutation(some)[:SEEN])
            turn = _main_directions(found.roots[some], self.directions)
            for place in PLACES:
                state = State(turn, {"way": number, "place": place})
                tried.append((_rehearsed(state, found, job.target, asked, shown), state, found))
        success, state, found = max(tried, key=lambda one: one[0])
        job.report({"done": 1.0})
        state = State(state.tensors, {**state.notes, "rehearsed": success})
        return with_gallery(state, job, _features(state, found), found.row)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        used = sorted({int(state.notes["way"]) for state in states})
        tables = {number: self.ways[number](cases, resources) for number in used}
        rows = readable(cases, rows, resources, *tables.values())
        found = {number: _found(table, rows) for number, table in tables.items()}

        def compare(state: State, gallery: Gallery) -> Float[np.ndarray, "query individual"]:
            asked = found[int(state.notes["way"])]
            return _votes(state, asked, gallery, np.arange(len(rows)))

        return answers(
            states,
            compare,
            [cases[row].id for row in rows.tolist()],
            reading=sum(self.ways[number].seconds(cases, rows) for number in used),
            device=resources.device,
        )

    def check(self) -> None:
        """Any number of keypoints and directions can be asked for."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the descriptors are shared by all folds."""
        return 10.0 + cases * 5e-3


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


def _main_directions(roots: Float[np.ndarray, "keypoint 128"], count: int) -> dict[str, np.ndarray]:
    """The mean of descriptors, and the directions in which they differ most."""
    centre = roots.mean(axis=0) if len(roots) else np.zeros(WIDTH, dtype=np.float32)
    away = (roots - centre).astype(np.float64)
    directions = np.linalg.eigh(away.T @ away)[1][:, ::-1][:, :count]
    return {"centre": centre, "turn": np.ascontiguousarray(directions, dtype=np.float32)}


def _features(state: State, found: _Found) -> Float[np.ndarray, "keypoint feature"]:
    """Descriptors along the main directions and places, in half precision: a gallery is large."""
    turned = (found.roots - state.tensors["centre"]) @ state.tensors["turn"]
    return np.hstack([turned, state.notes["place"] * found.places]).astype(np.float16)


def _votes(
    state: State, asked: _Found, gallery: Gallery, rows: Int[np.ndarray, " query"]
) -> Float[np.ndarray, "query individual"]:
    """How much the keypoints of some of the pictures speak for everybody."""
    those = np.isin(asked.row, rows)
    return votes(
        _features(state, _Found(asked.roots[those], asked.places[those], asked.row[those])),
        np.searchsorted(rows, asked.row[those]),
        gallery.vectors,
        gallery.owner,
        count=len(rows),
        individuals=gallery.individuals,
        farthest=2 + 2 * float(state.notes["place"]) ** 2,
    )


def _rehearsal(job: Job) -> tuple[Int[np.ndarray, " asked"], Int[np.ndarray, " shown"]]:
    """Training pictures to ask for, one of each of some individuals, and their other pictures.

    Groups are not split: what was seen together is never asked and shown.
    """
    rows = job.counted[job.target[job.counted] != NOBODY]
    asked, shown = [], []
    rng = np.random.default_rng(job.key)
    for name in rng.permutation(np.unique(job.target[rows])):
        own = rows[job.target[rows] == name]
        rest = own[job.group[own] != job.group[own[0]]]
        if len(rest) and len(asked) < REHEARSED:
            asked.append(own[0])
            shown += rest.tolist()
    return np.sort(np.array(asked, dtype=np.int64)), np.array(shown, dtype=np.int64)


def _rehearsed(
    state: State,
    found: _Found,
    target: np.ndarray,
    asked: Int[np.ndarray, " asked"],
    shown: Int[np.ndarray, " shown"],
) -> float:
    """One over the place of the right individual, on average; 0 where nobody can be asked for."""
    if not len(asked):
        return 0.0
    names, owner = np.unique(target[shown], return_inverse=True)
    those = np.isin(found.row, shown)
    order = np.argsort(shown)
    of_row = owner[order][np.searchsorted(shown[order], found.row[those])]
    features = _features(state, _Found(found.roots[those], found.places[those], found.row[those]))
    said = _votes(state, found, Gallery(features, of_row, len(names)), asked)
    right = said[np.arange(len(asked)), np.searchsorted(names, target[asked])]
    return float((1 / (said >= right[:, None]).sum(axis=1)).mean())
