"""Cross-entropy and soft F-beta of cells against values worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.losses.overlap import CrossEntropyAndFBeta, foreground

SHAPE = (3, 4, 5)


def batch(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and shares and weights of cells, some of which do not count."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.0, 0.25, 1.0], shape)
    weight = rng.choice([0.0, 0.5, 1.0], shape)
    logits = torch.tensor(rng.normal(0, 2, shape), dtype=torch.float32)
    return logits, torch.tensor(np.stack([share, weight], axis=1), dtype=torch.float32)


def areas(target: torch.Tensor) -> torch.Tensor:
    """Shares of what counts as parts of cells."""
    return torch.stack([target[:, 0] * target[:, 1], target[:, 1]], 1)


def by_hand(
    logits: torch.Tensor, target: torch.Tensor, beta: float, smoothing: float, overlap: float
) -> float:
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    true, weight = target.double().numpy().transpose(1, 0, 2, 3)
    true = true + smoothing * (0.5 - true)
    entropy = -(true * np.log(p) + (1 - true) * np.log(1 - p))
    hit, found, there = (weight * p * true).sum(), (weight * p).sum(), (weight * true).sum()
    score = (1 + beta**2) * hit / (beta**2 * there + found)
    return (weight * entropy).sum() / weight.sum() + overlap * (1 - score)


@pytest.mark.parametrize("overlap", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_it_is_what_is_worked_out_by_hand(beta: float, smoothing: float, overlap: float) -> None:
    for seed in range(5):
        logits, target = batch(seed)
        got = CrossEntropyAndFBeta(beta, smoothing, overlap)(logits, areas(target))
        assert got.shape == ()
        assert got.item() == pytest.approx(
            by_hand(logits, target, beta, smoothing, overlap), rel=1e-4
        )


def test_certain_and_right_costs_nothing_without_smoothing() -> None:
    _, target = batch(1)
    target[:, 0] = target[:, 0].round()
    sure = 30 * (2 * target[:, 0] - 1)
    assert CrossEntropyAndFBeta(smoothing=0.0)(sure, areas(target)).item() == pytest.approx(
        0, abs=1e-5
    )
    assert CrossEntropyAndFBeta(smoothing=0.1)(sure, areas(target)).item() > 0.1


@pytest.mark.parametrize("loss", [CrossEntropyAndFBeta(), CrossEntropyAndFBeta(2.0, 0.3, 0.0)])
def test_cells_of_no_weight_have_no_gradient_and_no_say(loss: CrossEntropyAndFBeta) -> None:
    logits, target = batch(2)
    mute = target[:, 1] == 0
    logits.requires_grad_()
    value = loss(logits, areas(target))
    value.backward()
    assert (logits.grad[mute] == 0).all()
    assert (logits.grad[~mute] != 0).all()
    other, changed = logits.detach().clone(), target.clone()
    other[mute] = 50.0
    changed[:, 0][mute] = 1.0
    torch.testing.assert_close(loss(other, areas(changed)), value.detach())


def test_a_batch_in_which_nothing_counts_costs_nothing_that_could_be_learned() -> None:
    logits, target = batch(3)
    target[:, 1] = 0
    logits.requires_grad_()
    value = CrossEntropyAndFBeta()(logits, areas(target))
    value.backward()
    assert torch.isfinite(value)
    assert (logits.grad == 0).all()


@given(seed=st.integers(0, 999), size=st.sampled_from([0.0, 1.0, 100.0, 1e4, 1e8]))
@settings(max_examples=40, deadline=None, database=None)
def test_loss_and_gradient_are_finite(seed: int, size: float) -> None:
    logits, target = batch(seed)
    logits = (size * logits).requires_grad_()
    value = CrossEntropyAndFBeta()(logits, areas(target))
    value.backward()
    assert torch.isfinite(value)
    assert value.item() >= 0
    assert torch.isfinite(logits.grad).all()


def test_overlap_is_of_all_cells_of_the_batch_together() -> None:
    logits, target = batch(4)
    target = areas(target)
    loss = CrossEntropyAndFBeta()
    whole = loss(logits, target)
    wide = logits.permute(1, 0, 2).reshape(1, 4, -1)
    torch.testing.assert_close(loss(wide, target.permute(1, 2, 0, 3).reshape(1, 2, 4, -1)), whole)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(loss(logits[order], target[order]), whole)
    alone = torch.stack([loss(logits[k : k + 1], target[k : k + 1]) for k in range(3)]).mean()
    assert abs(whole - alone) > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_minimising_it_leads_to_the_truth(smoothing: float) -> None:
    target = batch(5)[1]
    target[:, 0] = target[:, 0].round()
    logits = torch.zeros(SHAPE, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(100):
        optimiser.zero_grad()
        CrossEntropyAndFBeta(smoothing=smoothing)(logits, areas(target)).backward()
        optimiser.step()
    counts = target[:, 1] > 0
    found = foreground(logits.detach())
    assert ((found - target[:, 0]).abs()[counts] < 0.15).all()
    assert (found[~counts] == 0.5).all()


def test_the_probability_of_foreground() -> None:
    got = foreground(torch.tensor([[[0.0, 50.0, -50.0]]]))
    torch.testing.assert_close(got, torch.tensor([[[0.5, 1.0, 0.0]]]))


def test_what_is_blended_with_nothing_keeps_its_share() -> None:
    mixed = torch.lerp(torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1), 0.3)
    loss = CrossEntropyAndFBeta(smoothing=0.0)
    assert loss(torch.full((1, 1, 1), 30.0), mixed).item() == pytest.approx(0, abs=1e-4)
