"""How a network is trained and looked through, whatever it is for.

Precision and memory layout follow from the kind of device by a fixed rule unless a recipe says
otherwise: on a CPU float32, channels last for networks with depthwise convolutions; on CUDA
bfloat16, channels last. How many threads read pictures changes nothing.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from foveal.arrays import Pixels, Resized
from foveal.digests import digest
from foveal.errors import UsageError, first_line
from foveal.members.memory import in_smaller_batches
from foveal.models.backbone import Backbone, Standardise, is_depthwise
from foveal.models.bags import TileEncoder
from foveal.predict.infer import View, score
from foveal.study import CHECKPOINT
from foveal.task import Job, Resources, State
from foveal.train.batches import Batches, Pictures, even_parts, steps_of
from foveal.train.checkpoint import Checkpoint
from foveal.train.loop import Data, Epoch, Plan, Watch, fit, laid_out
from foveal.train.optim import AdamW
from foveal.train.sampling import Uniform
from foveal.transforms.views import centre

PROBED_PIXELS = 1 << 21
"""At most so many are in the step that says how long a training takes; time goes with them."""

SAMPLER_STREAM = 1 << 21
"""Keeps the randomness of an epoch's draws apart from that of its cases."""

CURVE_POINTS = 6
"""Most times that the held fold is scored during a training, for the curve alone."""

SCORE_BATCH, SCORE_PIXELS = 64, 1 << 24
"""Most cases, and most pixels of them, that are scored at a time."""

TROUBLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What networks raise that cannot see pictures of a size."""

SNAPSHOT = "-snapshot-"
"""Stands between the number of a snapshot and the name of a weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What decides a training, beside what it is for.

    Attributes:
        size: Height and width of what the network sees, in pixels.
        backbone: Makes the encoder.
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
        cycles: How often the learning rate falls to 0.
        snapshots: Cycles whose weights are kept, the last ones.
        precision: "32-true", "bf16-mixed", or "auto" for the rule above.
        layout: "contiguous", "channels_last", or "auto".
    """

    size: tuple[int, int]
    backbone: Backbone
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: int
    augment: Callable[[Pixels, np.random.Generator], Resized]
    sampler: Callable = field(default_factory=Uniform)
    views: tuple[View, ...] = centre
    epochs: int
    batch: int
    mix: Callable | None = None
    optim: Callable[[nn.Module], torch.optim.Optimizer] = field(default_factory=AdamW)
    warm_up: float = 1.0
    ema: float = 0.99
    clip: float = 1.0
    cycles: int = 1
    snapshots: int = 1
    precision: str = "auto"
    layout: str = "auto"

    def __post_init__(self) -> None:
        """Raise a `UsageError` where a cycle would have no epoch, or a snapshot no cycle."""
        if self.cycles > self.epochs:
            raise UsageError(
                f"cycles={self.cycles}: a cycle takes an epoch at least, and there are "
                f"epochs={self.epochs}; cure: fewer cycles, or more epochs"
            )
        if self.snapshots > self.cycles:
            raise UsageError(
                f"snapshots={self.snapshots}: a snapshot is taken at the end of a cycle, and there "
                f"are cycles={self.cycles}; cure: fewer snapshots, or more cycles"
            )

    def require_one_state(self, name: str) -> None:
        """Raise where a member that answers with one state is to keep several."""
        if self.snapshots > 1:
            raise UsageError(
                f"{name}: snapshots={self.snapshots}, but it answers with its last state alone; "
                "cure: snapshots=1"
            )

    def model(
        self,
        head: Callable[[int], nn.Module],
        *,
        pooled: bool,
        pretrained: bool,
        tiles: int | None = None,
    ) -> nn.Sequential:
        """Standardisation, encoder and the head that is made for the encoder's features.

        Args:
            head: From the number of features to a module.
            pooled: Whether the encoder pools its feature map itself.
            pretrained: False where trained weights will be loaded anyway.
            tiles: That the encoder sees one by one, where a case is a bag of so many.
        """
        encoder = self.backbone.build(channels=len(self.mean), pooled=pooled, pretrained=pretrained)
        standardise = Standardise(self.mean, self.std, float(2**self.bits - 1))
        seen = encoder if tiles is None else TileEncoder(encoder, tiles)
        return nn.Sequential(standardise, seen, head(encoder.width))

    def fit(
        self,
        job: Job,
        model: nn.Module,
        loss: Callable,
        lessons: Data,
        *,
        judge: Callable[[nn.Module], float],
        accumulate: int,
        points: int = CURVE_POINTS,
    ) -> State:
        """Train a model; its state has the averaged weights, and how they were computed.

        The weights of the last cycle stand under their own names, those of earlier ones behind the
        name of the snapshot, see `snapshots_of`.

        Args:
            job: Whose folder, clock and signals are used.
            model: Changed in place.
            loss: From outputs and target to a number that falls.
            lessons: The batches of any epoch.
            judge: From a model to the number on the curve.
            accumulate: Parts that a batch is cut into.
            points: Most times that it is judged on the way, the last epoch included.
        """
        device = job.resources.device
        precision, channels_last = numerics = self.numerics(model, device)
        plan = Plan(
            epochs=self.epochs,
            optim=self.optim,
            warm_up=self.warm_up,
            ema=self.ema,
            clip=self.clip,
            accumulate=accumulate,
            precision=precision,
            channels_last=channels_last,
            cycles=self.cycles,
        )
        watch = Watch(
            observe=self._observer(job, copy.deepcopy(model), judge, points),
            should_stop=job.resources.should_stop,
            checkpoint=Checkpoint(
                job.folder / CHECKPOINT,
                digest(job.mark, accumulate, device.partition(":")[0], numerics),
                job.checkpoint_seconds,
            ),
        )
        kept = fit(
            model,
            copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss,
            lessons,
            plan,
            key=job.key,
            watch=watch,
            mix=self.mix,
            device=device,
        )
        notes = {
            "device": device.partition(":")[0],
            "precision": precision,
            "channels_last": channels_last,
            "accumulate": accumulate,
        }
        tensors = {}
        for back, weights in enumerate(kept[::-1][: self.snapshots]):
            tensors |= {_prefix(back) + k: v.numpy() for k, v in weights.items()}
        return State(tensors, notes)

    def _observer(
        self, job: Job, judged: nn.Module, judge: Callable[[nn.Module], float], points: int
    ) -> Callable[[Epoch, dict[str, Tensor]], None]:
        every = math.ceil(self.epochs / points)

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
                row["held"] = judge(judged)
            job.report(row)

        return observe

    def lessons(
        self,
        job: Job,
        pictures: Pictures,
        rows: Int[np.ndarray, " row"],
        target: Shaped[np.ndarray, "row ..."],
        weight: Float[np.ndarray, " row"],
    ) -> Lessons:
        """The batches of some rows of the pictures, with a target for each."""
        return Lessons(
            batches=Batches(pictures, job.resources.threads, self.augment, self.size),
            rows=rows,
            target=target,
            weight=weight,
            sampler=self.sampler,
            batch=self.batch,
            key=job.key,
        )

    def outputs(
        self,
        model: nn.Module,
        pictures: Pictures,
        rows: Int[np.ndarray, " row"],
        to_scores: Callable[[Tensor], Tensor],
        resources: Resources,
    ) -> Float[np.ndarray, "case output"]:
        """What a trained model gives for rows of the pictures, the mean over views.

        Raises:
            MemoryBudgetError: One picture at a time is too much.
        """
        precision, channels_last = self.numerics(model, resources.device)
        most = SCORE_PIXELS // max(int(np.prod(pictures.shape[:2])), 1)

        def scored(batch: int) -> Float[np.ndarray, "case output"]:
            parts = [rows[k : k + batch] for k in range(0, len(rows), batch)]
            return score(
                model,
                Batches(pictures, resources.threads)(parts),
                to_scores,
                views=self.views,
                device=resources.device,
                precision=precision,
                channels_last=channels_last,
                should_stop=resources.should_stop,
            )

        batch = max(1, min(SCORE_BATCH, most, len(rows)))
        return in_smaller_batches(batch, scored, resources.device)

    def numerics(self, model: nn.Module, device: str) -> tuple[str, bool]:
        """Precision and channels-last, by the fixed rule or as the recipe says."""
        is_cuda = device.startswith("cuda")
        precision = (
            ("bf16-mixed" if is_cuda else "32-true") if self.precision == "auto" else self.precision
        )
        fits = is_cuda or is_depthwise(model)
        return precision, fits if self.layout == "auto" else self.layout == "channels_last"

    def try_out(self, build: Callable[[], nn.Module], *, channels: int | None = None) -> None:
        """Raise where a network cannot be built, or not learn from a batch of this size.

        Args:
            build: Makes it.
            channels: Of its input; as many as the mean has if left out.

        Raises:
            UsageError: With what the network says.
        """
        height, width = self.size
        images = torch.zeros(min(self.batch, 2), channels or len(self.mean), height, width)
        try:
            with torch.no_grad():
                build().train()(images)
        except TROUBLE as error:
            raise UsageError(
                f"backbone={self.backbone.name} cannot learn from batches of {len(images)} and "
                f"{height} x {width} pixels ({first_line(error)}); cure: another size=, batch= or "
                "backbone="
            ) from None

    def seconds(
        self, model: nn.Module, cases: int, resources: Resources, *, channels: int | None = None
    ) -> float:
        """About what a training on so many cases takes, from small steps on this machine.

        Args:
            model: To be trained.
            cases: Of an epoch.
            resources: Whose device computes.
            channels: Of its input; as many as the mean has if left out.
        """
        precision, channels_last = self.numerics(model, resources.device)
        is_mixed = precision == "bf16-mixed"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        channels = channels or len(self.mean)
        count = min(self.batch, 4)
        size, larger = self.size, 1
        while count * size[0] * size[1] > PROBED_PIXELS and not any(side % 128 for side in size):
            size, larger = (size[0] // 2, size[1] // 2), 4 * larger
        images = torch.zeros(count, channels, *size, device=resources.device)
        images = images.contiguous(memory_format=layout)
        model = laid_out(model.to(resources.device), channels_last=channels_last)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as a job computes
        try:
            seconds = min(_step_seconds(model, images, is_mixed=is_mixed) for _ in range(3))
        finally:
            torch.set_num_threads(threads)
        return larger * seconds / len(images) * cases * self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The training batches of any epoch."""

    batches: Batches
    rows: Int[np.ndarray, " row"]
    target: Shaped[np.ndarray, "row ..."]
    weight: Float[np.ndarray, " row"]
    sampler: Callable
    batch: int
    key: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_of(len(self.rows), self.batch)

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and targets of the steps from `first` on."""
        rng = np.random.default_rng((*self.key, epoch, SAMPLER_STREAM))
        draws = self.sampler(self.target, self.weight, rng)
        parts = even_parts(draws, self.batch)
        pictures = self.batches([self.rows[p] for p in parts], key=(*self.key, epoch), first=first)
        for part, images in zip(parts[first:], pictures, strict=True):
            yield images, torch.from_numpy(self.target[part])


def snapshots_of(state: State) -> list[dict[str, Tensor]]:
    """The weights of every snapshot in a state, the last one first."""
    found: dict[str, dict[str, Tensor]] = {"": {}}
    for name, value in state.tensors.items():
        prefix, mark, rest = name.rpartition(SNAPSHOT)
        found.setdefault(prefix + mark, {})[rest] = torch.tensor(value)
    return list(found.values())


def _prefix(back: int) -> str:
    """What stands before the names of the weights of so many cycles ago."""
    return f"{back}{SNAPSHOT}" if back else ""


def _step_seconds(model: nn.Module, images: Tensor, *, is_mixed: bool) -> float:
    started = time.monotonic()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=is_mixed):
        outputs = model(images)
    outputs.float().sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.monotonic() - started
