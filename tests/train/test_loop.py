"""The loop: resuming changes no bit, and what goes wrong ends well."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveal.errors import Stopped, TrainingError
from foveal.train.checkpoint import Checkpoint
from foveal.train.loop import Epoch, Plan, Watch, fit, laid_out
from foveal.train.optim import AdamW, Sgd
from foveal.transforms.mix import Mixup

STEPS = 4
PLAN = Plan(epochs=3, optim=AdamW(lr=1e-2))


class Data:
    """Random pictures whose mean is the target."""

    steps = STEPS

    def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(first, STEPS):
            rng = np.random.default_rng((epoch, step))
            images = rng.integers(0, 255, (6, 3, 8, 8), dtype=np.uint8)
            target = images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None] / 255
            yield torch.from_numpy(images), torch.from_numpy(target)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 1),
    )  # fmt: skip


def squared(logits: Tensor, target: Tensor) -> Tensor:
    return ((logits - target) ** 2).mean()


class Stopper:
    """Stops before the nth question."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def trained(folder: Path, stop: Any = lambda: False, plan: Plan = PLAN, **more: Any) -> dict:
    losses: list[float] = []
    watch = Watch(
        observe=lambda epoch, _: losses.append(epoch.loss),
        should_stop=stop,
        checkpoint=Checkpoint(folder / "c.safetensors", "mark", more.pop("every", 1e9)),
    )
    loss, data = more.pop("loss", squared), more.pop("data", Data())
    kept = fit(more.pop("model", model()), loss, data, plan, key=(0, 1), watch=watch, **more)
    weights = {f"{k}.{name}": v for k, some in enumerate(kept) for name, v in some.items()}
    return {**weights, "losses": torch.tensor(losses)}


def assert_equal(a: dict, b: dict) -> None:
    assert set(a) == set(b)
    for name in set(a) - {"losses"}:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 7, 8, 11])
def test_stopped_at_any_step_and_resumed_is_bit_for_bit_the_same(
    tmp_path: Path, after: int
) -> None:
    whole = trained(tmp_path / "a", mix=Mixup())
    with pytest.raises(Stopped):
        trained(tmp_path / "b", Stopper(after), mix=Mixup())
    torch.manual_seed(99)
    assert_equal(trained(tmp_path / "b", mix=Mixup()), whole)


@pytest.mark.parametrize("optim", [AdamW(lr=1e-2), Sgd(lr=1e-2)])
def test_the_layout_of_memory_survives_a_stop(tmp_path: Path, optim: object) -> None:
    """The optimiser's own numbers too: in another layout they would be added up otherwise."""
    plan = replace(PLAN, channels_last=True, optim=optim)
    whole = trained(tmp_path / "a", plan=plan)
    with pytest.raises(Stopped):
        trained(tmp_path / "b", Stopper(5), plan)
    assert_equal(trained(tmp_path / "b", plan=plan), whole)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_model_with_3d_convolutions_has_its_2d_ones_laid_out(*, channels_last: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(4, 4, 3))
    assert laid_out(model, channels_last=channels_last) is model
    flat, deep = model[0].weight, model[1].weight
    assert flat.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert deep.is_contiguous()


CYCLES = replace(PLAN, epochs=5, cycles=2)
"""Two epochs, then three."""


@pytest.mark.parametrize("after", [1, 2 * STEPS - 1, 2 * STEPS, 2 * STEPS + 1, 5 * STEPS - 1])
def test_what_was_kept_of_a_cycle_survives_a_stop(tmp_path: Path, after: int) -> None:
    whole = trained(tmp_path / "a", plan=CYCLES)
    assert {name.partition(".")[0] for name in whole} == {"0", "1", "losses"}
    with pytest.raises(Stopped):
        trained(tmp_path / "b", Stopper(after), CYCLES)
    assert_equal(trained(tmp_path / "b", plan=CYCLES), whole)


