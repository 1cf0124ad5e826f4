"""What a training step costs beside the network: ours, a bare PyTorch loop, and the frameworks.

All do the same work: AdamW, a cosine schedule, clipping, an average of the weights and a running
loss, on one thread, in its CPU time. With a null model (8 -> 5, linear) the loop is all that is
measured: a long run less a short one, so that setting up does not count. A step of resnet18 shows
what that is worth. All but fastai and timm, which bring their own, share one AdamW.

Goals: at most 150 us a step over the bare loop, and 2 % of a real step. A minute or two, with the
rivals installed::

    .venv-rivals/bin/python bench/loop.py
"""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from foveal.train.checkpoint import Checkpoint
from foveal.train.loop import Plan, Watch, fit
from foveal.train.optim import AdamW

LR, DECAY, CLIP = 1e-3, 0.99, 1.0
SHORT, LONG, ROUNDS = 20, 420, 8
"""Steps of a short and of a long run with the null model."""
REAL_STEPS, REAL_ROUNDS = 5, 12
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 2**25)
"""Numbers of glibc's malloc.h, and the largest values that it takes."""


class Repeated:
    """One batch again and again, from a call or by iterating; when each was asked for."""

    def __init__(self, images: Tensor, target: Tensor, steps: int) -> None:
        self.batch, self.steps, self.asked = (images, target), steps, []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            self.asked.append(time.thread_time())
            yield self.batch

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As `fit` asks for the batches of its one epoch."""
        return iter(self)


Loop = Callable[[nn.Module, Repeated], None]


def ours(model: nn.Module, data: Repeated) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "checkpoint.safetensors", "bench")
        watch = Watch(observe=lambda *_: None, should_stop=lambda: False, checkpoint=checkpoint)
        plan = Plan(epochs=1, optim=AdamW(LR), warm_up=0, ema=DECAY, clip=CLIP)
        fit(model, cross_entropy, data, plan, key=(0, 0), watch=watch)


def cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def follow(average: list[Tensor], model: nn.Module) -> None:
    torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 1 - DECAY)


def bare(model: nn.Module, data: Repeated) -> None:
    """The same work by hand."""
    optimizer = AdamW(LR)(model)
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    total = torch.zeros(())
    model.train()
    for step, (images, target) in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = LR * cosine(step, len(data))
        loss = cross_entropy(model(images), target)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        follow(average, model)
        total += loss.detach()


def timm_parts() -> Loop:
    """The bare loop with timm's optimiser, schedule, clipping and average."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    def loop(model: nn.Module, data: Repeated) -> None:
        optimizer = create_optimizer_v2(model, "adamw", lr=LR, weight_decay=0.02)
        schedule = CosineLRScheduler(optimizer, len(data), t_in_epochs=False)
        average = ModelEmaV3(model, decay=DECAY)
        total = torch.zeros(())
        model.train()
        for step, (images, target) in enumerate(data):
            loss = cross_entropy(model(images), target)
            loss.backward()
            dispatch_clip_grad(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            average.update(model, step=step)
            schedule.step_update(step)
            total += loss.detach()

    return loop


def lightning_minimal() -> Loop:
    """Lightning's Trainer with nothing that can be switched off."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, model: nn.Module, steps: int) -> None:
            super().__init__()
            self.model, self.steps, self.total = model, steps, torch.zeros(())
            self.average = [p.detach().clone() for p in model.parameters()]

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            loss = cross_entropy(self.model(batch[0]), batch[1])
            self.total += loss.detach()
            return loss

        def on_train_batch_end(self, *_: object) -> None:
            follow(self.average, self.model)

        def configure_optimizers(self) -> dict:
            optimizer = AdamW(LR)(self.model)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            stepwise = {"scheduler": schedule, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": stepwise}

    def loop(model: nn.Module, data: Repeated) -> None:
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=CLIP,
        )
        trainer.fit(Module(model, len(data)), data)

    return loop


def fastai_without_bar() -> Loop:
    """The Learner of fastai with its own optimiser, schedule and clipping."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what PyTorch has deprecated
        from fastai.callback.core import Callback
        from fastai.callback.schedule import ParamScheduler, SchedCos
        from fastai.callback.training import GradientClip
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner

    class Follow(Callback):
        def before_fit(self) -> None:
            self.average = [p.detach().clone() for p in self.model.parameters()]

        def after_step(self) -> None:
            follow(self.average, self.model)

    class Loader(Repeated):
        device, n, dataset, drop_last = torch.device("cpu"), 1, (), True

    def loop(model: nn.Module, data: Repeated) -> None:
        loaders = []
        for steps in (data.steps, 1):  # it always validates as well
            loaders.append(Loader(*data.batch, steps))
            loaders[-1].asked = data.asked
        learner = Learner(DataLoaders(*loaders), model, loss_func=nn.CrossEntropyLoss())
        parts = [GradientClip(CLIP), ParamScheduler({"lr": SchedCos(LR, 0)}), Follow()]
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, lr=LR, wd=0.02, cbs=parts)

    return loop


