"""The curve, the average and the groups, each against its formula or a loop by hand."""

import math

import pytest
import torch
from torch import nn

from foveal.models.heads import GeM
from foveal.train.optim import AdamW, Average, Sgd, decay_groups, warm_up_and_cosine


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), GeM(3), nn.LayerNorm(3), nn.Linear(3, 2)
    )


def step(model: nn.Module, seed: int) -> None:
    """Something that changes parameters, statistics and counters."""
    generator = torch.Generator().manual_seed(seed)
    model(torch.rand(4, 2, 8, 8, generator=generator))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.rand(parameter.shape, generator=generator)


@pytest.mark.parametrize(("steps", "warm_up"), [(10, 0), (10, 3), (100, 1), (5, 5), (3, 7), (1, 0)])
def test_the_curve_rises_in_a_line_and_falls_in_half_a_cosine(steps, warm_up):
    curve = [warm_up_and_cosine(k, steps, warm_up) for k in range(steps + 1)]
    for k, share in enumerate(curve):
        if k < warm_up:
            assert share == pytest.approx((k + 1) / (warm_up + 1))
        else:
            done = (k - warm_up) / (steps - warm_up) if steps > warm_up else 0.0
            assert share == pytest.approx(0.5 + 0.5 * math.cos(math.pi * done))
    assert all(0 < share <= 1 for share in curve[:-1])
    if steps > warm_up:
        assert curve[warm_up] == 1
        assert curve[steps] == pytest.approx(0, abs=1e-12)
        assert warm_up_and_cosine(steps + 5, steps, warm_up) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_what_a_loop_by_hand_gives(decay):
    model = network()
    average = Average(model, decay)
    wanted = {k: v.clone() for k, v in model.state_dict().items()}
    for t in range(30):
        step(model, t)
        average.update(t)
        keep = min(decay, (1 + t) / (10 + t))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                wanted[name] = keep * wanted[name] + (1 - keep) * value
            else:
                wanted[name] = value.clone()
    assert set(average.state) == set(model.state_dict())
    for name, value in average.state.items():
        torch.testing.assert_close(value, wanted[name], msg=name)
    if decay == 0:
        assert all(torch.equal(v, average.state[k]) for k, v in model.state_dict().items())


def test_the_average_never_moves_the_model_and_goes_on_from_a_saved_one():
    model = network()
    average = Average(model, 0.9)
    step(model, 0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    average.update(0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    saved = {k: v.clone() for k, v in average.state.items()}
    resumed = Average(model, 0.9)
    resumed.load(saved)
    for t in (1, 2):
        step(model, t)
        average.update(t)
        resumed.update(t)
    assert all(torch.equal(v, resumed.state[k]) for k, v in average.state.items())


def test_only_weights_with_two_axes_decay_and_every_trained_one_is_in_a_group():
    model = network()
    model[0].bias.requires_grad = False
    groups = decay_groups(model, 0.3)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, others = ({names[id(p)] for p in g["params"]} for g in groups)
    assert decayed == {"0.weight", "4.weight"}
    assert others == {n for n, p in model.named_parameters() if p.requires_grad} - decayed
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]


@pytest.mark.parametrize("optim", [AdamW(lr=0.1, weight_decay=0.5), Sgd(lr=0.1, weight_decay=0.5)])
def test_without_a_gradient_decay_shrinks_weights_alone(optim):
    model = network()
    before = {k: v.clone() for k, v in model.named_parameters()}
    optimiser = optim(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            assert parameter.norm() < before[name].norm(), name
        else:
            assert torch.equal(parameter, before[name]), name


def test_plain_descent_needs_no_momentum():
    model = network()
    wanted = model[4].bias - 0.1
    optimiser = Sgd(lr=0.1, weight_decay=0.0, momentum=0.0)(model)
    model[4].bias.grad = torch.ones(2)
    optimiser.step()
    torch.testing.assert_close(model[4].bias, wanted)
