"""Heads start at what is known without a picture, and pool as their names say."""

import pytest
import torch
from torch import nn

from foveal.losses.ordinal import expectation, identity, passed_steps
from foveal.models.heads import Classes, GeM, Head, Scalar, Steps

SHARE = (0.5, 0.1, 0.25, 0.1, 0.05)
MEAN = sum(k * p for k, p in enumerate(SHARE))
OUTPUTS = [(Scalar(), identity, 1), (Steps(), passed_steps, 4), (Classes(), expectation, 5)]


def maps(cases: int = 4) -> torch.Tensor:
    return torch.rand(cases, 6, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("outputs", "score", "count"), OUTPUTS)
def test_a_new_head_scores_the_mean_grade(outputs, score, count):
    head = Head(outputs).build(6, SHARE)
    logits = head(torch.zeros(2, 6))
    assert logits.shape == (2, count)
    torch.testing.assert_close(score(logits), torch.full((2,), MEAN))
    assert (score(head(torch.randn(8, 6))) - MEAN).abs().max() < 0.2


@pytest.mark.parametrize(("outputs", "score", "count"), OUTPUTS)
@pytest.mark.parametrize("share", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
def test_grades_that_never_occur_start_unlikely_but_finite(outputs, score, count, share):
    start = torch.tensor(outputs.start(share))
    assert start.isfinite().all()
    wanted = sum(k * p for k, p in enumerate(share))
    assert (score(start[None]) - wanted).abs() < 0.05


@pytest.mark.parametrize("pool", [None, GeM])
@pytest.mark.parametrize(("outputs", "score", "count"), OUTPUTS)
def test_a_gradient_reaches_every_parameter(outputs, score, count, pool):
    head = Head(outputs, pool=pool, dropout=0.1).build(6, SHARE)
    features = maps() if pool else maps()[:, :, 0, 0]
    logits = head(features)
    assert logits.shape == (4, count)
    logits.square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_generalised_mean_lies_between_the_mean_and_the_maximum():
    mean, largest = maps().mean((2, 3)), maps().amax((2, 3))
    torch.testing.assert_close(GeM(5, 1.0)(maps()), mean)
    torch.testing.assert_close(GeM(5, 200.0)(maps()), largest, atol=0.03, rtol=0)
    start = GeM(5)(maps())
    assert (mean < start).all()
    assert (start < largest).all()


def test_a_generalised_mean_of_dark_maps_is_finite_and_has_a_gradient():
    pool = GeM(5)
    features = torch.stack([torch.zeros(6, 5, 7), -torch.ones(6, 5, 7)]).requires_grad_()
    pool(features).sum().backward()
    assert pool(features).isfinite().all()
    assert features.grad.isfinite().all()
    assert pool.power.grad.isfinite()


@pytest.mark.parametrize("power", [3.0, 8.0, 40.0])
def test_an_empty_feature_beside_others_has_a_finite_gradient_at_any_power(power: float):
    pool, features = GeM(5, power), maps().clone()
    features[:, 2] = 0
    features.requires_grad_()
    pool(features).sum().backward()
    assert features.grad.isfinite().all()
    assert pool.power.grad.isfinite()


def test_dropout_acts_in_training_alone():
    head = Head(Steps(), dropout=0.5).build(64, SHARE)
    nn.init.ones_(head[-1].weight)
    features = torch.ones(4, 64)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))
    still = Head(Steps()).build(64, SHARE)
    assert torch.equal(still(features), still(features))