def test_the_first_cycle_is_a_training_of_its_own(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", plan=replace(PLAN, epochs=2))
    both = trained(tmp_path / "b", plan=CYCLES)
    kept = {name: v for name, v in both.items() if name.startswith("0.")}
    assert_equal({**kept, "losses": both["losses"]}, first)
    assert any(not torch.equal(v, both["1" + name[1:]]) for name, v in kept.items())


def test_the_learning_rate_falls_to_0_in_every_cycle(tmp_path: Path) -> None:
    rates: list[float] = []
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "mark", 1e9)
    watch = Watch(
        observe=lambda epoch, _: rates.append(epoch.lr),
        should_stop=lambda: False,
        checkpoint=checkpoint,
    )
    plan = replace(PLAN, epochs=6, cycles=3, warm_up=0.0)
    fit(model(), squared, Data(), plan, key=(0, 1), watch=watch)
    last = 0.5 * (1 + math.cos(math.pi * (2 * STEPS - 1) / (2 * STEPS)))
    assert rates[1::2] == pytest.approx([last] * 3)
    assert min(rates[::2]) > 3 * last


@pytest.mark.parametrize(("epochs", "cycles"), [(1, 1), (2, 2)])
def test_short_cycles_come_down_too(tmp_path: Path, epochs: int, cycles: int) -> None:
    plan = replace(PLAN, epochs=epochs, cycles=cycles, warm_up=3.0)
    rates: list[float] = []
    watch = Watch(
        observe=lambda epoch, _: rates.append(epoch.lr),
        should_stop=lambda: False,
        checkpoint=Checkpoint(tmp_path / "c.safetensors", "mark", 1e9),
    )
    fit(model(), squared, Data(), plan, key=(0, 1), watch=watch)
    assert len(rates) == epochs
    assert max(rates) < 0.3


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_stopped_while_it_is_looked_at_nothing_is_lost(tmp_path: Path, at: int) -> None:
    """Every step is done once, and the epoch is looked at by the call that goes on."""

    class Counted(Data):
        asked: ClassVar[list[tuple[int, int]]] = []

        def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
            for step, batch in enumerate(super().__call__(epoch, first), first):
                self.asked.append((epoch, step))
                yield batch

    seen: list[tuple[int, float, float]] = []
    stops = {at}

    def look(epoch: Epoch, average: dict[str, Tensor]) -> None:
        if epoch.epoch in stops:
            stops.clear()
            raise Stopped("in the middle of a look")
        seen.append((epoch.epoch, epoch.loss, epoch.lr))

    def run(folder: Path) -> dict[str, Tensor]:
        watch = Watch(
            observe=look,
            should_stop=lambda: False,
            checkpoint=Checkpoint(folder / "c.safetensors", "mark", 1e9),
        )
        kept = fit(model(), squared, Counted(), CYCLES, key=(0, 1), watch=watch, mix=Mixup())
        return {f"{k}.{name}": v for k, some in enumerate(kept) for name, v in some.items()}

    with pytest.raises(Stopped):
        run(tmp_path / "torn")
    torch.manual_seed(99)
    torn, told = run(tmp_path / "torn"), seen.copy()
    assert sorted(Counted.asked) == [(e, s) for e in range(CYCLES.epochs) for s in range(STEPS)]
    seen.clear()
    assert_equal(run(tmp_path / "whole"), torn)
    assert told == seen


