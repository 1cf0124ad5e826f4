"""A network as a member: pictures, encoder and head behind one door, ending in scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from foveal.manifest import Case
from foveal.members.memory import with_less_memory
from foveal.members.pictures import Prepared, all_readable, readable, score_each
from foveal.members.training import Training, snapshots_of
from foveal.models.bags import TileWeights
from foveal.models.folded import folded
from foveal.models.heads import Attention, Head
from foveal.predictions import Predictions
from foveal.task import Job, Resources, State
from foveal.train.batches import Pictures
from foveal.train.cache import Direct, Mapped
from foveal.train.seeds import seed_of
from foveal.transforms.views import identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A head of one approach on an encoder.

    Attributes:
        name: Of the member.
        pictures: Prepared ones.
        head: Pooling and outputs.
        loss: From logits and target to a number that falls.
        to_scores: From logits to scores.
        training: How it is trained.
        columns: Names of the scores.
        bag: Tiles that the encoder sees one by one, where a case is a bag of so many.
    """

    kind: ClassVar[str] = "networks"
    device: ClassVar[str] = "cuda"

    name: str
    pictures: Prepared
    head: Head
    loss: Callable
    to_scores: Callable
    training: Training = field(metadata={"inline": True})
    columns: tuple[str, ...] = ("expected",)
    bag: int | None = None

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
        return score_each(
            states,
            lambda state: self._mean_of(
                map(folded, self._restored(state)), pictures, rows, resources
            ),
            [cases[row].id for row in rows.tolist()],
            columns=self.columns,
            reading=self.pictures.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Raise where the backbone is unknown, or cannot see pictures of this size."""
        height, width = self.training.size
        channels = len(self.training.mean)
        self.training.backbone.check((height // (self.bag or 1), width), channels=channels)
        self.training.try_out(self._untrained)

    def estimate(self, cases: int, resources: Resources) -> float:
        """Seconds of one training on so many cases, from small steps on this machine."""
        return self.training.seconds(self._untrained(), cases, resources)

    def _fit(self, job: Job, accumulate: int) -> State:
        pictures = self.pictures(job.cases, job.resources)
        cases = [case.as_new for case in job.cases]
        as_new = pictures if cases == [*job.cases] else self.pictures(cases, job.resources)
        all_readable(job, pictures, as_new)
        rows = job.counted
        target, weight = job.target[rows], job.weight[rows]
        share = weight @ target / weight.sum()
        torch.manual_seed(seed_of(job.key))
        ids = [job.cases[k].id for k in job.held.tolist()]

        def judge(model: nn.Module) -> float:
            scores = self._scored(model, as_new, job.held, job.resources)
            return job.judge(Predictions.of(ids, scores, columns=self.columns))

        state = self.training.fit(
            job,
            self._model(share=tuple(share.tolist()), pretrained=True),
            self.loss,
            self.training.lessons(job, pictures, rows, target.astype(np.float32), weight),
            judge=judge,
            accumulate=accumulate,
        )
        state = State(state.tensors, {**state.notes, "share": share.tolist()})
        return replace(state, notes={**state.notes, **self._attention(state, as_new, job)})

    def _attention(self, state: State, pictures: Mapped | Direct, job: Job) -> dict[str, Any]:
        """How much every tile of the held cases counts, where the head says so."""
        if self.bag is None or self.head.pool is not Attention:
            return {}
        standardise, encoder, head = next(self._restored(state))
        pool = head.get_submodule("0")
        assert isinstance(pool, Attention)
        looking = nn.Sequential(standardise, encoder, TileWeights(pool, self.bag))
        once = replace(self.training, views=self.training.views[:1])
        weights = once.outputs(looking, pictures, job.held, identity, job.resources)
        named = zip((job.cases[row].id for row in job.held.tolist()), weights.tolist(), strict=True)
        return {"attention": {name: [round(w, 4) for w in line] for name, line in named}}

    def _model(self, *, share: tuple[float, ...], pretrained: bool) -> nn.Sequential:
        return self.training.model(
            lambda width: self.head.build(width, share),
            pooled=self.head.pool is None,
            pretrained=pretrained,
            tiles=self.bag,
        )

    def _untrained(self) -> nn.Sequential:
        outputs = max(2, len(self.head.outputs.start((0.5, 0.5))))
        return self._model(share=(1 / outputs,) * outputs, pretrained=False)

    def _restored(self, state: State) -> Iterator[nn.Sequential]:
        """The network of every snapshot."""
        for weights in snapshots_of(state):
            model = self._model(share=tuple(state.notes["share"]), pretrained=False)
            model.load_state_dict(weights)
            yield model

    def _mean_of(
        self,
        models: Iterator[nn.Module],
        pictures: Pictures,
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> Float[np.ndarray, "case column"]:
        return np.mean([self._scored(m, pictures, rows, resources) for m in models], axis=0)

    def _scored(
        self,
        model: nn.Module,
        pictures: Pictures,
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> Float[np.ndarray, "case column"]:
        return self.training.outputs(model, pictures, rows, self.to_scores, resources)
