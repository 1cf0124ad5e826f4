"""One plain epoch loop. Everything it does to the weights stands in `_Training.step`.

The loop is handed callables and knows no picture, loss or network by name. What decides the bits of
a training stands in `Plan`; the clock decides only when to save and when to stop. A training that
was stopped at any step and goes on ends in the same bits as one that was not (on a CPU)::

    (weights,) = fit(model, loss, data, Plan(epochs=10), key=(seed, member, fold), ...)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import Stopped, TrainingError
from foveal.train.checkpoint import Checkpoint, load_optimizer, optimizer_tensors, under
from foveal.train.optim import AdamW, Average, warm_up_and_cosine
from foveal.train.seeds import seed_of

NAN_RETRIES = 2
MIX_STREAM = 1 << 20
"""Keeps the randomness of a batch's mix apart from that of its cases."""

Mix = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


@runtime_checkable
class Data(Protocol):
    """The batches of any epoch, from any step on."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        ...

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and targets of the steps from `first` on; none where those were all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What decides the bits of a training, beside its data and its parts.

    Attributes:
        epochs: Passes over the data.
        optim: From a model to its optimiser.
        warm_up: Epochs until the peak learning rate.
        ema: Decay of the moving average of the weights a step; 0 keeps the last weights.
        clip: Largest norm of the gradient; 0 for none.
        accumulate: Parts that a batch is cut into, one after the other, to save memory.
        precision: "32-true" or "bf16-mixed".
        channels_last: Memory layout of pictures and convolutions.
        cycles: How often the learning rate falls to 0; it starts again at its peak, and what was
            learned by the end of each cycle is kept.
    """

    epochs: int
    optim: Callable[[nn.Module], torch.optim.Optimizer] = AdamW()
    warm_up: float = 1.0
    ema: float = 0.99
    clip: float = 1.0
    accumulate: int = 1
    precision: str = "32-true"
    channels_last: bool = False
    cycles: int = 1

    def cycle(self, epoch: int) -> tuple[int, int]:
        """The first epoch of the cycle that an epoch lies in, and the first one after it."""
        edges = [round(k * self.epochs / self.cycles) for k in range(self.cycles + 1)]
        return next((a, b) for a, b in pairwise(edges) if epoch < b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What an observer is told after each epoch."""

    epoch: int
    epochs: int
    loss: float
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Those who look on; none of them can change a result.

    Attributes:
        observe: Told after each epoch, with the averaged weights; it may be stopped, and is told
            again by the call that goes on.
        should_stop: Asked before each step.
        checkpoint: Where the state is saved.
    """

    observe: Callable[[Epoch, dict[str, Tensor]], None]
    should_stop: Callable[[], bool]
    checkpoint: Checkpoint


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: Data,
    plan: Plan,
    *,
    key: tuple[int, ...],
    watch: Watch,
    mix: Mix | None = None,
    device: str = "cpu",
) -> list[dict[str, Tensor]]:
    """Train a model, or go on with a training that was stopped.

    Args:
        model: From float images to logits, on any device.
        loss: From logits and target to a number that falls.
        data: Batches of any epoch.
        plan: What decides the bits.
        key: Of the randomness; with epoch and step it seeds the mix.
        watch: Observer, stop signal and checkpoint.
        mix: Blends the cases of a batch.
        device: "cpu" or "cuda:0".

    Returns:
        The averaged weights at the end of every cycle, on the CPU, the first one first.

    Raises:
        Stopped: The signal came; the state is saved.
        TrainingError: The loss was not finite three times.
    """
    training = _Training(model, loss, plan, key=key, mix=mix, device=device, steps=data.steps)
    epoch, first, total = training.resume(watch.checkpoint)
    saved = time.monotonic()
    while epoch < plan.epochs:
        started = time.monotonic()
        if first == 0:
            training.mark_epoch()
        step = first
        for images, target in data(epoch, first):
            if watch.should_stop():
                training.save(watch.checkpoint, epoch, step, total)
                raise Stopped("stopped; the same call goes on")
            if time.monotonic() - saved > watch.checkpoint.every_seconds:
                training.save(watch.checkpoint, epoch, step, total)
                saved = time.monotonic()
            total = total + training.step(images, target, epoch, step)
            step += 1
        first = 0
        mean = float(total) / data.steps
        if not math.isfinite(mean):
            total = torch.zeros((), device=device)
            training.back_to_epoch(epoch)
            continue
        report = Epoch(
            epoch=epoch,
            epochs=plan.epochs,
            loss=mean,
            lr=training.lr(epoch, step - 1),
            seconds=time.monotonic() - started,
        )
        try:
            watch.observe(report, training.average.state)
        except Stopped:  # the same call goes on with this look
            training.save(watch.checkpoint, epoch, step, total)
            raise
        total = torch.zeros((), device=device)
        epoch += 1
        if epoch == plan.cycle(epoch - 1)[1]:
            training.keep()
    return training.kept


