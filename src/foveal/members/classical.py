"""A member without a network: picture features into ridge regression and extremely random trees.

The floor that a network must pass, and on a few hundred pictures hard to beat. Its state is plain
arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.manifest import Case
from foveal.members.mixed import fit_mixed, mixed
from foveal.members.pictures import Prepared, all_readable, readable, score_each
from foveal.members.ridge import Learns, spread, standardised
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Classical:
    """Features, ridge and trees; their penalty and shares chosen inside the training cases.

    Attributes:
        name: Of the member.
        features: From a case to numbers.
        trees: Of the forest.
        learns: What is told from them.
    """

    kind: ClassVar[str] = "classical"
    device: ClassVar[str] = "cpu"

    features: Prepared
    name: str = "floor"
    trees: int = 300
    learns: Learns

    def fit(self, job: Job) -> State:
        """Learn from the training rows of a job."""
        table = self.features(job.cases, job.resources)
        all_readable(job, table)
        rows = job.counted
        raw = np.stack([table(row) for row in rows.tolist()])
        y, w = self.learns.goal(job.target[rows]), job.weight[rows]
        centre, scale = spread(raw, w)
        x = standardised(raw, centre, scale)
        settings = {"trees": self.trees, "key": job.key, "ask": job.resources.ask}
        fitted, notes = fit_mixed(x, x, y, w, job.group[rows], **settings)
        job.report({"done": 1.0})
        return State({"centre": centre, "scale": scale, **fitted}, notes)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        table = self.features(cases, resources)
        rows = readable(cases, rows, resources, table)
        raw = [table(row) for row in rows.tolist()]
        return score_each(
            states,
            lambda state: np.clip(evaluate(state, np.stack(raw)), *self.learns.limits),
            [cases[row].id for row in rows.tolist()],
            columns=self.learns.columns,
            reading=self.features.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Any features and any number of trees can be built."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes; the features are shared by all folds."""
        return 2.0 + cases * self.trees * 4e-5


def evaluate(
    state: State, x: Float[np.ndarray, "case feature"]
) -> Float[np.ndarray, "case column"]:
    """Scores of raw features by a fitted state."""
    t = state.tensors
    x = standardised(x, t["centre"], t["scale"])
    return mixed(t, x, x)
