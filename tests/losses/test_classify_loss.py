"""Losses of labels against torch, scikit-learn and values worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from foveal.losses.classify import (
    Focal,
    SoftMacroF1,
    class_entropy,
    class_probability,
    label_bce,
    probability,
)

CASES, LABELS = 9, 4
LOSSES = [label_bce, *(Focal(gamma) for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)), SoftMacroF1()]


def drawn(seed: int = 0, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that some cases have."""
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(CASES, LABELS, generator=generator)
    return logits, (torch.rand(CASES, LABELS, generator=generator) < 0.4).float()


def soft_part(loss: SoftMacroF1, logits: torch.Tensor, target: torch.Tensor) -> float:
    """What is beside the cross-entropy, of weight 1."""
    return float(loss(logits, target) - label_bce(logits, target)) / loss.weight


def test_cross_entropy_is_that_of_scikit_learn() -> None:
    logits, target = drawn()
    shares = logits.sigmoid().double().numpy()
    each = [log_loss(target[:, k], shares[:, k], labels=[0, 1]) for k in range(LABELS)]
    assert float(label_bce(logits, target)) == pytest.approx(np.mean(each), rel=1e-5)


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, -3.0]])
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    shares = logits.sigmoid().tolist()
    right = [shares[0][0], 1 - shares[0][1], shares[1][0], shares[1][1]]
    for gamma in (0.0, 1.0, 2.0, 3.5):
        wanted = np.mean([-((1 - p) ** gamma) * math.log(p) for p in right])
        assert float(Focal(gamma)(logits, target)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("blend", [1.0, 0.7])
def test_focal_loss_without_focus_is_cross_entropy(blend: float) -> None:
    logits, target = drawn()
    target = blend * target + (1 - blend) * target.flip(0)
    grads = []
    for loss in (Focal(0.0), label_bce):
        given = logits.clone().requires_grad_()
        value = loss(given, target)
        value.backward()
        torch.testing.assert_close(value, label_bce(logits, target))
        grads.append(given.grad)
    torch.testing.assert_close(*grads)


def test_focal_loss_counts_what_is_told_well_less() -> None:
    sure, unsure, one = torch.tensor([[3.0]]), torch.tensor([[0.1]]), torch.ones(1, 1)
    shares = [float(loss(sure, one) / loss(unsure, one)) for loss in map(Focal, (0.0, 1.0, 2.0))]
    assert shares[0] > 5 * shares[1] > 25 * shares[2]


def test_the_soft_part_of_sure_logits_is_1_minus_the_f1_of_scikit_learn() -> None:
    for seed in range(5):
        logits, target = drawn(seed)
        target[0] = 1
        told = logits > 0
        theirs = f1_score(target, told, average="macro", zero_division=0.0)
        sure = torch.where(told, 20.0, -20.0)
        assert soft_part(SoftMacroF1(), sure, target) == pytest.approx(1 - theirs, abs=1e-5)


def test_the_soft_part_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    target = torch.tensor([[0.0, 0.5], [1.0, 1.0]])
    f1 = (2 * 0.75 / (1.25 + 1) + 2 * 0.75 / (1.0 + 1.5)) / 2
    for weight in (0.5, 2.0):
        assert soft_part(SoftMacroF1(weight), logits, target) == pytest.approx(1 - f1, abs=1e-5)


def test_labels_that_nobody_in_the_batch_has_are_left_to_the_cross_entropy() -> None:
    logits, target = drawn()
    target[:, 1] = 0
    others = [0, 2, 3]
    whole = soft_part(SoftMacroF1(), logits, target)
    assert whole == pytest.approx(soft_part(SoftMacroF1(), logits[:, others], target[:, others]))
    moved = logits + 5 * (torch.arange(LABELS) == 1)
    assert soft_part(SoftMacroF1(), moved, target) == pytest.approx(whole, abs=1e-5)
    nobody = torch.zeros_like(target)
    torch.testing.assert_close(SoftMacroF1()(logits, nobody), label_bce(logits, nobody))


def test_the_soft_part_falls_as_predictions_improve() -> None:
    logits, target = drawn()
    right = 6 * (2 * target - 1)
    values = [
        soft_part(SoftMacroF1(), torch.lerp(logits, right, step), target)
        for step in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 0.05 < values[0] < 1


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
@settings(max_examples=25, deadline=None, database=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([0.0, 1.0, 100.0, 1e4]))
def test_losses_and_gradients_are_finite_and_reach_every_output(
    loss: Callable, seed: int, size: float
) -> None:
    logits, target = drawn(seed, size)
    logits.requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert math.isfinite(value.item())
    assert value.item() >= 0
    assert logits.grad.isfinite().all()
    if size <= 1:
        assert (logits.grad != 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
def test_minimising_a_loss_leads_its_score_to_the_labels(loss: Callable) -> None:
    _, target = drawn(1)
    logits = torch.zeros_like(target, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        loss(logits, target).backward()
        optimiser.step()
    assert (probability(logits.detach()) - target).abs().max() < 0.2


def test_the_loss_of_a_blended_target_is_the_blend_of_losses() -> None:
    logits, first = drawn()
    second = first.flip(0)
    blended = label_bce(logits, torch.lerp(second, first, 0.3))
    parts = torch.lerp(label_bce(logits, second), label_bce(logits, first), 0.3)
    torch.testing.assert_close(blended, parts)


def test_one_label_a_case_has_shares_that_sum_to_1() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]).log() + 3
    target = torch.tensor([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(class_probability(logits), (logits - 3).exp())
    entropy = (-0.25 * math.log(0.2) - 0.75 * math.log(0.7) - math.log(0.5)) / 2
    assert float(class_entropy(logits, target)) == pytest.approx(entropy, rel=1e-5)
