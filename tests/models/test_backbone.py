"""Encoders for any number of channels, and weights that are loaded or an error."""

import re
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest
import timm
import torch
from safetensors.torch import save_file

from foveal.errors import UsageError, WeightsError
from foveal.models import backbone as backbone_module
from foveal.models.backbone import Backbone, Inflation, Standardise, is_depthwise

NAMES = ("resnet10t", "mobilenetv3_small_050")
SMALL = NAMES[0]


def images(channels: int, cases: int = 2) -> torch.Tensor:
    return torch.randn(cases, channels, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """Weights of a classifier of 1,000 classes, none of them at a network's start."""
    torch.manual_seed(7)
    state = timm.create_model(SMALL).state_dict()
    return {k: v + torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}


def differing(backbone: Backbone, channels: int, state: dict[str, torch.Tensor]) -> set[str]:
    got = backbone.build(channels=channels).body.state_dict()
    return {k for k, v in got.items() if v.shape != state[k].shape or not torch.equal(v, state[k])}


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("name", NAMES)
def test_a_vector_or_a_map_has_the_width_that_is_promised(name, channels):
    for pooled, axes in ((True, 2), (False, 4)):
        encoder = Backbone(name).build(channels=channels, pooled=pooled)
        assert encoder.training
        features = encoder(images(channels))
        assert (features.ndim, features.shape[1]) == (axes, encoder.width)
        features.square().mean().backward()
        first = next(encoder.parameters())
        assert first.shape[1] == channels
        assert first.grad.abs().sum((0, 2, 3)).min() > 0


def test_networks_that_treat_channels_alone_are_known():
    assert [is_depthwise(Backbone(n).build(channels=3)) for n in NAMES] == [False, True]


def test_drop_path_acts_in_training_alone():
    for share, same in ((0.0, True), (0.9, False)):
        torch.manual_seed(0)
        body = Backbone(SMALL, drop_path=share).build(channels=3)
        for module in body.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.eval().weight)  # a new branch adds nothing
        batch = images(3, cases=8)
        assert torch.equal(body(batch), body(batch)) is same
        body.eval()
        assert torch.equal(body(batch), body(batch))


def test_what_timm_does_not_know_or_take_is_a_usage_error():
    with pytest.raises(UsageError, match='backbone="resnet10"; did you mean "resnet10t"'):
        Backbone("resnet10").build(channels=3)
    with pytest.raises(UsageError, match="backbone=vgg11 has no stochastic depth; cure: drop_"):
        Backbone("vgg11", drop_path=0.5).build(channels=3)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_of_a_file_are_really_loaded(tmp_path, trained, name):
    path = tmp_path / name
    save_file(trained, path) if name.endswith("safetensors") else torch.save(trained, path)
    assert differing(Backbone(SMALL, weights=str(path)), 3, trained) == set()
    assert differing(Backbone(SMALL), 3, trained) != set()
    headless = {k: v for k, v in trained.items() if not k.startswith("fc.")}
    save_file(headless, tmp_path / "headless.safetensors")
    again = Backbone(SMALL, weights=str(tmp_path / "headless.safetensors"))
    assert differing(again, 3, trained) == set()


@pytest.mark.parametrize("name", [f"{SMALL}.safetensors", "model.safetensors", f"{SMALL}.pth"])
def test_a_folder_is_searched_for_weights(tmp_path, trained, name):
    backbone = Backbone(SMALL, weights=str(tmp_path))
    (tmp_path / "mobilenetv3_small_050.safetensors").write_bytes(b"of another network")
    with pytest.raises(WeightsError, match="no weights in") as error:
        backbone.build(channels=3)
    assert name in str(error.value)
    path = tmp_path / name
    save_file(trained, path) if name.endswith("safetensors") else torch.save(trained, path)
    assert differing(backbone, 3, trained) == set()


@pytest.mark.parametrize("channels", [1, 2])
def test_weights_for_colour_are_adapted_to_fewer_channels(tmp_path, trained, channels):
    save_file(trained, tmp_path / "w.safetensors")
    backbone = Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))
    assert differing(backbone, channels, trained) == {"conv1.0.weight"}
    got = backbone.build(channels=channels).body.state_dict()["conv1.0.weight"]
    colour = trained["conv1.0.weight"]
    cycled = torch.stack([colour[:, c % 3] for c in range(channels)], dim=1) * 3 / channels
    grey = colour.sum(1, keepdim=True)
    torch.testing.assert_close(got, grey if channels == 1 else cycled)


