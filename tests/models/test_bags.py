"""A bag is its tiles seen one by one; their order is nothing to whoever pools over them."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from foveal.models.backbone import Backbone, Encoder
from foveal.models.bags import TileEncoder, TileWeights
from foveal.models.heads import Attention, AverageMax, GeM, Head, Own, Scalar, Steps

TILES, SIDE = 5, 32
SHARE = (0.5, 0.3, 0.2)


def encoder(*, pooled: bool) -> Encoder:
    torch.manual_seed(0)
    return Backbone("test_resnet").build(channels=3, pooled=pooled).eval()


def bags(cases: int = 3, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(cases, 3, TILES * side, side, generator=generator)


def singles(batch: Tensor) -> Tensor:
    return rearrange(batch, "b c (n h) w -> b n c h w", n=TILES)


def reordered(batch: Tensor) -> Tensor:
    """The tiles of every case in another order."""
    order = [3, 0, 4, 1, 2]
    return rearrange(singles(batch)[:, order], "b n c h w -> b c (n h) w")


def maps(cases: int = 4, features: int = 6) -> Tensor:
    return torch.randn(cases, features, 5, 7, generator=torch.Generator().manual_seed(0))


# --- bags -----------------------------------------------------------------------------------------


def test_maps_of_a_bag_are_those_of_its_tiles_one_under_the_other() -> None:
    body, batch = encoder(pooled=False), bags(side=64)
    whole = TileEncoder(body, TILES)
    with torch.no_grad():
        got = whole(batch)
        alone = [torch.cat([body(tile[None])[0] for tile in case], 1) for case in singles(batch)]
    assert got.shape == (3, whole.width, TILES * 2, 2)
    torch.testing.assert_close(got, torch.stack(alone), atol=1e-5, rtol=1e-4)


def test_a_backbone_that_pools_gives_the_mean_of_the_tiles() -> None:
    body, batch = encoder(pooled=True), bags()
    whole = TileEncoder(body, TILES)
    with torch.no_grad():
        got = whole(batch)
        alone = [torch.stack([body(tile[None])[0] for tile in case]) for case in singles(batch)]
    assert got.shape == (3, whole.width)
    torch.testing.assert_close(got, torch.stack(alone).mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", [None, GeM, AverageMax, Attention])
def test_the_order_of_tiles_does_not_matter(pool: type | None) -> None:
    body = TileEncoder(encoder(pooled=pool is None), TILES)
    torch.manual_seed(1)
    network = nn.Sequential(body, Head(Steps(), pool).build(body.width, SHARE)).eval()
    nn.init.normal_(network[1][-1].weight)
    with torch.no_grad():
        batch = bags()
        got = network(batch)
        assert got.shape == (3, 2)
        torch.testing.assert_close(network(reordered(batch)), got, atol=1e-4, rtol=1e-4)
        other = batch.clone()
        other[:, :, :SIDE] += torch.randn(SIDE, SIDE)
        assert (network(other) - got).abs().max() > 1e-3  # tiles do matter


def test_other_cases_do_not_matter() -> None:
    whole, batch = TileEncoder(encoder(pooled=False), TILES), bags(4)
    with torch.no_grad():
        alone = torch.cat([whole(case[None]) for case in batch])
        torch.testing.assert_close(whole(batch), alone, atol=1e-5, rtol=1e-4)


class Looking(nn.Module):
    """An encoder that says how what it sees lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.body, self.seen = 4, nn.Conv2d(3, 4, 3), []

    def forward(self, images: Tensor) -> Tensor:
        last, plain = torch.channels_last, torch.contiguous_format
        self.seen.append(tuple(images.is_contiguous(memory_format=f) for f in (last, plain)))
        return self.body(images)


@pytest.mark.parametrize("is_last", [True, False])
def test_tiles_lie_in_memory_as_bags_do(*, is_last: bool) -> None:
    looking = Looking()
    encoding = TileEncoder(Encoder(looking, 4), TILES)
    layout = torch.channels_last if is_last else torch.contiguous_format
    encoding(bags().to(memory_format=layout))
    assert looking.seen == [(is_last, not is_last)]


