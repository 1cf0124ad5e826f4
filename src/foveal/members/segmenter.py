"""A 2.5-D network as a member: crops of volumes in, one plane of scores a unit out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from foveal.errors import DataError, UsageError
from foveal.lattice import cells
from foveal.losses.overlap import foreground
from foveal.manifest import Case, Window
from foveal.members.pictures import peak_bytes
from foveal.members.training import SAMPLER_STREAM, Training, seed_of, with_less_memory
from foveal.members.volumes import (
    StoredVolumes,
    as_predictions,
    inside_region,
    learnable,
    mask_of,
    window_of,
)
from foveal.models.backbone import Standardise
from foveal.models.volumetric import Volumetric
from foveal.predict.windows import score_plane
from foveal.predictions import Predictions
from foveal.read.volume import Volume
from foveal.task import Job, Resources, State
from foveal.transforms.tiles import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """A volumetric network, how it is trained on crops, and how windows become a plane.

    Attributes:
        name: Of the member.
        network: Its shape.
        loss: From logits and target planes to a number that falls.
        training: How it is trained; its size is that of a crop, in pixels.
        windows: How a plane is scored.
        alternate: Whether windows are seen flipped in turn.
        z_shift: Most slices by which a crop is moved in depth, either way.
        shuffle: Share of crops whose slices are shuffled inside their groups, all groups alike.
        crops: Crops of an epoch.
        guard: Pixels that learning keeps away from parts that the fold judges.
    """

    kind: ClassVar[str] = "networks"

    name: str
    network: Volumetric
    loss: Callable
    training: Training = field(metadata={"inline": True})
    windows: Windows
    alternate: bool = True
    z_shift: int = 0
    shuffle: float = 0.0
    crops: int = 1000
    guard: int = 0

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
        models = [self._restored(state) for state in states]
        kept: list[Case] = []
        planes: list[list[np.ndarray]] = [[] for _ in models]
        seconds: list[list[float]] = [[] for _ in models]
        for row in rows.tolist():
            case = cases[row]
            try:
                volume = self._stored(case, resources)
            except DataError:
                continue
            kept.append(case)
            for model, into, took in zip(models, planes, seconds, strict=True):
                started = time.monotonic()
                into.append(self._plane(model, case, volume, resources))
                took.append(time.monotonic() - started)
        peak = peak_bytes(resources.device)
        return [
            as_predictions(kept, into, seconds=took, peak_bytes=peak)
            for into, took in zip(planes, seconds, strict=True)
        ]

    def check(self) -> None:
        """Raise where the backbone is unknown, or its maps fit neither lattice nor crops."""
        backbone = self.training.backbone
        stride = self.network.build(backbone, pretrained=False).encoder.strides[-1]
        side = self.training.size[0]
        if side % stride:
            raise UsageError(
                f"size={side}: the last feature map of {backbone.name} has cells of {stride} "
                f"pixels; cure: size={max(1, round(side / stride)) * stride}"
            )

    def estimate(self, cases: int, resources: Resources) -> float:
        """Seconds of one training, from small steps on this machine."""
        return self.training.seconds(
            self._model(pretrained=False), self.crops, resources, channels=self.network.slices
        )

    # --- training ---------------------------------------------------------------------------------

    def _fit(self, job: Job, accumulate: int) -> State:
        torch.manual_seed(seed_of(job.key))
        volumes = [self._stored(job.cases[k], job.resources) for k in job.train.tolist()]
        lessons = _Crops(
            volumes=volumes,
            masks=[
                mask_of(str(job.target[k]), volume)
                for k, volume in zip(job.train.tolist(), volumes, strict=True)
            ],
            allowed=learnable(
                job.cases, job.train.tolist(), job.held.tolist(), volumes, guard=self.guard
            ),
            weight=job.weight[job.train],
            member=self,
            key=job.key,
        )
        held = [(k, self._stored(job.cases[k], job.resources)) for k in job.held.tolist()]

        def judge(model: nn.Module) -> float:
            cases = [job.cases[k] for k, _ in held]
            planes = [
                self._plane(model, case, volume, job.resources)
                for case, (_, volume) in zip(cases, held, strict=True)
            ]
            zeros = [0.0] * len(cases)
            return job.judge(as_predictions(cases, planes, seconds=zeros, peak_bytes=0))

        return self.training.fit(
            job,
            self._model(pretrained=True),
            self.loss,
            lessons,
            judge=judge,
            accumulate=accumulate,
        )

    # --- pieces -----------------------------------------------------------------------------------

    def _stored(self, case: Case, resources: Resources) -> Volume:
        return StoredVolumes(self.network.slices + 2 * self.z_shift)(case, resources)

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

    def _plane(
        self, model: nn.Module, case: Case, volume: Volume, resources: Resources
    ) -> Float[np.ndarray, "_ _"]:
        """The scores of a unit, on the lattice."""
        lattice, window = self.network.lattice, window_of(case, volume)
        side = self.windows.tile * lattice
        model = model.to(resources.device).eval()
        precision, _ = self.training.numerics(model, resources.device)
        kind = torch.device(resources.device).type
        depth = slice(self.z_shift, self.z_shift + self.network.slices)

        def read(row: int, column: int) -> np.ndarray:
            top, left = window.top + row * lattice, window.left + column * lattice
            pixels = volume(Window(top=top, left=left, height=side, width=side))
            return np.moveaxis(pixels[:, :, depth], 2, 0)

        def evaluate(windows: Tensor) -> Tensor:
            mixed = torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16-mixed")
            with torch.inference_mode(), mixed:
                logits = model(windows.to(resources.device))
            return foreground(logits.float())

        plane = score_plane(
            evaluate,
            read,
            self.windows,
            (-(-window.height // lattice), -(-window.width // lattice)),
            batch=self.training.batch,
            alternate=self.alternate,
            should_stop=resources.should_stop,
        )
        return inside_region(plane, case, volume, lattice)


@dataclass(frozen=True, kw_only=True)
class _Crops:
    """The training crops of any epoch, drawn evenly from where may be learned."""

    volumes: Sequence[Volume]
    masks: Sequence[Bool[np.ndarray, "_ _"]]
    allowed: Sequence[Bool[np.ndarray, "_ _"]]
    weight: Float[np.ndarray, " row"]
    member: Segmenter
    key: tuple[int, ...]

    @cached_property
    def rows(self) -> list[Int[np.ndarray, "_"]]:
        """How many pixels may be learned from up to every row, of each unit."""
        return [np.cumsum(a.sum(axis=1)) for a in self.allowed]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, round(self.member.crops / self.member.training.batch))

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Crops and target planes of the steps from `first` on."""
        batch = self.member.training.batch
        areas = np.array([float(rows[-1]) for rows in self.rows]) * self.weight
        for step in range(first, self.steps):
            made = []
            for k in range(step * batch, (step + 1) * batch):
                rng = np.random.default_rng((*self.key, epoch, SAMPLER_STREAM + k))
                made.append(self._crop(int(rng.choice(len(areas), p=areas / areas.sum())), rng))
            images, targets = zip(*made, strict=True)
            yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets))

    def _crop(self, unit: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One crop "slice height width" and its target "2 row column"."""
        member, volume = self.member, self.volumes[unit]
        lattice, (height, width) = member.network.lattice, member.training.size
        middle = self._place(unit, rng)
        window = Window(
            top=middle[0] - height // 2, left=middle[1] - width // 2, height=height, width=width
        )
        shift = int(rng.integers(0, 2 * member.z_shift + 1))
        slices = volume(window)[:, :, shift : shift + member.network.slices]
        planes = (self.masks[unit], self.allowed[unit])
        flat = np.concatenate([Volume(p.view(np.uint8)[:, :, None])(window) for p in planes], 2)
        picture, moved = member.training.augment.with_mask(
            np.ascontiguousarray(slices), flat * np.uint8(255), rng
        )
        if rng.random() < member.shuffle:
            picture = self._shuffled(picture, rng)
        share, area = (moved[:, :, k].astype(np.float32) / 255 for k in (0, 1))
        counted = cells(area, lattice)
        target = np.stack([cells(share * area, lattice) / np.maximum(counted, 1e-6), counted])
        target[1] /= lattice**2
        return np.ascontiguousarray(np.moveaxis(picture, 2, 0)), target.astype(np.float32)

    def _place(self, unit: int, rng: np.random.Generator) -> tuple[int, int]:
        """A pixel that may be learned from, each alike."""
        rows = self.rows[unit]
        row = int(np.searchsorted(rows, rng.random() * rows[-1], side="right"))
        columns = np.flatnonzero(self.allowed[unit][row])
        return row, int(columns[int(rng.random() * len(columns))])

    def _shuffled(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Slices in another order inside their groups, all groups alike."""
        groups, channels = self.member.network.groups, self.member.network.channels
        order = (np.arange(groups)[:, None] * channels + rng.permutation(channels)).reshape(-1)
        return picture[:, :, order]
