"""A network as a member: pictures, encoder, head, loop and inference joined behind one door.

Precision and memory layout follow from the kind of device by a fixed rule unless a recipe says
otherwise: on a CPU float32, channels last for networks with depthwise convolutions; on CUDA
bfloat16, channels last. How many threads read pictures changes nothing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foveal.errors import MemoryBudgetError
from foveal.manifest import Case
from foveal.members.pictures import Stored, readable, score_each
from foveal.models.backbone import Backbone, Standardise, is_depthwise
from foveal.models.heads import Head
from foveal.predict.infer import View, score
from foveal.predictions import Predictions
from foveal.study import digest, write_json
from foveal.task import Job, Resources, State
from foveal.train.batches import Batches, even_parts
from foveal.train.cache import Direct, Mapped
from foveal.train.checkpoint import Checkpoint
from foveal.train.loop import Epoch, Plan, Watch, fit
from foveal.train.optim import AdamW

SAMPLER_STREAM = 1 << 21
"""Keeps the randomness of an epoch's draws apart from that of its cases."""

CURVE_POINTS = 10
"""About how often the held fold is scored during a training, for the curve alone."""

SCORE_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Everything that decides a network's training.

    Attributes:
        name: Of the member.
        pictures: Prepared ones.
        size: Their height and width, in pixels.
        backbone: Encoder.
        head: Pooling and outputs.
        loss: From logits and target to a number that falls.
        to_scores: From logits to scores.
        mean: Of the pictures a channel, as a share of full scale.
        std: Of the pictures a channel, as a share of full scale.
        bits: Of the pictures.
        augment: Varies a picture in training.
        mix: Blends the cases of a batch in training.
        sampler: Which cases an epoch shows.
        views: Ways to look at a case when scoring.
        epochs: Passes over the training cases.
        batch: Cases a step.
        optim: From a model to its optimiser.
        warm_up: Epochs until the peak learning rate.
        ema: Decay of the average of the weights.
        clip: Largest norm of the gradient.
        precision: "32-true", "bf16-mixed", or "auto" for the rule above.
        layout: "contiguous", "channels_last", or "auto".
        columns: Names of the scores.
    """

    kind: ClassVar[str] = "networks"

    name: str
    pictures: Stored
    size: tuple[int, int]
    backbone: Backbone
    head: Head
    loss: Callable
    to_scores: Callable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: int
    augment: Callable
    mix: Callable | None
    sampler: Callable
    views: tuple[View, ...]
    epochs: int
    batch: int
    optim: Callable[[nn.Module], torch.optim.Optimizer] = field(default_factory=AdamW)
    warm_up: float = 1.0
    ema: float = 0.99
    clip: float = 1.0
    precision: str = "auto"
    layout: str = "auto"
    columns: tuple[str, ...] = ("expected",)

    # --- the protocol of a member -----------------------------------------------------------------

    def fit(self, job: Job) -> State:
        """Train on the training rows of a job; out of memory cuts the batch into parts."""
        accumulate = int(job.overrides.get("accumulate", 1))
        while True:
            try:
                return self._fit(job, accumulate)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            if accumulate >= self.batch:
                raise MemoryBudgetError(
                    f"{self.name}: out of memory even with one case at a time; cure: a smaller "
                    "size= or backbone="
                )
            accumulate = min(2 * accumulate, self.batch)
            job.report({"note": f"out of memory: the batch is cut into {accumulate} parts"})
            write_json(job.folder / "override.json", {"accumulate": accumulate})
            _free(job.resources.device)

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states."""
        pictures = self.pictures(cases, resources)
        rows = readable(rows, pictures)
        return score_each(
            states,
            lambda state: self._scored(self._restored(state), pictures, rows, resources),
            [cases[row].id for row in rows.tolist()],
            columns=self.columns,
            reading=self.pictures.seconds(cases, rows),
            device=resources.device,
        )

    def check(self) -> None:
        """Raise where the backbone is unknown."""
        self.backbone.check()

    def estimate(self, cases: int, resources: Resources) -> float:
        """Seconds of one training on so many cases, from small steps on this machine."""
        model = self._model(share=self._even_share(), pretrained=False)
        _, channels_last = self._numerics(model, resources.device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        images = torch.zeros(4, len(self.mean), *self.size, device=resources.device)
        images = images.contiguous(memory_format=layout)
        model = model.to(resources.device).to(memory_format=layout)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as a job computes
        seconds = min(_step_seconds(model, images) for _ in range(3))
        torch.set_num_threads(threads)
        return seconds / len(images) * cases * self.epochs

    # --- training ---------------------------------------------------------------------------------

    def _fit(self, job: Job, accumulate: int) -> State:
        pictures = self.pictures(job.cases, job.resources)
        target, weight = job.target[job.train], job.weight[job.train]
        share = weight @ target / weight.sum()
        torch.manual_seed(_seed(job.key))
        model = self._model(share=tuple(share.tolist()), pretrained=True)
        plan = self._plan(model, job.resources.device, accumulate)
        data = _Epochs(
            batches=Batches(pictures, job.resources.threads, self.augment),
            rows=job.train,
            target=target.astype(np.float32),
            weight=weight,
            sampler=self.sampler,
            batch=self.batch,
            key=job.key,
        )
        every = max(1, round(self.epochs / CURVE_POINTS))
        judged = copy.deepcopy(model)

        def observe(epoch: Epoch, average: dict[str, Tensor]) -> None:
            row = {
                "epoch": epoch.epoch + 1,
                "epochs": epoch.epochs,
                "loss": epoch.loss,
                "lr": epoch.lr,
                "seconds": epoch.seconds,
                "done": (epoch.epoch + 1) / epoch.epochs,
            }
            if (epoch.epochs - epoch.epoch - 1) % every == 0:
                judged.load_state_dict(average)
                scores = self._scored(judged, pictures, job.held, job.resources)
                ids = [job.cases[k].id for k in job.held.tolist()]
                row["held"] = job.judge(Predictions.of(ids, scores, columns=self.columns))
            job.report(row)

        watch = Watch(
            observe=observe,
            should_stop=job.resources.should_stop,
            checkpoint=Checkpoint(
                job.folder / "checkpoint.safetensors",
                digest(job.mark, accumulate),
                job.checkpoint_seconds,
            ),
        )
        weights = fit(
            model,
            copy.deepcopy(self.loss) if isinstance(self.loss, nn.Module) else self.loss,
            data,
            plan,
            key=job.key,
            watch=watch,
            mix=self.mix,
            device=job.resources.device,
        )
        notes = {
            "device": job.resources.device.partition(":")[0],
            "precision": plan.precision,
            "channels_last": plan.channels_last,
            "accumulate": accumulate,
            "share": share.tolist(),
        }
        return State({k: v.numpy() for k, v in weights.items()}, notes)

    def _plan(self, model: nn.Module, device: str, accumulate: int) -> Plan:
        precision, channels_last = self._numerics(model, device)
        return Plan(
            epochs=self.epochs,
            optim=self.optim,
            warm_up=self.warm_up,
            ema=self.ema,
            clip=self.clip,
            accumulate=accumulate,
            precision=precision,
            channels_last=channels_last,
        )

    def _numerics(self, model: nn.Module, device: str) -> tuple[str, bool]:
        """Precision and channels-last, by the fixed rule or as the recipe says."""
        is_cuda = device.startswith("cuda")
        precision = (
            ("bf16-mixed" if is_cuda else "32-true") if self.precision == "auto" else self.precision
        )
        fits = is_cuda or is_depthwise(model)
        return precision, fits if self.layout == "auto" else self.layout == "channels_last"

    # --- pieces -----------------------------------------------------------------------------------

    def _model(self, *, share: tuple[float, ...], pretrained: bool) -> nn.Sequential:
        channels, full = len(self.mean), float(2**self.bits - 1)
        encoder = self.backbone.build(
            channels=channels, pooled=self.head.pool is None, pretrained=pretrained
        )
        standardise = Standardise(self.mean, self.std, full)
        return nn.Sequential(standardise, encoder, self.head.build(encoder.width, share))

    def _even_share(self) -> tuple[float, ...]:
        outputs = len(self.head.outputs.start((0.5, 0.5)))
        return (1 / max(outputs, 2),) * max(outputs, 2)

    def _restored(self, state: State) -> nn.Module:
        model = self._model(share=tuple(state.notes["share"]), pretrained=False)
        model.load_state_dict({k: torch.tensor(v) for k, v in state.tensors.items()})
        return model

    def _scored(
        self,
        model: nn.Module,
        pictures: Mapped | Direct,
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> Float[np.ndarray, "case column"]:
        precision, channels_last = self._numerics(model, resources.device)
        parts = [rows[k : k + SCORE_BATCH] for k in range(0, len(rows), SCORE_BATCH)]
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        return score(
            model,
            Batches(pictures, resources.threads)(parts),
            self.to_scores,
            views=self.views,
            device=resources.device,
            precision=precision,
            channels_last=channels_last,
            should_stop=resources.should_stop,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epochs:
    """The training batches of any epoch."""

    batches: Batches
    rows: Int[np.ndarray, " row"]
    target: Float[np.ndarray, "row grade"]
    weight: Float[np.ndarray, " row"]
    sampler: Callable
    batch: int
    key: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, round(len(self.rows) / self.batch))

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and targets of the steps from `first` on."""
        rng = np.random.default_rng((*self.key, epoch, SAMPLER_STREAM))
        draws = self.sampler(self.target, self.weight, rng)
        parts = even_parts(draws, self.batch)
        pictures = self.batches([self.rows[p] for p in parts], key=(*self.key, epoch), first=first)
        for part, images in zip(parts[first:], pictures, strict=True):
            yield images, torch.from_numpy(self.target[part])


def _step_seconds(model: nn.Module, images: Tensor) -> float:
    started = time.monotonic()
    model(images).sum().backward()
    return time.monotonic() - started


def _seed(key: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in text


def _free(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
