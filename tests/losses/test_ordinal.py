"""Three losses and three scores against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.losses.ordinal import (
    ExpectedGrade,
    cumulative_bce,
    expectation,
    identity,
    mean_grade,
    passed_steps,
    squared_error,
)

GRADES = 5
APPROACHES = [
    (squared_error, identity, 1),
    (cumulative_bce, passed_steps, GRADES - 1),
    (ExpectedGrade(), expectation, GRADES),
]
DOUBT = torch.tensor([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])


def one_hot(*grades: int, count: int = GRADES) -> torch.Tensor:
    return torch.eye(count)[list(grades)]


def close(got: torch.Tensor, wanted: float | list[float]) -> bool:
    return bool(torch.allclose(got, torch.tensor(wanted), atol=1e-6))


def test_the_mean_of_a_distribution():
    assert close(mean_grade(DOUBT), [1.75, 0.0])


def test_squared_error_by_hand():
    assert close(squared_error(torch.tensor([[1.25], [-2.0]]), DOUBT), (0.25 + 4.0) / 2)


def test_cumulative_bce_by_hand():
    def bce(logit: float, share: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -share * math.log(p) - (1 - share) * math.log(1 - p)

    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    wanted = (bce(2.0, 1.0) + bce(-1.0, 0.75) + bce(0.5, 0.0) + bce(0.0, 0.0)) / 4
    assert close(cumulative_bce(logits, DOUBT), wanted)


def test_expected_grade_by_hand():
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]).log()
    entropy = (-0.25 * math.log(0.2) - 0.75 * math.log(0.7) - math.log(0.5)) / 2
    distance = ((1.6 - 1.75) ** 2 + 0.75**2) / 2
    for pull in (0.0, 1.0, 3.0):
        assert close(ExpectedGrade(pull)(logits, DOUBT), entropy + pull * distance)


def test_scores_by_hand():
    assert close(identity(torch.tensor([[1.5], [-0.5]])), [1.5, -0.5])
    assert close(passed_steps(torch.tensor([[30.0, 0.0, -30.0]])), [1.5])
    assert close(expectation(torch.tensor([[0.1, 0.2, 0.7]]).log()), [1.6])


@pytest.mark.parametrize(("loss", "score", "outputs"), APPROACHES)
def test_minimising_a_loss_leads_its_score_to_the_grade(loss, score, outputs):
    logits = torch.zeros(GRADES, outputs, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(80):
        optimiser.zero_grad()
        loss(logits, torch.eye(GRADES)).backward()
        optimiser.step()
    assert (score(logits.detach()) - torch.arange(GRADES)).abs().max() < 0.1


@pytest.mark.parametrize(("loss", "score", "outputs"), APPROACHES)
@settings(max_examples=25, deadline=None, database=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([0.0, 1.0, 100.0, 1e4]))
def test_losses_and_gradients_are_finite_and_reach_every_output(loss, score, outputs, seed, size):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, outputs, generator=generator).mul(size).requires_grad_()
    target = torch.rand(3, GRADES, generator=generator).softmax(1)
    value = loss(logits, target)
    value.backward()
    assert math.isfinite(value.item())
    assert value.item() >= 0
    assert logits.grad.isfinite().all()
    if size <= 1:
        assert (logits.grad != 0).all()


@pytest.mark.parametrize(("loss", "score", "outputs"), APPROACHES)
def test_scores_do_not_depend_on_the_other_cases(loss, score, outputs):
    logits = torch.randn(6, outputs, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(score(logits)[[4, 1]], score(logits[[4, 1]]))
    target = one_hot(0, 1, 2, 3, 4, 0)
    alone = torch.stack([loss(logits[k : k + 1], target[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(loss(logits, target), alone.mean())
    torch.testing.assert_close(loss(logits.flip(0), target.flip(0)), loss(logits, target))


@pytest.mark.parametrize(
    ("loss", "outputs"), [(cumulative_bce, GRADES - 1), (ExpectedGrade(pull=0.0), GRADES)]
)
def test_the_loss_of_a_blended_target_is_the_blend_of_losses(loss, outputs):
    logits = torch.randn(4, outputs, generator=torch.Generator().manual_seed(0))
    first, second = one_hot(0, 1, 2, 4), one_hot(4, 3, 0, 4)
    blended = loss(logits, torch.lerp(second, first, 0.3))
    torch.testing.assert_close(blended, torch.lerp(loss(logits, second), loss(logits, first), 0.3))


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=GRADES, max_size=GRADES))
def test_bounded_scores_stay_between_the_lowest_and_the_highest_grade(values):
    logits = torch.tensor([values])
    for got in (passed_steps(logits[:, 1:]), expectation(logits)):
        assert -1e-4 <= float(got) <= GRADES - 1 + 1e-4


def test_one_grade_is_enough():
    only = torch.ones(2, 1)
    assert float(squared_error(torch.zeros(2, 1), only)) == 0
    assert float(ExpectedGrade()(torch.zeros(2, 1), only)) == 0
