"""What members that recognise individuals keep and answer: a gallery of embedded pictures.

Out of fold, the gallery is what the fold learned from. For new cases it is every labelled picture
of the study, kept in the state, so that training pictures are never read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from foveal.decide.retrieve import likeness
from foveal.members.pictures import score_each
from foveal.predictions import Predictions
from foveal.task import Job, State

NOBODY = ""
"""The name of somebody unknown among training targets."""


def with_gallery(state: State, job: Job, vectors: Float[np.ndarray, "case feature"]) -> State:
    """A state that remembers all labelled pictures of a study that have some weight.

    Args:
        state: Without a gallery.
        job: With the name of every case.
        vectors: Unit vectors of every case.
    """
    shown = (job.target != NOBODY) & (job.weight > 0)
    names = np.unique(job.target[shown])
    owner = np.searchsorted(names, job.target).astype(np.int32)
    is_learned = np.zeros(len(job.target), dtype=bool)
    is_learned[job.train] = True
    learned, rest = shown & is_learned, shown & ~is_learned
    return State(
        {**state.tensors, "gallery": vectors[learned], "owner": owner[learned]},
        {**state.notes, "names": names.tolist(), "fold": job.key[-1]},
        {"gallery": vectors[rest], "owner": owner[rest]},
    )


def answers(
    states: Sequence[State],
    embed: Callable[[State], Float[np.ndarray, "query feature"]],
    ids: Sequence[str],
    *,
    nearest: float,
    reading: float,
    device: str,
) -> list[Predictions]:
    """How alike queries are to everybody, by each of several states.

    Args:
        states: With galleries.
        embed: From a state to unit vectors of the queries.
        ids: One name a query.
        nearest: 0 for the mean over an individual's pictures, 1 for its best picture.
        reading: Seconds that one query's picture takes.
        device: That computes.

    Returns:
        One column an individual of the study, absent for a fold that does not know it.
    """
    names = tuple(states[0].notes["names"]) if states else ()

    def compare(state: State) -> Float[np.ndarray, "query individual"]:
        gallery, owner = _whole_gallery(state)
        return likeness(embed(state), gallery, owner, individuals=len(names), nearest=nearest)

    said = score_each(states, compare, ids, columns=names, reading=reading, device=device)
    return [
        replace(one, known={state.notes["fold"]: _known(state)})
        for one, state in zip(said, states, strict=True)
    ]


def _whole_gallery(state: State) -> tuple[np.ndarray, np.ndarray]:
    parts = [state.tensors, *([state.for_new] if state.for_new else [])]
    gallery, owner = (np.concatenate([p[name] for p in parts]) for name in ("gallery", "owner"))
    return gallery, owner


def _known(state: State) -> tuple[str, ...]:
    """Whom the fold learned from."""
    names = state.notes["names"]
    return tuple(names[k] for k in np.unique(state.tensors["owner"]).tolist())
