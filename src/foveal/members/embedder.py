"""A network that gives every picture a place, near to other pictures of the same individual.

An individual that looks different in a mirror becomes two while it trains: its mirrored pictures
are somebody else's. A query is then compared as it is and mirrored, each with its own kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foveal.arrays import Pixels
from foveal.decide.retrieve import unit
from foveal.losses.margin import UNKNOWN, ArcFace, CosFace
from foveal.manifest import Case
from foveal.members.gallery import NOBODY, Gallery, answers, with_gallery
from foveal.members.memory import with_less_memory
from foveal.members.pictures import Stored, all_readable, readable
from foveal.members.training import Training
from foveal.models.folded import folded
from foveal.models.heads import Embedding
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures
from foveal.train.seeds import seed_of

WEIGHTS = "model."
"""Before the names of the network's weights in a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """Encoder, embedding and margin loss; answers by the gallery, not by the loss's centres.

    Attributes:
        name: Of the member.
        pictures: Prepared ones.
        head: Pooling and the embedding.
        loss: A margin between individuals.
        training: How it is trained.
        mirrored: Whether mirrored pictures are other individuals.
        nearest: 0 compares with the mean of an individual's pictures, 1 with the best of them.
    """

    kind: ClassVar[str] = "networks"
    device: ClassVar[str] = "cuda"

    name: str
    pictures: Stored
    head: Embedding
    loss: ArcFace | CosFace
    training: Training = field(metadata={"inline": True})
    mirrored: bool = False
    nearest: float = 0.5

    def fit(self, job: Job) -> State:
        """Train on the training rows of a job; out of memory cuts the batch into parts."""
        return with_less_memory(
            self.name, job, self.training.batch, lambda parts: self._fit(job, parts)
        )

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        pictures = self.pictures(cases, resources)
        rows = readable(cases, rows, resources, pictures)

        def compare(state: State, gallery: Gallery) -> np.ndarray:
            asked = self._embedded(folded(self._restored(state)), pictures, rows, resources)
            return gallery.likeness(asked, self.nearest)

        return answers(
            states,
            compare,
            [cases[row].id for row in rows.tolist()],
            reading=self.pictures.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Raise where the backbone is unknown, or cannot see pictures of this size."""
        self.training.require_one_state(self.name)
        channels = len(self.training.mean)
        self.training.backbone.check(self.training.size, channels=channels)
        self.training.try_out(lambda: self._model(pretrained=False))

    def estimate(self, cases: int, resources: Resources) -> float:
        """Seconds of one training on so many cases, from small steps on this machine."""
        model = self._model(pretrained=False).eval()  # a norm cannot learn from one case
        return self.training.seconds(model, cases * (1 + self.mirrored), resources)

    def _fit(self, job: Job, accumulate: int) -> State:
        pictures = self.pictures(job.cases, job.resources)
        all_readable(job, pictures)
        rows = job.counted
        learned, weight = job.target[rows], job.weight[rows]
        names = np.unique(learned[learned != NOBODY])
        individual = np.where(learned == NOBODY, UNKNOWN, np.searchsorted(names, learned))
        if self.mirrored:
            rows = np.concatenate([rows, rows + len(job.cases)])
            other = np.where(individual == UNKNOWN, UNKNOWN, individual + len(names))
            individual, weight = np.concatenate([individual, other]), np.concatenate([weight] * 2)
        torch.manual_seed(seed_of(job.key))
        model = self._model(pretrained=True)
        every = np.arange(len(job.cases))
        ids = [job.cases[k].id for k in job.held.tolist()]

        def embedded(model: nn.Module) -> np.ndarray:
            return self._embedded(model, pictures, every, job.resources)

        def judge(model: nn.Module) -> float:
            vectors = embedded(model)
            state = with_gallery(State({}), job, vectors)
            seen, held = State(state.tensors, state.notes), vectors[job.held]
            (said,) = answers(
                [seen],
                lambda _, gallery: gallery.likeness(held, self.nearest),
                ids,
                reading=0.0,
                device="cpu",
            )
            return job.judge(said)

        both = _WithMirror(pictures, len(job.cases))
        trained = self.training.fit(
            job,
            model,
            self.loss.build(len(names) * (1 + self.mirrored), self.head.width),
            self.training.lessons(job, both, rows, individual, weight),
            judge=judge,
            accumulate=accumulate,
        )
        weights = {WEIGHTS + k: v for k, v in trained.tensors.items()}
        model.load_state_dict({k: torch.tensor(v) for k, v in trained.tensors.items()})
        state = with_gallery(State({}), job, embedded(folded(model)))
        return State({**weights, **state.tensors}, {**trained.notes, **state.notes}, state.for_new)

    def _model(self, *, pretrained: bool) -> nn.Sequential:
        return self.training.model(
            self.head.build, pooled=self.head.pool is None, pretrained=pretrained
        )

    def _restored(self, state: State) -> nn.Module:
        model = self._model(pretrained=False)
        own = {k: v for k, v in state.tensors.items() if k.startswith(WEIGHTS)}
        model.load_state_dict({k.removeprefix(WEIGHTS): torch.tensor(v) for k, v in own.items()})
        return model

    def _embedded(
        self,
        model: nn.Module,
        pictures: Pictures,
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> Float[np.ndarray, "row feature"]:
        """Unit vectors; with mirrors two end to end, so that a cosine is the mean of two."""
        ways = [pictures, _WithMirror(pictures, 0)] if self.mirrored else [pictures]
        found = [
            unit(self.training.outputs(model, way, rows, at_length_one, resources)) for way in ways
        ]
        return unit(np.concatenate(found, axis=1))


def at_length_one(embedding: Float[Tensor, "case feature"]) -> Float[Tensor, "case feature"]:
    """Embeddings at length 1, so that every view counts alike."""
    return nn.functional.normalize(embedding)


@dataclass(frozen=True, slots=True)
class _WithMirror:
    """Pictures by row, and from row `plain` on the same ones mirrored left to right."""

    pictures: Pictures
    plain: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pictures.shape

    @property
    def dtype(self) -> np.dtype:
        return self.pictures.dtype

    def __call__(self, row: int) -> Pixels:
        if row < self.plain:
            return self.pictures(row)
        return np.ascontiguousarray(self.pictures(row - self.plain)[:, ::-1])