def test_stopped_again_and_again_is_the_same(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a")
    for _ in range(20):
        try:
            assert_equal(trained(tmp_path / "b", Stopper(1)), whole)
            return
        except Stopped:
            continue
    pytest.fail("it never came to an end")


def test_saving_often_changes_nothing(tmp_path: Path) -> None:
    assert_equal(trained(tmp_path / "a", every=0.0), trained(tmp_path / "b"))


def test_killed_after_a_save_and_resumed_is_the_same(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Dying(Data):
        def __call__(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
            for step, batch in enumerate(super().__call__(epoch, first), first):
                if (epoch, step) == (1, 2):
                    raise Killed
                yield batch

    with pytest.raises(Killed):
        trained(tmp_path, every=0.0, data=Dying())
    assert_equal(trained(tmp_path), trained(tmp_path / "fresh"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_variables_of_the_environment_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    plan = replace(PLAN, precision=precision)
    plain = trained(tmp_path / "a", plan=plan)
    for name, value in {
        "LT_PRECISION": "16-mixed", "LT_ACCELERATOR": "cuda", "LT_DEVICES": "7",
        "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NODELIST": "n1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert_equal(plain, trained(tmp_path / "b", plan=plan))


def test_another_training_does_not_use_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, Stopper(3))
    path = tmp_path / "c.safetensors"
    assert Checkpoint(path, "mark").load() is not None
    assert Checkpoint(path, "other").load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, "mark").load() is None


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 2},
        {"optim": AdamW(lr=2e-2)},
        {"optim": AdamW(lr=1e-2, weight_decay=0.5)},
        {"optim": Sgd(lr=1e-2)},
        {"warm_up": 0.0},
        {"ema": 0.0},
        {"clip": 1e-3},
        {"clip": 0.0},
        {"accumulate": 3},
        {"precision": "bf16-mixed"},
    ],
)
def test_every_setting_of_a_plan_acts(tmp_path: Path, change: dict) -> None:
    before = trained(tmp_path / "a")
    after = trained(tmp_path / "b", plan=replace(PLAN, **change))
    assert any(not torch.equal(before[n], after[n]) for n in set(before) - {"losses"})


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    start = {k: v.clone() for k, v in plain.state_dict().items()}
    whole = trained(tmp_path / "a", model=plain)
    plain.load_state_dict(start)
    parts = trained(tmp_path / "b", model=plain, plan=replace(PLAN, accumulate=3))
    for own in (f"0.{name}" for name in start):
        assert torch.allclose(whole[own], parts[own], atol=1e-4)


def test_the_loop_learns(tmp_path: Path) -> None:
    got = trained(tmp_path, plan=replace(PLAN, epochs=30))
    assert got["losses"][-1] < got["losses"][0] / 3


def test_a_loss_that_is_not_finite_halves_the_rate_twice_then_ends(tmp_path: Path) -> None:
    calls = {"n": 0}

    def sick(logits: Tensor, target: Tensor) -> Tensor:
        calls["n"] += 1
        return squared(logits, target) * (float("nan") if calls["n"] == 6 else 1.0)

    rates: list[float] = []
    watch = Watch(
        observe=lambda epoch, _: rates.append(epoch.lr),
        should_stop=lambda: False,
        checkpoint=Checkpoint(tmp_path / "c", "m"),
    )
    (weights,) = fit(model(), sick, Data(), PLAN, key=(0, 1), watch=watch)
    assert all(torch.isfinite(v).all() for v in weights.values())
    assert len(rates) == PLAN.epochs
    assert calls["n"] == (PLAN.epochs + 1) * STEPS

    def dead(logits: Tensor, target: Tensor) -> Tensor:
        return squared(logits, target) * float("nan")

    with pytest.raises(TrainingError, match="not finite"):
        trained(tmp_path / "dead", loss=dead)


def test_a_slope_that_is_not_finite_is_no_training(tmp_path: Path) -> None:
    def steep(logits: Tensor, target: Tensor) -> Tensor:
        return squared(logits, target) + (0 * logits).abs().sqrt().sum()

    value = steep(model()(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 1))
    assert value.isfinite()
    with pytest.raises(TrainingError, match="not finite"):
        trained(tmp_path, loss=steep)


def test_a_loss_with_parameters_is_trained_and_saved(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return squared(self.scale * logits, target)

    loss = Scaled()
    whole = trained(tmp_path / "a", loss=loss)
    assert loss.scale.item() != 1
    with pytest.raises(Stopped):
        trained(tmp_path / "b", Stopper(5), loss=Scaled())
    assert_equal(trained(tmp_path / "b", loss=Scaled()), whole)
