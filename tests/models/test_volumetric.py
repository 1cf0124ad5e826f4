"""The 2.5-D network: the published sizes, lattices of every width, and depth that matters."""

import pytest
import torch

from foveal.errors import UsageError
from foveal.models.backbone import Backbone
from foveal.models.volumetric import (
    Decoder,
    SeparatedBlock,
    Volumetric,
    VolumetricModel,
    grouped,
    standardised,
)


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def small(**changes: object) -> VolumetricModel:
    settings = {"groups": 3, "channels": 2, "lattice": 8, "width": 16, "decoder_width": 8}
    torch.manual_seed(0)
    return Volumetric(**{**settings, **changes}, blocks=1).build(Backbone("test_resnet"))


@pytest.mark.parametrize(
    ("name", "groups", "channels", "blocks", "neck", "whole"),
    [
        ("resnetrs50", 7, 5, 3, 1.050, 38.4),
        ("convnext_tiny", 7, 5, 3, 0.395, 31.9),
        ("resnext50d_32x4d", 9, 3, 6, 1.050, 31.0),
    ],
)
def test_published_sizes(
    name: str, groups: int, channels: int, blocks: int, neck: float, whole: float
) -> None:
    model = Volumetric(groups=groups, channels=channels, blocks=blocks).build(Backbone(name))
    assert millions(model.neck) == pytest.approx(neck, abs=5e-4)
    assert millions(model.head) == pytest.approx(0.526, abs=5e-4)
    assert millions(model) == pytest.approx(whole, abs=0.05)


def test_a_block_over_depth_has_its_published_size_and_starts_as_its_shortcut() -> None:
    assert millions(SeparatedBlock(512)) == pytest.approx(1.0665, abs=5e-5)
    block = SeparatedBlock(8).eval()
    features = torch.randn(2, 8, 5, 6, 7)
    torch.testing.assert_close(block(features), block.shortcut(features).relu())
    assert block(features).shape == features.shape


@pytest.mark.parametrize("lattice", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_every_lattice(lattice: int, size: tuple[int, int]) -> None:
    model = small(lattice=lattice).eval()
    logits = model(torch.rand(2, 6, *size))
    assert logits.shape == (2, size[0] // lattice, size[1] // lattice)
    assert torch.isfinite(logits).all()


def test_a_lattice_that_no_map_reaches_is_refused() -> None:
    for lattice in (64, 3):
        with pytest.raises(UsageError, match="cells of 32"):
            small(lattice=lattice)


@pytest.mark.parametrize("lattice", [4, 32])
def test_the_gradient_reaches_every_parameter_and_every_slice(lattice: int) -> None:
    model = small(lattice=lattice)
    for p in model.parameters():
        if p.ndim == 1 and not p.any():
            torch.nn.init.ones_(p)  # the norms that start at zero
    slices = torch.rand(2, 6, 64, 64, requires_grad=True)
    model(slices).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert not still
    assert (slices.grad.abs().sum((0, 2, 3)) > 0).all()


def test_slices_go_to_their_group() -> None:
    model = small(groups=2, channels=3).eval()
    slices = torch.rand(1, 6, 32, 32)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    model(slices)
    spread, mean = torch.std_mean(slices)
    level = (slices - mean) / (spread + 1e-6)
    torch.testing.assert_close(seen[0], torch.stack([level[0, :3], level[0, 3:]]))


def test_an_input_counts_by_its_contrast_alone_where_it_is_to() -> None:
    slices = torch.rand(1, 6, 32, 32)
    model = small().eval()
    torch.testing.assert_close(model(slices), model(0.3 * slices + 5), atol=1e-4, rtol=1e-3)
    plain = small(per_input=False).eval()
    assert not torch.allclose(plain(slices), plain(0.3 * slices + 5), atol=1e-3)


def test_dropout_and_drop_path_are_there() -> None:
    backbone = Backbone("resnet10t", drop_path=0.5)
    model = Volumetric(groups=1, channels=1, width=8, blocks=1, dropout=0.5).build(backbone)
    slices = torch.rand(1, 1, 64, 64)
    model.train()
    assert not torch.equal(
        model(slices.expand(2, -1, -1, -1))[0], model(slices.repeat(2, 1, 1, 1))[0]
    )
    names = {type(m).__name__ for m in model.modules()}
    assert {"Dropout2d", "DropPath"} <= names


def test_a_decoder_ends_at_the_finest_map() -> None:
    decoder = Decoder(6, [(4, 8), (2, 4)], width=5)
    maps = [torch.rand(1, 4, 7, 9), torch.rand(1, 2, 14, 18)]
    assert decoder.eval()(torch.rand(1, 6, 4, 5), maps).shape == (1, 5, 14, 18)


def test_maps_finer_than_four_pixels_have_fewer_features() -> None:
    decoder = Decoder(6, [(4, 8), (4, 4), (3, 2), (2, 1)], width=8)
    assert [step.norm.num_features for step in decoder.steps] == [8, 8, 4, 2]
    assert decoder.width == 2
    assert Decoder(6, [(3, 2), (2, 1)], width=1).width == 1
    fine, coarse = small(lattice=1, width=16), small(lattice=32, width=16)
    assert fine.head[0].out_channels == fine.decoder.width == 4
    assert coarse.head[0].out_channels == 16


def test_a_larger_input_is_standardised_by_what_lies_around_each_place() -> None:
    torch.manual_seed(0)
    small = torch.randn(2, 3, 40, 40) * 3 + 5
    plain = (small - small.mean((1, 2, 3), keepdim=True)) / small.std((1, 2, 3), keepdim=True)
    for side in (None, 40, 64):
        assert torch.allclose(standardised(small, side), plain, atol=1e-5)
    large = torch.randn(1, 3, 200, 232) * (1 + torch.arange(232) / 60) + torch.arange(232) / 20
    found = standardised(large, 40)
    assert found.shape == large.shape
    for row, column in ((100, 60), (60, 116), (140, 180)):
        cut = large[..., row - 20 : row + 20, column - 20 : column + 20]
        wanted = standardised(cut)[..., 20, 20]
        assert torch.allclose(found[..., row, column], wanted, atol=0.25)
    assert abs(found[..., :60].std() - found[..., -60:].std()) < 0.1
    assert torch.isfinite(standardised(torch.zeros(1, 3, 96, 96), 40)).all()


def test_large_inputs_are_scored_as_crops_of_them() -> None:
    torch.manual_seed(0)
    large = torch.randn(1, 6, 192, 192) * (1 + torch.arange(192) / 40)
    model = small(side=64).eval()
    with torch.inference_mode():
        inner = model(large)[:, 8:-8, 8:-8]
        whole = small(side=None).eval()(large)[:, 8:-8, 8:-8]
    assert inner.shape == (1, 8, 8)
    assert not torch.allclose(inner, whole, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_slice_groups_are_pictures_in_the_layout_they_come_in(layout: torch.memory_format) -> None:
    slices = torch.rand(2, 6, 8, 10).contiguous(memory_format=layout)
    pictures = grouped(slices, 3)
    assert torch.equal(pictures, slices.reshape(2, 3, 2, 8, 10).reshape(6, 2, 8, 10))
    assert pictures.is_contiguous(memory_format=layout)