@pytest.mark.parametrize("channels", [4, 5, 7])
@pytest.mark.parametrize("inflate", ["average", "copy", "zeros"])
def test_weights_for_colour_stay_as_they_are_and_further_channels_are_like_them(
    tmp_path: Path, trained: dict[str, torch.Tensor], inflate: Inflation, channels: int
) -> None:
    save_file(trained, tmp_path / "w.safetensors")
    backbone = Backbone(SMALL, weights=str(tmp_path / "w.safetensors"), inflate=inflate)
    assert differing(backbone, channels, trained) == {"conv1.0.weight"}
    got = backbone.build(channels=channels).body.state_dict()["conv1.0.weight"]
    colour = trained["conv1.0.weight"]
    assert torch.equal(got[:, :3], colour)
    for k in range(3, channels):
        wanted = {
            "average": colour.mean(1),
            "copy": colour[:, k % 3],
            "zeros": torch.zeros_like(colour[:, 0]),
        }[inflate]
        torch.testing.assert_close(got[:, k], wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_where_there_are_no_further_channels_it_makes_no_difference_what_they_would_be(
    tmp_path: Path, trained: dict[str, torch.Tensor], channels: int
) -> None:
    save_file(trained, tmp_path / "w.safetensors")
    weights = str(tmp_path / "w.safetensors")
    plain = Backbone(SMALL, weights=weights).build(channels=channels).body.state_dict()
    for inflate in ("copy", "zeros"):
        assert differing(Backbone(SMALL, weights, inflate=inflate), channels, plain) == set()


def test_what_further_channels_are_makes_a_difference_to_features(
    tmp_path: Path, trained: dict[str, torch.Tensor]
) -> None:
    save_file(trained, tmp_path / "w.safetensors")
    seen = []
    for inflate in ("average", "copy", "zeros"):
        backbone = Backbone(SMALL, str(tmp_path / "w.safetensors"), inflate=inflate)
        with torch.no_grad():
            seen.append(backbone.build(channels=4).eval()(images(4)))
    assert not any(torch.equal(seen[k], seen[k - 1]) for k in range(3))


@pytest.mark.parametrize("inflate", ["average", "copy", "zeros"])
def test_a_network_from_scratch_is_not_inflated(inflate: Inflation) -> None:
    for options in ({"weights": "none"}, {"weights": "/nowhere", "pretrained": False}):
        backbone = Backbone(SMALL, options.pop("weights"), inflate=inflate)
        first = next(backbone.build(channels=5, **options).parameters())
        assert (first.abs().sum((0, 2, 3)) > 0).all()
        assert not torch.equal(first[:, 3], first[:, 0])


def test_a_network_with_two_first_convolutions_takes_further_channels(tmp_path: Path) -> None:
    state = timm.create_model("mobileone_s0").state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    encoder = Backbone("mobileone_s0", str(tmp_path / "w.safetensors")).build(channels=4)
    got = encoder.body.state_dict()
    for name in ("stem.conv_kxk.0.conv.weight", "stem.conv_scale.conv.weight"):
        assert torch.equal(got[name][:, :3], state[name])
        torch.testing.assert_close(got[name][:, 3], state[name].mean(1))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_weights_of_the_same_channels_are_taken_as_they_are(tmp_path: Path, channels: int) -> None:
    state = timm.create_model(SMALL, in_chans=channels, num_classes=0).state_dict()
    save_file(state, tmp_path / "own.safetensors")
    backbone = Backbone(SMALL, weights=str(tmp_path / "own.safetensors"))
    backbone.check((64, 64), channels=channels)
    assert differing(backbone, channels, state) == set()
    maps = backbone.levels(channels=channels).body.state_dict()
    assert all(torch.equal(v, state[k.replace("conv1_", "conv1.")]) for k, v in maps.items())
    with pytest.raises(WeightsError, match=f"is of {channels} channels, and the study has 6"):
        backbone.check((64, 64), channels=6)
    with pytest.raises(WeightsError, match="and the study has 6"):
        backbone.build(channels=6)


@pytest.mark.parametrize("name", [SMALL, "test_convnext", "swin_s3_tiny_224"])
def test_weights_of_another_network_are_an_error(tmp_path: Path, name: str) -> None:
    save_file(timm.create_model(NAMES[1]).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Backbone(name, weights=str(tmp_path / "w.safetensors")).build(channels=3)


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a ConvNeXt of timm by the names that its authors gave them."""
    renamed = {}
    for name, value in state.items():
        own = name.replace("stem.", "downsample_layers.0.").replace("head.norm", "norm")
        own = re.sub(r"stages.(\d+).blocks.", r"stages.\1.", own)
        own = re.sub(r"stages.(\d+).downsample.", r"downsample_layers.\1.", own)
        own = own.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        renamed[own.replace("head.fc", "head")] = value
    return renamed


@pytest.mark.parametrize("channels", [3, 5])
def test_weights_by_the_names_of_their_authors_are_loaded(tmp_path: Path, channels: int) -> None:
    torch.manual_seed(7)
    state = timm.create_model("test_convnext").state_dict()
    published = as_published(state)
    assert not published.keys() & state.keys()
    torch.save({"model": published}, tmp_path / "w.pth")
    backbone = Backbone("test_convnext", weights=str(tmp_path / "w.pth"))
    adapted = {"stem.0.weight"} if channels > 3 else set()
    assert differing(backbone, channels, state) == adapted
    first = backbone.build(channels=channels).body.state_dict()["stem.0.weight"]
    assert torch.equal(first[:, :3], state["stem.0.weight"])
    del published["norm.weight"]
    torch.save({"model": published}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"1 of \d+ tensors are not in"):
        backbone.build(channels=channels)


def test_weights_that_are_not_there_are_an_error_with_the_cures():
    backbone = Backbone(SMALL, weights="/nowhere/w.safetensors")
    with pytest.raises(WeightsError, match=r"/nowhere/w\.safetensors.*none.*file or folder"):
        backbone.build(channels=3)
    assert backbone.build(channels=3, pretrained=False).width == 512


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    ran = tmp_path / "ran"
    torch.save({"a": Trap(ran)}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError):
        Backbone(SMALL, weights=str(tmp_path / "trap.pth")).build(channels=3)
    assert not ran.exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(("dtype", "full"), [(torch.uint8, 255), (torch.float32, 65_535)])
def test_standardised_images_have_mean_zero_and_deviation_one(dtype, full):
    unit = torch.rand(4, 2, 50, 50, generator=torch.Generator().manual_seed(0))
    pixels = (unit * torch.tensor([1.0, 0.25]).view(1, 2, 1, 1) * full).to(dtype)
    share = pixels.double() / full
    mean, std = share.mean((0, 2, 3)).tolist(), share.std((0, 2, 3)).tolist()
    got = Standardise(tuple(mean), tuple(std), float(full))(pixels)
    torch.testing.assert_close(got.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(got.std((0, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    dark = Standardise((0.0,), (0.0,), float(full))(torch.zeros(1, 1, 2, 2, dtype=dtype))
    assert torch.equal(dark, torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("name", ["mambaout_femto", "swin_tiny_patch4_window7_224"])
def test_maps_with_features_last_are_turned(name: str):
    encoder = Backbone(name).build(channels=3, pooled=False).eval()
    with torch.inference_mode():
        maps = encoder(torch.zeros(2, 3, 224, 224))
    assert maps.shape == (2, encoder.width, 7, 7)
    assert encoder.width > 100


@pytest.mark.parametrize("side", [96, 192])
def test_maps_as_high_as_their_features_are_many_are_turned_too(side: int) -> None:
    levels = Backbone("mambaout_femto").levels(channels=3).eval()
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, plain = levels(images), levels.body(images)
    assert (plain[0].shape[1] == levels.widths[0]) is (side == 192)
    for found, given, width, stride in zip(maps, plain, levels.widths, levels.strides, strict=True):
        assert found.shape == (1, width, side // stride, side // stride)
        assert torch.equal(found, given.movedim(3, 1))


def test_the_size_of_a_picture_matters_where_a_network_has_one():
    fixed = Backbone("vit_tiny_patch16_224")
    fixed.check()
    fixed.check((224, 224))
    for size in ((224, 256), (112, 112)):
        with pytest.raises(UsageError, match="nothing else"):
            fixed.check(size)
        Backbone(SMALL).check(size)


def test_a_name_without_trained_weights_is_refused_at_once_with_its_siblings() -> None:
    with pytest.raises(
        WeightsError, match=r"none under this name; there are some of .*efficientnetv2_s"
    ):
        Backbone("efficientnetv2_s", weights="imagenet").check()


def test_whoever_answers_for_the_weights_is_reached_as_urllib_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def answer(request: Request, timeout: float) -> None:
        asked.append(request.full_url)
        raise HTTPError(request.full_url, 403, "no", Message(), None)

    def silent(request: Request, timeout: float) -> None:
        raise URLError("nobody")

    monkeypatch.setattr(backbone_module, "urlopen", answer)
    Backbone(SMALL, weights="imagenet")._reachable()
    assert asked[0].startswith("https://")
    monkeypatch.setattr(backbone_module, "urlopen", silent)
    with pytest.raises(WeightsError, match="cannot be reached from here"):
        Backbone(SMALL, weights="imagenet")._reachable()
