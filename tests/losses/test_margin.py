"""Margins against closed forms in float64; the unknown are nobody's positives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.losses.margin import UNKNOWN, ArcFace, CosFace, MarginLoss

KINDS = [ArcFace, CosFace]
NAMES = 4
WIDTH = 6


def cases(seed: int, count: int = 5, individuals: int = NAMES) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of any length, and whose they are; some of nobody known."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, WIDTH, generator=generator) * 3
    return embedding, torch.randint(UNKNOWN, individuals, (count,), generator=generator)


def loss_of(kind: type, seed: int = 0, **changes: float) -> MarginLoss:
    torch.manual_seed(1000 + seed)
    loss = kind(**changes).build(NAMES, WIDTH)
    with torch.no_grad():
        loss.nobody.fill_(0.1)
    return loss


def harder(settings: ArcFace | CosFace, cosine: float) -> float:
    """The own cosine, made harder, by the angle itself."""
    if isinstance(settings, CosFace):
        return cosine - settings.margin
    angle = math.acos(cosine)
    if angle < math.pi - settings.margin:
        return math.cos(angle + settings.margin)
    return cosine - settings.margin * math.sin(settings.margin)


def by_hand(loss: MarginLoss, embedding: torch.Tensor, individual: torch.Tensor) -> float:
    """The loss case by case in float64, the centres of an individual one by one."""
    settings, total = loss.settings, 0.0
    centres = loss.centres.detach().numpy().astype(np.float64)
    for vector, own in zip(embedding.numpy().astype(np.float64), individual.tolist(), strict=True):
        logits = []
        for name in range(len(centres) // settings.centres):
            mine = centres[name * settings.centres : (name + 1) * settings.centres]
            cosine = max(
                float(vector @ c / np.linalg.norm(vector) / np.linalg.norm(c)) for c in mine
            )
            logits.append(harder(settings, cosine) if name == own else cosine)
        logits.append(loss.nobody.item())
        scaled = settings.scale * np.array(logits)
        total += np.log(np.exp(scaled - scaled.max()).sum()) + scaled.max() - scaled[own]
    return total / len(individual)


@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 1.2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_by_hand(kind: type, margin: float, centres: int) -> None:
    for seed in range(5):
        loss = loss_of(kind, seed, margin=margin, scale=7.0, centres=centres)
        embedding, individual = cases(seed)
        got = loss(embedding, individual).item()
        assert got == pytest.approx(by_hand(loss, embedding, individual), rel=1e-5)


@settings(max_examples=200, deadline=None, database=None)
@given(cosine=st.floats(-1, 1), margin=st.floats(0, 1.5))
def test_arcface_turns_the_angle_by_the_margin(cosine: float, margin: float) -> None:
    got = ArcFace(margin=margin).harder(torch.tensor(cosine, dtype=torch.float64)).item()
    assert got == pytest.approx(harder(ArcFace(margin=margin), cosine), abs=1.1e-3)
    if abs(cosine) < 0.999:  # where the sine is not held up
        assert got == pytest.approx(harder(ArcFace(margin=margin), cosine), abs=1e-9)


@pytest.mark.parametrize("margin", [0.01, 0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_own_cosine_only_gets_worse_and_keeps_its_order(kind: type, margin: float) -> None:
    cosine = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    worse = kind(margin=margin).harder(cosine)
    assert (worse < cosine).all()
    assert (worse.diff() > 0).all()


@pytest.mark.parametrize("cosine", [1.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_finite_on_the_centre_and_opposite_to_it(kind: type, cosine: float) -> None:
    given_ = torch.tensor([cosine], requires_grad=True)
    kind().harder(given_).sum().backward()
    assert given_.grad.isfinite().all()
    assert (given_.grad > 0).all()
    loss = loss_of(kind)
    embedding = (cosine * loss.centres.detach()[:1]).repeat(2, 1).requires_grad_()
    loss(embedding, torch.tensor([0, UNKNOWN])).backward()
    assert embedding.grad.isfinite().all()
    assert loss.centres.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_of_zeros_has_a_finite_loss_and_slope(kind: type) -> None:
    loss, embedding = loss_of(kind), torch.zeros(3, WIDTH, requires_grad=True)
    value = loss(embedding, torch.tensor([0, 1, UNKNOWN]))
    value.backward()
    assert value.isfinite()
    assert embedding.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_centres_the_nearest_counts_alone(kind: type) -> None:
    loss = loss_of(kind, centres=3)
    embedding, individual = cases(0, count=1)
    loss(embedding, individual).backward()
    cosine = torch.cosine_similarity(embedding, loss.centres.detach())
    nearest = cosine.unflatten(0, (NAMES, 3)).argmax(1) + 3 * torch.arange(NAMES)
    reached = loss.centres.grad.abs().sum(1) > 0
    assert reached.nonzero().flatten().tolist() == nearest.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_no_margin_and_one_centre_is_softmax_with_a_column_for_nobody(kind: type) -> None:
    loss = loss_of(kind, margin=0.0, scale=11.0)
    embedding, individual = cases(3, count=20)
    normal = torch.nn.functional.normalize
    cosines = normal(embedding) @ normal(loss.centres).T
    logits = 11.0 * torch.cat([cosines, torch.full((20, 1), 0.1)], 1)
    column = torch.where(individual == UNKNOWN, NAMES, individual)
    plain = torch.nn.functional.cross_entropy(logits, column)
    torch.testing.assert_close(loss(embedding, individual), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_a_margin_makes_the_known_harder_and_the_unknown_not(kind: type) -> None:
    plain, wide = loss_of(kind, margin=0.0), loss_of(kind, margin=0.4)
    embedding, _ = cases(1, count=NAMES)
    everybody = torch.arange(NAMES)
    assert wide(embedding, everybody) > plain(embedding, everybody)
    nobody = torch.full((NAMES,), UNKNOWN)
    assert wide(embedding, nobody) == plain(embedding, nobody)


# --- the unknown ----------------------------------------------------------------------------------


def upright(kind: type) -> MarginLoss:
    """Centres along the first axes, so that every cosine can be read off an embedding."""
    loss = loss_of(kind)
    with torch.no_grad():
        loss.centres.copy_(torch.eye(NAMES, WIDTH))
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_unknown_is_pushed_away_from_every_known_one(kind: type) -> None:
    loss = upright(kind)
    embedding = torch.tensor([[0.3, 0.3, 0.3, 0.3, 0.8, 0.0]], requires_grad=True)
    loss(embedding, torch.tensor([UNKNOWN])).backward()
    assert (embedding.grad[0, :NAMES] > 0).all()  # a step goes against it
    moved = loss.centres.detach() - 0.01 * loss.centres.grad
    before = torch.cosine_similarity(embedding.detach(), loss.centres.detach())
    assert (torch.cosine_similarity(embedding.detach(), moved) < before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_unknown_has_no_centre_of_its_own(kind: type) -> None:
    loss = loss_of(kind, centres=2)
    assert loss.centres.shape == (2 * NAMES, WIDTH)
    assert loss.nobody.shape == ()
    embedding, individual = cases(0, count=8)
    strangers = loss(embedding, torch.full_like(individual, UNKNOWN))
    strangers.backward()
    assert loss.nobody.grad < 0  # the level of nobody rises, and no direction with it


@pytest.mark.parametrize("kind", KINDS)
def test_two_unknown_are_not_drawn_to_each_other(kind: type) -> None:
    loss = upright(kind)
    pair = torch.eye(WIDTH)[[4, 5]].requires_grad_()
    loss(pair, torch.tensor([UNKNOWN, UNKNOWN])).backward()
    assert (pair.grad[:, :NAMES] > 0).all()
    assert (pair.grad[:, NAMES:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_cases_count_one_by_one_in_any_order(kind: type) -> None:
    loss = loss_of(kind, centres=2)
    embedding, individual = cases(4, count=7)
    together = embedding.clone().requires_grad_()
    value = loss(together, individual)
    value.backward()
    alone = embedding.clone().requires_grad_()
    parts = [loss(alone[k : k + 1], individual[k : k + 1]) for k in range(7)]
    torch.stack(parts).mean().backward()
    torch.testing.assert_close(torch.stack(parts).mean(), value)
    torch.testing.assert_close(alone.grad, together.grad)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(loss(embedding[order], individual[order]), value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_of_an_embedding_does_not_matter(kind: type) -> None:
    loss = loss_of(kind)
    embedding, individual = cases(2)
    torch.testing.assert_close(loss(50 * embedding, individual), loss(embedding, individual))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter(kind: type) -> None:
    loss = loss_of(kind, scale=4.0)
    embedding, individual = cases(0, count=12)
    loss(embedding.requires_grad_(), individual).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name
    assert (embedding.grad != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_all_is_computed_in_full(kind: type) -> None:
    loss = loss_of(kind)
    embedding, individual = cases(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(embedding, individual)
    assert got.dtype == torch.float32
    assert torch.equal(got, loss(embedding, individual))


@pytest.mark.parametrize("kind", KINDS)
def test_minimising_it_sorts_the_known_and_sets_the_unknown_apart(kind: type) -> None:
    loss = loss_of(kind)
    embedding = cases(5, count=12)[0].requires_grad_()
    individual = torch.tensor([0, 1, 2, 3, UNKNOWN, UNKNOWN] * 2)
    optimiser = torch.optim.Adam([embedding, *loss.parameters()], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(embedding, individual).backward()
        optimiser.step()
    normal = torch.nn.functional.normalize
    cosines = normal(embedding.detach()) @ normal(loss.centres.detach()).T
    known = individual != UNKNOWN
    assert torch.equal(cosines[known].argmax(1), individual[known])
    assert cosines[known].amax(1).min() > cosines[~known].amax(1).max()
