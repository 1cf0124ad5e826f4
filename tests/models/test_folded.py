"""Folded networks answer as before, without the norms that cost time."""

import pytest
import timm
import torch
from torch import nn

from foveal.models.backbone import Backbone
from foveal.models.folded import folded
from foveal.models.volumetric import Volumetric

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def learned(model: nn.Module) -> nn.Module:
    """With numbers in its norms that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def alike(model: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """The folded model, once it was seen to answer as the other did."""
    with torch.inference_mode():
        before = [model(x) for x in inputs]
        quick = folded(model)
        for x, wanted in zip(inputs, before, strict=True):
            torch.testing.assert_close(quick(x), wanted, rtol=1e-4, atol=1e-5)
    return quick


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("test_resnet", 0),
        ("test_efficientnet", 0),  # norms that activate
        ("mobilenetv3_small_050", 0),
        ("tf_mobilenetv3_small_minimal_100", 0),  # convolutions that pad by what they see
        ("test_byobnet", 0),
        ("densenet121", 62),  # norms before convolutions, and behind several maps
        ("resnetv2_50", 17),
        ("nf_resnet26", 0),  # weights that are standardised as they are used
    ],
)
def test_networks_answer_as_before(name: str, left: int) -> None:
    model = learned(timm.create_model(name, num_classes=3))
    pictures = [torch.rand(2, 3, side, side) for side in (64, 96)]
    assert norms(alike(model, *pictures)) == left


@pytest.mark.parametrize(("lattice", "left"), [(32, 1), (4, 4)])
def test_volumetric_networks_answer_as_before(lattice: int, left: int) -> None:
    # behind the head's activation one norm stays, and one behind the sum of every step up
    network = Volumetric(groups=2, channels=3, lattice=lattice, blocks=1, width=8, side=64)
    model = learned(network.build(Backbone("test_resnet")))
    quick = alike(model, *(torch.rand(1, 6, side, side) for side in (64, 128)))
    assert norms(quick) == left


class Twice(nn.Module):
    """Convolutions and norms that are not one behind the other alone."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.shown, self.after = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        again = self.norm(self.shared(self.norm(self.shared(x))))
        shown = self.shown(again)
        return self.after(shown) + shown


def test_what_is_used_twice_is_left_alone() -> None:
    assert norms(alike(learned(Twice()), torch.rand(2, 3, 4, 4))) == 2


def test_a_network_without_norms_is_the_same() -> None:
    model = timm.create_model("test_vit", num_classes=3).eval()
    assert folded(model) is model


def test_it_answers_and_does_not_learn() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert not folded(model.train()).training
