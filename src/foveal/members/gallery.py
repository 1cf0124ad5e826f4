"""What members that recognise individuals keep and answer: a gallery of embedded pictures.

Out of fold, the gallery is what the fold learned from. For new cases it is every labelled picture
of the study, kept in the state, so that training pictures are never read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from foveal.decide.retrieve import likeness
from foveal.members.pictures import score_each
from foveal.predictions import NO_FOLD, Predictions
from foveal.task import Job, State

NOBODY = ""
"""The name of somebody unknown among training targets."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is known of how individuals look.

    Attributes:
        vectors: Of pictures, or of parts of them.
        owner: The individual that each shows, 0 to individuals-1.
        individuals: How many there are, those without a vector included.
    """

    vectors: Float[np.ndarray, "vector feature"]
    owner: Int[np.ndarray, " vector"]
    individuals: int

    def likeness(
        self, queries: Float[np.ndarray, "query feature"], nearest: float
    ) -> Float[np.ndarray, "query individual"]:
        """How alike queries and individuals are where a picture is one unit vector.

        Args:
            queries: Unit vectors.
            nearest: 0 for the mean over an individual's pictures, 1 for its best picture.
        """
        return likeness(
            queries, self.vectors, self.owner, individuals=self.individuals, nearest=nearest
        )


def with_gallery(
    state: State,
    job: Job,
    vectors: Float[np.ndarray, "vector feature"],
    case: Int[np.ndarray, " vector"] | None = None,
) -> State:
    """A state that remembers all labelled pictures of a study that have some weight.

    Args:
        state: Without a gallery.
        job: With the name of every case.
        vectors: Of every case.
        case: The row of the case that each shows; one vector a case if left out.
    """
    case = np.arange(len(job.target)) if case is None else case
    known = (job.target != NOBODY) & (job.weight > 0)
    names = np.unique(job.target[known])
    owner = np.searchsorted(names, job.target).astype(np.int32)[case]
    is_learned = np.zeros(len(job.target), dtype=bool)
    is_learned[job.train] = True
    learned, rest = (known & is_learned)[case], (known & ~is_learned)[case]
    return State(
        {**state.tensors, "gallery": vectors[learned], "owner": owner[learned]},
        {**state.notes, "names": names.tolist(), "fold": job.key[-1]},
        {"gallery": vectors[rest], "owner": owner[rest]},
    )


def answers(
    states: Sequence[State],
    compare: Callable[[State, Gallery], Float[np.ndarray, "query individual"]],
    ids: Sequence[str],
    *,
    reading: float,
    device: str,
) -> list[Predictions]:
    """How alike queries are to everybody, by each of several states.

    Args:
        states: With galleries.
        compare: From a state and its gallery to scores of 0 to 1.
        ids: One name a query.
        reading: Seconds that one query's picture takes.
        device: That computes.

    Returns:
        One column an individual of the study, absent for a fold that does not know it, and for new
        cases where the member has nothing of it.
    """
    names = tuple(states[0].notes["names"]) if states else ()

    def evaluate(state: State) -> Float[np.ndarray, "query individual"]:
        parts = [state.tensors, *([state.for_new] if state.for_new else [])]
        vectors, owner = (np.concatenate([p[name] for p in parts]) for name in ("gallery", "owner"))
        return compare(state, Gallery(vectors, owner, len(names)))

    said = score_each(states, evaluate, ids, columns=names, reading=reading, device=device)
    return [replace(one, known=_known(state)) for one, state in zip(said, states, strict=True)]


def _known(state: State) -> dict[int, tuple[str, ...]]:
    """Whom the fold learned from, and whom all of the study's pictures show."""
    own = state.tensors["owner"]
    owners = {state.notes["fold"]: own}
    if state.for_new:
        owners[NO_FOLD] = np.concatenate([own, state.for_new["owner"]])
    names = state.notes["names"]
    return {
        fold: tuple(names[k] for k in np.unique(owner).tolist()) for fold, owner in owners.items()
    }