def test_a_gradient_reaches_the_encoder_from_every_tile() -> None:
    batch = bags().requires_grad_()
    body = TileEncoder(encoder(pooled=False).train(), TILES)
    network = nn.Sequential(body, Head(Scalar(), Attention).build(body.width, SHARE))
    network(batch).square().sum().backward()
    assert (singles(batch.grad).abs().amax((2, 3, 4)) > 0).all()
    for name, parameter in body.named_parameters():
        assert parameter.grad.isfinite().all(), name
    first = next(body.parameters())  # a new network's blocks begin as nothing
    assert first.grad.abs().sum() > 0


# --- attention ------------------------------------------------------------------------------------


def attention(features: int = 6, scale: float = 1.0) -> Attention:
    torch.manual_seed(2)
    pool = Attention(features)
    nn.init.normal_(pool.weighs.weight, std=scale)
    return pool


def test_weights_are_positive_and_sum_to_1() -> None:
    pool = attention(scale=3.0)
    weights = pool.weights(maps())
    assert weights.shape == (4, 1, 5, 7)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(4))
    assert weights.amax((1, 2, 3)).min() > 3 / 35  # and they differ


def test_the_result_is_the_weighted_mean() -> None:
    pool, features = attention(), maps()
    weights = pool.weights(features)
    for case in range(4):
        wanted = sum(
            weights[case, 0, y, x] * features[case, :, y, x] for y in range(5) for x in range(7)
        )
        torch.testing.assert_close(pool(features)[case], wanted)


def test_what_is_the_same_everywhere_weighs_the_same() -> None:
    features = torch.randn(3, 6, 1, 1).expand(3, 6, 5, 7)
    pool = attention(scale=5.0)
    torch.testing.assert_close(pool.weights(features), torch.full((3, 1, 5, 7), 1 / 35))
    torch.testing.assert_close(pool(features), features.mean((2, 3)))


def test_new_weights_are_nearly_equal() -> None:
    torch.manual_seed(0)
    weights = Attention(6).weights(maps())
    assert (weights * 35 - 1).abs().max() < 0.7
    torch.testing.assert_close(Attention(6)(maps()), maps().mean((2, 3)), atol=0.3, rtol=0)


def test_attention_can_learn_to_look_at_one_place() -> None:
    """Of 9 places one holds the answer, and is marked."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    pool, steps = Attention(2), 150
    optimiser = torch.optim.Adam(pool.parameters(), lr=0.05)
    for _ in range(steps):
        features = torch.zeros(64, 2, 3, 3)
        features[:, 0] = torch.randn(64, 3, 3, generator=generator)
        place = torch.randint(9, (64,), generator=generator)
        features[:, 1].view(64, 9)[torch.arange(64), place] = 1
        wanted = features[:, 0].reshape(64, 9)[torch.arange(64), place]
        loss = (pool(features)[:, 0] - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    marked = pool.weights(features).view(64, 9)[torch.arange(64), place]
    assert marked.mean() > 0.8


def test_a_tile_weighs_what_its_places_do_together() -> None:
    pool, features = attention(scale=3.0), torch.randn(2, 6, TILES * 3, 4)
    got = TileWeights(pool, TILES)(features)
    assert got.shape == (2, TILES)
    torch.testing.assert_close(got.sum(1), torch.ones(2))
    one = pool.weights(features)[:, 0, 3:6].sum((1, 2))
    torch.testing.assert_close(got[:, 1], one)


REACHED = ["says.weight", "says.bias", "gate.weight", "gate.bias", "weighs.weight"]


@pytest.mark.parametrize("name", REACHED)
def test_a_gradient_reaches_every_parameter_of_attention(name: str) -> None:
    head = Head(Steps(), Attention, dropout=0.1).build(6, SHARE)
    assert {n for n, _ in head[0].named_parameters()} == set(REACHED)
    head(maps()).square().sum().backward()
    gradient = head[0].get_parameter(name).grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-7


def test_own_pooling_hands_the_vector_on() -> None:
    vector = torch.randn(4, 6)
    pool = Own(6)
    assert torch.equal(pool(vector), vector)
    assert pool.width == 6
    assert list(pool.parameters()) == []
    head = Head(Scalar()).build(6, SHARE)
    assert isinstance(head[0], Own)
    assert head(vector).shape == (4, 1)


@pytest.mark.parametrize(("pool", "times"), [(GeM, 1), (AverageMax, 2), (Attention, 1), (Own, 1)])
def test_a_pooling_says_how_many_features_it_gives(pool: type, times: int) -> None:
    features = maps() if pool is not Own else maps()[:, :, 0, 0]
    assert pool(6).width == 6 * times
    assert pool(6)(features).shape == (4, 6 * times)
