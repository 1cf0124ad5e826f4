"""A member without a network that learns what to look for: a dictionary of patches into ridge.

Where the floor member asks questions that were thought out beforehand, this one learns them from
the training pictures; the two err differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import Stopped
from foveal.manifest import Case
from foveal.members.pictures import made, maker
from foveal.members.ridge import cross_fitted, inner_folds, ridge
from foveal.models.patches import PatchDictionary
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.cache import Direct, Mapped, seconds_to_make


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """Pictures described by patches that were learned from the training pictures, into ridge.

    Attributes:
        name: Of the member.
        read: From a case to its picture.
        prepare: From that to the prepared picture.
        patches: Learns a dictionary, and describes pictures by it.
        column: The name of the score.
    """

    kind: ClassVar[str] = "classical"

    read: Callable
    prepare: Callable
    patches: PatchDictionary
    name: str = "patches"
    column: str = "expected"

    def fit(self, job: Job) -> State:
        """Learn from the training rows of a job."""
        pictures = self._pictures(job.cases, job.resources)
        rows, rng = job.train.tolist(), np.random.default_rng(job.key)
        words = self.patches.learn(pictures, rows, rng)
        job.report({"done": 0.2})
        x = self._described(pictures, rows, words, job.resources)
        y = job.target[job.train] @ np.arange(job.target.shape[1], dtype=np.float64)
        w = job.weight[job.train]
        centre, scale = np.average(x, axis=0, weights=w), np.maximum(x.std(axis=0), 1e-6)
        x = (x - centre) / scale
        fold = inner_folds(y, job.group[job.train], seed=0)
        alpha = 1e3 if fold is None else cross_fitted(x, y, w, fold)[0]
        slope, intercept = ridge(x, y, w, alpha)
        job.report({"done": 1.0})
        line = {"slope": slope / scale, "intercept": np.array([intercept - slope / scale @ centre])}
        return State({**words, **line}, {"alpha": alpha})

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        pictures = self._pictures(cases, resources)
        kept = [row for row in rows.tolist() if row not in pictures.failed]
        reading = seconds_to_make(maker(cases, self.read, self.prepare), kept) / len(states)
        got = []
        for state in states:
            started, t = time.monotonic(), state.tensors
            x = self._described(pictures, kept, t, resources)
            scores = x @ t["slope"] + t["intercept"]
            got.append(
                Predictions.of(
                    [cases[row].id for row in kept],
                    scores[:, None].astype(np.float32),
                    columns=(self.column,),
                    seconds=reading + (time.monotonic() - started) / max(len(kept), 1),
                    peak_bytes=float(x.nbytes),
                )
            )
        return got

    def check(self) -> None:
        """Any dictionary can be built."""

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training takes."""
        return 5.0 + cases * 25e-3

    def _described(
        self,
        pictures: Mapped | Direct,
        rows: Iterable[int],
        words: Mapping[str, np.ndarray],
        resources: Resources,
    ) -> Float[np.ndarray, "row feature"]:
        found = []
        for row in rows:
            if resources.should_stop():
                raise Stopped("stopped while describing pictures")
            found.append(self.patches(pictures(row), words))
        width = self.patches.width(words)
        return np.asarray(found, dtype=np.float64).reshape(len(found), width)

    def _pictures(self, cases: Sequence[Case], resources: Resources) -> Mapped | Direct:
        return made("pictures", cases, resources, self.read, self.prepare)
