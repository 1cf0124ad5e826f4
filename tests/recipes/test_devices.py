"""A step of training stays on the device that it was told, for every recipe with networks.

The meta device has shapes and no numbers, and refuses what lies on another device: what a test can
know of CUDA on a machine without.
"""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from facts import FACTS
from foveal.members.embedder import Embedder
from foveal.members.network import Network
from foveal.members.segmenter import Segmenter
from foveal.members.training import Training
from foveal.train import loop
from foveal.train.loop import Plan

CASES = 4
OPTIONS = {
    "weights": "none", "backbone": "test_resnet", "size": 64, "mixup": 0.5, "cutmix": 0.5,
    "pooling": "attention",
}  # fmt: skip


def members() -> Iterator[Any]:
    """Every member with a network, of every recipe of every family."""
    for family, known in FACTS.items():
        for name, make in inspect.getmembers(family, inspect.isfunction):
            taken = inspect.signature(make).parameters
            is_recipe = make.__module__ == family.__name__ and name[0] != "_"
            if not is_recipe or not {"facts", "seed"} <= {*taken}:
                continue
            recipe = make(known, **{k: v for k, v in OPTIONS.items() if k in taken})
            for member in recipe.members:
                if hasattr(member, "training"):
                    title = f"{family.__name__.rpartition('.')[2]}:{name} {member.name}"
                    yield pytest.param(member, id=title)


def parts_of(member: Any) -> tuple[nn.Module, Any, torch.Tensor, torch.Tensor]:
    """Model, loss, pictures and target."""
    training: Training = member.training
    channels, target = len(training.mean), torch.zeros(CASES)
    loss = member.loss
    if isinstance(member, Network):
        outputs = max(2, len(member.head.outputs.start((0.5, 0.5))))
        model, target = member._untrained(), torch.zeros(CASES, outputs)
    elif isinstance(member, Segmenter):
        model, channels = member._model(pretrained=False), member.network.slices
        cells = training.size[0] // member.network.lattice
        target = torch.zeros(CASES, 2, cells, cells)
    else:
        assert isinstance(member, Embedder)
        model, loss = member._model(pretrained=False), loss.build(10, member.head.width)
        target = torch.tensor([0, 3, -1, 9])
    return model, loss, torch.zeros(CASES, channels, *training.size, dtype=torch.uint8), target


@pytest.mark.parametrize("member", list(members()))
def test_a_step_stays_on_its_device(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loop._precision
    monkeypatch.setattr(loop, "_precision", lambda name, _: made(name, "cpu"))
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda _, **more: autocast("cpu", **more))
    model, loss, images, target = parts_of(member)
    plain = partial(torch.optim.SGD, lr=0.1, foreach=False)
    plan = Plan(
        epochs=1,
        optim=lambda of: plain(of.parameters()),
        clip=0.0,
        precision="bf16-mixed",
        channels_last=True,
    )
    training = loop._Training(
        model, loss, plan, key=(0, 0), mix=member.training.mix, device="meta", steps=2
    )
    assert training.step(images, target, 0, 0).device.type == "meta"
    assert {p.grad is None for p in training.parameters} == {True}
    assert {v.device.type for v in training.average.state.values()} == {"meta"}