class _Training:
    """Model, optimiser and average, and how they are saved."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        plan: Plan,
        *,
        key: tuple[int, ...],
        mix: Mix | None,
        device: str,
        steps: int,
    ) -> None:
        self.precision = _precision(plan.precision, device)
        trained = nn.ModuleList([model, loss]) if isinstance(loss, nn.Module) else model
        layout = torch.channels_last if plan.channels_last else torch.contiguous_format
        laid_out(trained.to(device=device), channels_last=plan.channels_last)
        self.model, self.loss, self.plan, self.mix = model, loss, plan, mix
        self.key, self.device, self.steps, self.layout = key, torch.device(device), steps, layout
        self.optimizer = plan.optim(trained)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.average = Average(model, plan.ema)
        self.parameters = [p for p in trained.parameters() if p.requires_grad]
        self.halvings = 0
        self.anchor: dict[str, Tensor] = {}
        self.kept: list[dict[str, Tensor]] = []
        model.train()

    def step(self, images: Tensor, target: Tensor, epoch: int, step: int) -> Tensor:
        """One update from one batch; its loss, still on the device."""
        images = images.to(self.device, non_blocking=True).to(torch.float32)
        images = images.contiguous(memory_format=self.layout)
        target = target.to(self.device, non_blocking=True)
        if self.mix is not None:
            rng = np.random.default_rng((*self.key, epoch, MIX_STREAM + step))
            images, target = self.mix(images, target, rng)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.lr(epoch, step)
        total = torch.zeros((), device=self.device)
        parts = min(self.plan.accumulate, len(images))
        for some, wanted in zip(images.chunk(parts), target.chunk(parts), strict=True):
            with self.precision.forward_context():
                logits = self.model(some)
            loss = self.loss(logits.float(), wanted) * (len(some) / len(images))
            self.precision.backward(loss, None)
            total += loss.detach()
        if self.plan.clip:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.plan.clip, foreach=True)
            total = total + 0 * norm  # a slope that is not finite spoils the weights as a loss does
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(epoch * self.steps + step)
        return total

    def lr(self, epoch: int, step: int) -> float:
        """Share of the peak learning rate; only the first cycle warms up, a quarter of it at most.

        In a single epoch it would else rise to the peak and end there.
        """
        start, stop = self.plan.cycle(epoch)
        done, all_steps = (epoch - start) * self.steps + step, (stop - start) * self.steps
        warm_up = 0 if start else min(round(self.plan.warm_up * self.steps), all_steps // 4)
        return warm_up_and_cosine(done, all_steps, warm_up) * 0.5**self.halvings

    def keep(self) -> None:
        """Remember the averaged weights of now."""
        now = {k: v.detach().cpu().clone() for k, v in self.average.state.items()}
        self.kept.append(now)

    # --- saving ----------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        named = {
            "model.": self.model.state_dict(),
            "loss.": self.loss.state_dict() if isinstance(self.loss, nn.Module) else {},
            "average.": self.average.state,
            "optimizer.": optimizer_tensors(self.optimizer),
            "random.": {"cpu": torch.get_rng_state()},
        }
        if self.device.type == "cuda":
            named["random."]["cuda"] = torch.cuda.get_rng_state(self.device)
        return {prefix + name: v for prefix, part in named.items() for name, v in part.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` gave."""
        self.model.load_state_dict(under(tensors, "model."))
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(under(tensors, "loss."))
        self.average.load(under(tensors, "average."))
        load_optimizer(self.optimizer, under(tensors, "optimizer."))
        torch.set_rng_state(tensors["random.cpu"].cpu())
        if "random.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), self.device)

    def save(self, checkpoint: Checkpoint, epoch: int, step: int, total: Tensor) -> None:
        """Save this step, and the start of its epoch, to which a NaN would lead back."""
        tensors = self.tensors() | {f"anchor.{k}": v for k, v in self.anchor.items()}
        for number, weights in enumerate(self.kept):
            tensors |= {f"kept{number}.{k}": v for k, v in weights.items()}
        numbers: dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "halvings": self.halvings,
            "kept": len(self.kept),
        }
        checkpoint.save(tensors | {"total": total}, numbers)

    def resume(self, checkpoint: Checkpoint) -> tuple[int, int, Tensor]:
        """The epoch and step to go on with, and the loss added up so far."""
        found = checkpoint.load()
        if found is None:
            torch.manual_seed(seed_of(self.key))
            return 0, 0, torch.zeros((), device=self.device)
        tensors, numbers = found
        self.anchor = under(tensors, "anchor.")
        self.halvings = numbers["halvings"]
        self.kept = [under(tensors, f"kept{number}.") for number in range(numbers["kept"])]
        self.load(tensors)
        return numbers["epoch"], numbers["step"], tensors["total"].to(self.device)

    def mark_epoch(self) -> None:
        """Remember the start of an epoch."""
        self.anchor = {k: v.detach().clone() for k, v in self.tensors().items()}

    def back_to_epoch(self, epoch: int) -> None:
        """After a loss that is not finite: the start of the epoch again, at half the rate."""
        if self.halvings == NAN_RETRIES:
            raise TrainingError(
                f"the loss was not finite in epoch {epoch + 1}, also at a quarter of the learning "
                "rate; cure: a smaller lr=, or a look at the pictures"
            )
        self.halvings += 1
        self.load(self.anchor)


def laid_out(model: nn.Module, *, channels_last: bool) -> nn.Module:
    """The same model, its 2-D convolutions in one memory layout.

    `Module.to(memory_format=torch.channels_last)` refuses a model that also has 3-D ones.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _precision(name: Any, device: str) -> Any:
    """Fabric's own part for this precision.

    `Fabric` itself would also read variables of the environment, of its own and of SLURM.
    """
    try:
        from lightning_fabric.plugins.precision import MixedPrecision, Precision
    except ImportError:  # the full distribution carries the same engine
        from lightning.fabric.plugins.precision import (  # pyrefly: ignore[missing-import]
            MixedPrecision,
            Precision,
        )
    if name == "32-true":
        return Precision()
    return MixedPrecision(name, device.partition(":")[0])
