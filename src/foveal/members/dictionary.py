"""A member without a network that learns what to look for: a dictionary of patches.

Where the floor member only asks questions that were thought out beforehand, this one learns some
from the training pictures as well. The floor's features stand beside the dictionary's, as one block
of equal weight: on some sets one tells more, on some the other, and one ridge over both comes near
the better one or passes it. Trees look at the floor's features alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.manifest import Case
from foveal.members.mixed import fit_mixed, mixed
from foveal.members.pictures import Prepared, all_readable, readable, score_each
from foveal.members.ridge import Learns, spread, standardised
from foveal.models.patches import PatchDictionary
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.cache import Direct, Mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """Pictures described by learned patches and by given features, into ridge and trees.

    Attributes:
        name: Of the member.
        pictures: That patches are learned from and found in.
        features: Numbers that stand beside those of the patches.
        patches: Learns a dictionary, and describes pictures by it.
        trees: Of the forest.
        learns: What is told from them.
    """

    kind: ClassVar[str] = "classical"
    device: ClassVar[str] = "cpu"

    pictures: Prepared
    features: Prepared
    patches: PatchDictionary
    name: str = "patches"
    trees: int = 300
    learns: Learns

    def fit(self, job: Job) -> State:
        """Learn from the training rows of a job."""
        pictures = self.pictures(job.cases, job.resources)
        features = self.features(job.cases, job.resources)
        all_readable(job, pictures, features)
        rng = np.random.default_rng(job.key)
        rows = job.counted
        words = self.patches.learn(pictures, rows.tolist(), rng)
        job.report({"done": 0.2})
        given = np.stack([features(row) for row in rows.tolist()])
        found = self._found(pictures, rows, words, job.resources)
        y, w = self.learns.goal(job.target[rows]), job.weight[rows]
        tensors = {**words}
        tensors["given_centre"], tensors["given_scale"] = spread(given, w)
        tensors["found_centre"], tensors["found_scale"] = spread(found, w)
        both, plain = _joined(given, found, tensors)
        settings = {"trees": self.trees, "key": job.key, "ask": job.resources.ask}
        fitted, notes = fit_mixed(both, plain, y, w, job.group[rows], **settings)
        job.report({"done": 1.0})
        return State({**tensors, **fitted}, notes)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        pictures, features = self.pictures(cases, resources), self.features(cases, resources)
        rows = readable(cases, rows, resources, pictures, features)
        given = [features(row) for row in rows.tolist()]

        def evaluate(state: State) -> np.ndarray:
            t = state.tensors
            found = self._found(pictures, rows, t, resources)
            both, plain = _joined(np.stack(given), found, t)
            return np.clip(mixed(t, both, plain), *self.learns.limits)

        return score_each(
            states,
            evaluate,
            [cases[row].id for row in rows.tolist()],
            columns=self.learns.columns,
            reading=self.pictures.seconds(cases, rows) + self.features.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Any dictionary can be built."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes."""
        return 5.0 + cases * (25e-3 + self.trees * 4e-5)

    def _found(
        self,
        pictures: Mapped | Direct,
        rows: Int[np.ndarray, " row"],
        words: Mapping[str, np.ndarray],
        resources: Resources,
    ) -> Float[np.ndarray, "row word_feature"]:
        """Pictures described by the dictionary."""
        found = []
        for row in rows.tolist():
            resources.ask()
            found.append(self.patches(pictures(row), words))
        return np.stack(found)


def _joined(
    given: Float[np.ndarray, "row feature"],
    found: Float[np.ndarray, "row word_feature"],
    t: Mapping[str, np.ndarray],
) -> tuple[Float[np.ndarray, "row both"], Float[np.ndarray, "row feature"]]:
    """Both blocks standardised and scaled so that each brings half of the variance; the given one.

    What a dictionary finds is not clipped: a rare, strong answer may be the crack that is looked
    for.
    """
    left = standardised(given, t["given_centre"], t["given_scale"])
    right = (found - t["found_centre"]) / t["found_scale"]
    half = (left.shape[1] + right.shape[1]) / 2
    scaled = [block * np.sqrt(half / block.shape[1]) for block in (left, right)]
    return np.hstack(scaled), left