RIVALS: dict[str, Callable[[], Loop]] = {
    "timm's parts in a bare loop": timm_parts,
    "Lightning, minimal": lightning_minimal,
    "fastai, no bar": fastai_without_bar,
}


def importable() -> dict[str, Loop]:
    """The rivals that are installed."""
    found = {}
    for name, make in RIVALS.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return found


def null_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 5))


def null_seconds(loops: dict[str, Loop]) -> dict[str, float]:
    """A step of each loop with the null model: a long run less a short one."""
    images, target = torch.randn(64, 2, 2, 2), torch.randint(0, 5, (64,))
    least = {name: {SHORT: np.inf, LONG: np.inf} for name in loops}
    for turn in range(ROUNDS + 1):
        for name, loop in loops.items():
            for steps in (SHORT, LONG):
                started = time.thread_time()
                loop(null_model(), Repeated(images, target, steps))
                if turn:  # the first turn warms up
                    least[name][steps] = min(least[name][steps], time.thread_time() - started)
    return {name: (some[LONG] - some[SHORT]) / (LONG - SHORT) for name, some in least.items()}


def keep_freed_memory() -> None:
    """Keep glibc from handing freed pages back and fetching them anew.

    How often it does so hangs on all that ran before, and costs up to a tenth of a real step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    for option, value in M_TRIM_THRESHOLD, M_MMAP_THRESHOLD:
        mallopt(option, value)


def real_seconds(loops: dict[str, Loop]) -> dict[str, float]:
    """A step of each loop with resnet18: the least time between two batches."""
    images, target = torch.randn(32, 3, 64, 64), torch.randint(0, 5, (32,))
    model = timm.create_model("resnet18", num_classes=5)
    least = dict.fromkeys(loops, np.inf)
    for _ in range(REAL_ROUNDS):
        for name, loop in loops.items():
            data = Repeated(images, target, REAL_STEPS)
            loop(copy.deepcopy(model), data)
            least[name] = min(least[name], np.diff(data.asked[1:REAL_STEPS]).min())
    return least


def verdict(goal: str, measured: str, *, met: bool) -> bool:
    print(f"  {'MET' if met else 'NOT MET':8s} {goal}: {measured}")
    return met


def main() -> int:
    keep_freed_memory()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # Lightning greets at every run
    warnings.filterwarnings("ignore", module="lightning")
    loops = {"bare loop": bare, "ours": ours} | importable()
    null = null_seconds(loops)
    print("\nA step of the null model: us more than the bare loop, and times the bare loop")
    for name, value in null.items():
        print(
            f"  {name:32s}{(value - null['bare loop']) * 1e6:+8.0f}{value / null['bare loop']:8.2f}"
        )
    more = (null["ours"] - null["bare loop"]) * 1e6
    is_light = verdict("at most 150 us over the bare loop", f"{more:+.0f} us", met=more <= 150)
    real = real_seconds({name: loops[name] for name in ("bare loop", "ours")})
    share = real["ours"] / real["bare loop"] - 1
    print("\nA step of resnet18, 64 px, batch 32, one thread: more than the bare loop")
    is_small = verdict("at most 2 % over the bare loop", f"{share:+.1%}", met=share <= 0.02)
    return 0 if is_light and is_small else 1


if __name__ == "__main__":
    raise SystemExit(main())
