"""A 2.5-D network as a member: crops of volumes in, one plane of scores a unit out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foveal.errors import UsageError, first_line
from foveal.lattice import read_mask
from foveal.losses.overlap import foreground
from foveal.manifest import Case, Window
from foveal.members.crops import Crops
from foveal.members.memory import in_smaller_batches, with_less_memory
from foveal.members.pictures import peak_bytes
from foveal.members.training import CURVE_POINTS, Training
from foveal.members.volumes import (
    StoredVolumes,
    as_predictions,
    each_readable,
    inside_region,
    learnable,
    window_of,
)
from foveal.models.backbone import Standardise
from foveal.models.folded import folded
from foveal.models.volumetric import Volumetric, VolumetricModel
from foveal.predict.windows import Cover, Read, score_plane, shift_agreement
from foveal.predictions import Predictions
from foveal.read.volume import Volume
from foveal.task import Job, Resources, State
from foveal.train.loop import laid_out
from foveal.train.seeds import seed_of
from foveal.transforms.tiles import Dense, Windows

Plan = Callable[[int, int], Sequence[Cover]]
"""From the rows and columns of a plane, in cells, to the windows that cover it, size by size."""

LOOK = 0.5
"""Time to score a pixel, as a share of the time to learn from one; halos are scored too."""

SHIFT_PLACES = 16
"""At which the shift test looks."""

LEAST_AGREEMENT = 0.95
"""Of the scores of a place alone and inside a larger crop, for large crops to be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """A volumetric network, how it is trained on crops, and how windows become a plane.

    Attributes:
        name: Of the member.
        network: Its shape.
        loss: From logits and target planes to a number that falls.
        training: How it is trained; its size is that of a crop, in pixels.
        windows: How a plane is scored.
        dense: A cheaper way, for a network that passes the shift test when it is trained; None to
            score by windows alone.
        z_shift: Most slices by which a crop is moved in depth, either way.
        shuffle: Share of crops whose slices are shuffled inside their groups, all groups alike.
        foreground: Share of crops that are drawn around foreground; the others are drawn evenly.
        crops: Crops of an epoch.
        guard: Pixels that learning keeps away from parts that the fold judges.
        spare_bits: Of 16, that the study's volumes leave empty.
        judged_pixels: Of a slice, that a fold judges, about; for estimates alone.
    """

    kind: ClassVar[str] = "networks"
    device: ClassVar[str] = "cuda"

    name: str
    network: Volumetric
    loss: Callable
    training: Training = field(metadata={"inline": True})
    windows: Windows
    dense: Dense | None = None
    z_shift: int = 0
    shuffle: float = 0.0
    foreground: float = 0.0
    crops: int = 1000
    guard: int = 0
    spare_bits: int = 0
    judged_pixels: int = field(default=0, metadata={"digest": False})

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
        """Score rows of the cases with each of several states; an unreadable case is left out."""
        models = [folded(self._restored(state)) for state in states]
        plans = [self._plan(int(state.notes["dense_step"])) for state in states]
        kept: list[Case] = []
        planes: list[list[np.ndarray]] = [[] for _ in models]
        seconds: list[list[float]] = [[] for _ in models]
        for case, volume, reading in each_readable(self._volumes, cases, rows, resources):
            kept.append(case)
            for model, plan, into, took in zip(models, plans, planes, seconds, strict=True):
                started, before = time.monotonic(), sum(map(len, planes))
                part = partial(_tell, resources, before, len(rows) * len(models))
                into.append(self._plane(model, plan, case, volume, replace(resources, scored=part)))
                took.append(time.monotonic() - started + reading / len(states))
        peak = peak_bytes(resources.device)
        return [
            as_predictions(kept, into, seconds=took, peak_bytes=peak)
            for into, took in zip(planes, seconds, strict=True)
        ]

    def check(self) -> None:
        """Raise where the backbone is unknown, or its maps fit neither lattice nor crops."""
        self.training.require_one_state(self.name)
        backbone = self.training.backbone
        backbone.check(self.training.size, channels=self.network.channels)
        stride, side = self._built().encoder.strides[-1], self.training.size[0]
        if side % stride:
            raise UsageError(
                f"size={side}: the last feature map of {backbone.name} has cells of {stride} "
                f"pixels; cure: size={max(1, round(side / stride)) * stride}"
            )
        if self.dense is not None:
            self._check_crops(self.dense, stride)
        slices = self.network.slices
        self.training.try_out(lambda: self._model(pretrained=False), channels=slices)

    def _check_crops(self, dense: Dense, stride: int) -> None:
        """Raise where a halo leaves nothing of a crop."""
        lattice = self.network.lattice
        if (dense.side - 2 * dense.halo) * lattice < stride:
            raise UsageError(
                f"block={dense.side * lattice} has no room between halos of "
                f"{dense.halo * lattice}; cure: block={2 * dense.halo * lattice + 4 * stride}"
            )

    def estimate(self, cases: int, resources: Resources) -> float:
        """Seconds of one training and of its answers, from small steps on this machine."""
        learning = self.training.seconds(
            self._model(pretrained=False), self.crops, resources, channels=self.network.slices
        )
        overlap = round((self.windows.tile / self.windows.stride) ** 2)
        looks = overlap if self.dense is None else self.dense.phases
        times = self._points(self.judged_pixels) + looks
        return learning * (1 + LOOK * times * self.judged_pixels / self._learned_pixels)

    @property
    def _learned_pixels(self) -> int:
        """Of a slice, that all crops of a training have."""
        return self.training.epochs * self.crops * math.prod(self.training.size)

    def _points(self, judged_pixels: int) -> int:
        """How often the curve may look at all that is judged: no more is seen than is learned."""
        return min(max(self._learned_pixels // max(judged_pixels, 1), 1), CURVE_POINTS)

    # --- training ---------------------------------------------------------------------------------

    def _fit(self, job: Job, accumulate: int) -> State:
        step = self._step(job)
        torch.manual_seed(seed_of(job.key))
        learned = job.train.tolist()
        volumes = [self._volumes(job.cases[k], job.resources) for k in learned]
        paths = [str(job.target[k]) for k in learned]
        planes = {path: volume.plane for path, volume in zip(paths, volumes, strict=True)}
        masks = {path: read_mask(path, plane) for path, plane in planes.items()}
        lessons = Crops(
            volumes=volumes,
            masks=[masks[path] for path in paths],  # parts of a volume share one
            allowed=learnable(job.cases, learned, job.held.tolist(), volumes, guard=self.guard),
            weight=job.weight[job.train],
            network=self.network,
            training=self.training,
            z_shift=self.z_shift,
            shuffle=self.shuffle,
            foreground=self.foreground,
            number=self.crops,
            key=job.key,
            threads=job.resources.threads,
        )
        held = [(job.cases[k], self._volumes(job.cases[k], job.resources)) for k in job.held]

        def judge(model: nn.Module) -> float:
            plan = self._plan(step, phases=1)  # a curve need not be exact
            planes = [self._plane(model, plan, *one, job.resources) for one in held]
            cases, zeros = [case for case, _ in held], [0.0] * len(held)
            return job.judge(as_predictions(cases, planes, seconds=zeros, peak_bytes=0))

        state = self.training.fit(
            job,
            self._model(pretrained=True),
            self.loss,
            lessons,
            judge=judge,
            accumulate=accumulate,
            points=self._points(sum(math.prod(window_of(*one).size) for one in held)),
        )
        notes: dict[str, float] = {"dense_step": step}
        if step and self.dense is not None:
            evaluate = self._evaluate(self._restored(state), job.resources)
            middle = self.training.size[0] // self.network.lattice // 4  # at least, on every side
            notes["shift_agreement"] = shift_agreement(
                evaluate, lessons.pairs(SHIFT_PLACES), min(self.dense.halo, middle)
            )
            if notes["shift_agreement"] < LEAST_AGREEMENT:
                words = f"scores depend on the window (shift test {notes['shift_agreement']:.2f})"
                job.report({"note": f"{words}; scored by small windows"})
                notes["dense_step"] = 0
        return replace(state, notes={**state.notes, **notes})

    # --- pieces -----------------------------------------------------------------------------------

    @property
    def _volumes(self) -> StoredVolumes:
        slices = self.network.slices + 2 * self.z_shift
        return StoredVolumes(slices, self.spare_bits, self.training.bits)

    def _built(self) -> VolumetricModel:
        """The network before it has learned anything."""
        return self.network.build(self.training.backbone, pretrained=False)

    def _step(self, job: Job) -> int:
        """The network's stride in cells, where large crops are wanted and it takes them, else 0."""
        if self.dense is None:
            return 0
        model, (height, width) = self._built().eval(), self.training.size
        stride = model.encoder.strides[-1]
        larger = torch.zeros(1, self.network.slices, height + stride, width + stride)
        try:
            with torch.inference_mode():
                model(larger)
        except (RuntimeError, AssertionError, ValueError) as error:
            words = f"takes no larger crops ({first_line(error)}); scored by small windows"
            job.report({"note": words})
            return 0
        return max(1, stride // self.network.lattice)

    def _model(self, *, pretrained: bool) -> nn.Sequential:
        training = self.training
        full = float(2**training.bits - 1)
        standardise = Standardise(training.mean, training.std, full)
        return nn.Sequential(
            standardise, self.network.build(training.backbone, pretrained=pretrained)
        )

    def _restored(self, state: State) -> nn.Module:
        model = self._model(pretrained=False)
        model.load_state_dict({k: torch.tensor(v) for k, v in state.tensors.items()})
        return model

    def _plan(self, step: int, **changes: int) -> Plan:
        """By large crops for a network that repeats itself every so many cells; 0: by windows."""
        if step and self.dense is not None:
            return replace(self.dense, step=step, **changes)
        return self.windows

    def _plane(
        self, model: nn.Module, plan: Plan, case: Case, volume: Volume, resources: Resources
    ) -> Float[np.ndarray, "_ _"]:
        """The scores of a unit, on the lattice."""
        lattice, window = self.network.lattice, window_of(case, volume)
        shape = (-(-window.height // lattice), -(-window.width // lattice))
        covers = plan(*shape)
        pixels = max(cover.weights.size for cover in covers) * lattice**2
        evaluate, read = self._evaluate(model, resources), self._reader(volume, window)

        def scored(batch: int) -> Float[np.ndarray, "_ _"]:
            return score_plane(evaluate, read, covers, shape, batch=batch, step=step)

        def step(share: float) -> None:
            resources.ask()
            resources.scored(share)

        batch = max(1, self.training.batch * int(np.prod(self.training.size)) // pixels)
        cure = "size=, block= or backbone="
        plane = in_smaller_batches(batch, scored, resources.device, cure=cure)
        return inside_region(plane, case, volume, lattice)

    def _reader(self, volume: Volume, window: Window) -> Read:
        """From places counted in cells of a unit to the pixels of a window."""
        lattice = self.network.lattice
        depth = slice(self.z_shift, self.z_shift + self.network.slices)

        def read(row: float, column: float, rows: int, columns: int) -> np.ndarray:
            place = Window(
                top=window.top + round(row * lattice),
                left=window.left + round(column * lattice),
                height=rows * lattice,
                width=columns * lattice,
            )
            return np.moveaxis(volume(place)[:, :, depth], 2, 0)

        return read

    def _evaluate(self, model: nn.Module, resources: Resources) -> Callable[[Tensor], Tensor]:
        """From windows to the probability of foreground."""
        precision, channels_last = self.training.numerics(model, resources.device)
        model = laid_out(model.to(resources.device), channels_last=channels_last).eval()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        kind = torch.device(resources.device).type

        def evaluate(windows: Tensor) -> Tensor:
            mixed = torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16-mixed")
            with torch.inference_mode(), mixed:
                logits = model(windows.to(resources.device).contiguous(memory_format=layout))
            return foreground(logits.float())

        return evaluate


def _tell(resources: Resources, before: int, planes: int, share: float) -> None:
    """Which share of all planes is scored, from the share of one."""
    resources.scored((before + share) / planes)
