"""Any timm network as an encoder of pictures with any number of channels.

Pretrained weights come by name, from a file, or from a folder, and what cannot be loaded is an
error, never silently random::

    encoder = Backbone("tf_efficientnet_b0", weights="none").build(channels=3)
    encoder(images).shape, encoder.width
"""

from __future__ import annotations

import inspect
import struct
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch raises on a broken file; nothing is unpickled
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from torch import Tensor, nn

from foveal.errors import UsageError, WeightsError, first_line, nearest

BROKEN_FILE = (
    *(OSError, RuntimeError, ValueError, KeyError, EOFError),
    *(struct.error, SafetensorError, UnpicklingError),
)
OF_ANOTHER = (AttributeError, IndexError, TypeError)
"""What a conversion raises on a file of another network."""

Inflation = Literal["average", "copy", "zeros"]

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "model.pth", "model.bin")


class Standardise(nn.Module):
    """Unsigned integers to numbers of mean 0 and deviation 1 a channel, on the device."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], full_scale: float) -> None:
        """Mean and deviation are shares of the full scale (255 or 65,535)."""
        super().__init__()
        scale = [1 / (full_scale * max(s, 1e-3)) for s in std]
        shift = [-m / max(s, 1e-3) for m, s in zip(mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))

    def forward(
        self, images: Shaped[Tensor, "case channel height width"]
    ) -> Float[Tensor, "case channel height width"]:
        """Standardised images."""
        return images.to(self.scale.dtype) * self.scale + self.shift


class Encoder(nn.Module):
    """A timm network without its classifier.

    Attributes:
        width: Features a case, or channels of the feature map.
    """

    def __init__(self, body: nn.Module, width: int, *, is_last: bool = False) -> None:
        """Wrap a body whose outputs have `width` channels, as the last axis or the second."""
        super().__init__()
        self.body = body
        self.width, self.is_last = width, is_last

    def forward(
        self, images: Float[Tensor, "case channel height width"]
    ) -> Float[Tensor, "case feature ..."]:
        """A vector a case, or a feature map where the body does not pool."""
        found = self.body(images)
        return found.permute(0, 3, 1, 2) if self.is_last else found


class Levels(nn.Module):
    """From images to feature maps, "case feature height width" each, the finest first."""

    def __init__(self, body: nn.Module, widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
        """Wrap a body that returns maps of these widths at these strides."""
        super().__init__()
        self.body, self.widths, self.strides = body, widths, strides
        self.is_last = _is_last(body)

    def forward(self, images: Float[Tensor, "case channel height width"]) -> list[Tensor]:
        """One map a level; maps with features last are turned."""
        maps = self.body(images)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.is_last else list(maps)


@dataclass(frozen=True, slots=True)
class Backbone:
    """A timm network by name.

    Attributes:
        name: As timm knows it.
        weights: "none", "imagenet" (timm's own, fetched or from its cache), a file or a folder.
        drop_path: Stochastic depth, 0 to 1; a network without it refuses it.
        inflate: What trained weights for three channels become for more: those of the three as they
            are, and for each further channel their average, a copy of theirs in turn, or zeros.
    """

    name: str = "mobilenetv3_small_050"
    weights: str = "none"
    drop_path: float = 0.0
    inflate: Inflation = "average"

    def check(self, size: tuple[int, int] | None = None, *, channels: int = 3) -> None:
        """Make sure that a network of this name can be built, and from its file if there is one.

        Args:
            size: Height and width of what it is to see; with it a file of weights is read too.
            channels: Of what it is to see.

        Raises:
            UsageError: timm does not know this name, or it takes another size only.
            WeightsError: The file cannot be loaded, or is of another network; or there are no
                weights of this name.
        """
        import timm

        if not timm.is_model(self.name):
            raise UsageError(f'backbone="{self.name}"{nearest(self.name, timm.list_models())}')
        if size is not None and self.weights not in ("none", "imagenet"):
            self._complete(self._file(), channels)
        try:
            known = timm.get_pretrained_cfg(self.name)
        except RuntimeError as error:
            raise UsageError(f'backbone="{self.name}": {error}') from None
        if self.weights == "imagenet" and (known is None or not known.has_weights):
            raise self._not_loaded(f"timm has none under this name{self._siblings()}")
        if size is None or known is None or not known.fixed_input_size:
            return
        height, width = known.input_size[1:]
        if size != (height, width):
            raise UsageError(
                f"backbone={self.name} takes {height} x {width} pixels and nothing else, and would "
                f"see {size[0]} x {size[1]}; cure: another size=, or another backbone"
            )

    def build(self, *, channels: int, pooled: bool = True, pretrained: bool = True) -> Encoder:
        """Make the encoder.

        Args:
            channels: Of the images; the first convolution is adapted to them.
            pooled: Whether the network pools to a vector itself, or hands on a feature map.
            pretrained: False when trained weights will be loaded anyway.

        Raises:
            UsageError: timm does not know the name, or the network does not take an option.
            WeightsError: The weights cannot be loaded; the message names both cures.
        """
        pool = {} if pooled else {"global_pool": ""}
        body = self._create({"in_chans": channels, "num_classes": 0, **pool}, pretrained=pretrained)
        if channels not in (1, 3) and pretrained and self.weights != "none":
            self._inflate(body, channels)
        if pooled:
            return Encoder(body, _vector_width(body))
        is_last = _is_last(body)
        return Encoder(body, _map_width(body, channels, is_last=is_last), is_last=is_last)

    def levels(self, *, channels: int, pretrained: bool = True) -> Levels:
        """Make an encoder that hands on its feature maps at every stride, the finest first.

        Args:
            channels: Of the images, such as slices that are alike; trained weights for three are
                repeated over them and scaled, as timm does, whatever `inflate` says.
            pretrained: False when trained weights will be loaded anyway.

        Raises:
            UsageError: timm does not know the name, or has no feature maps of it.
            WeightsError: The weights cannot be loaded; the message names both cures.
        """
        body = self._create({"in_chans": channels, "features_only": True}, pretrained=pretrained)
        info: Any = body.feature_info
        return Levels(body, tuple(info.channels()), tuple(info.reduction()))

    def _create(self, options: dict[str, Any], *, pretrained: bool) -> nn.Module:
        import timm

        self.check()
        if self.drop_path:
            options = {**options, "drop_path_rate": self.drop_path}
        source = self._source(options.get("in_chans", 3)) if pretrained else {}
        try:
            return timm.create_model(self.name, **options, **source)
        except (TypeError, AttributeError) as error:
            of_depth = self.drop_path and "drop_path" in str(error)
            words = "has no stochastic depth; cure: drop_path=0" if of_depth else ""
            words = words or f"does not take an option: {error}; cure: another backbone="
            raise UsageError(f"backbone={self.name} {words}") from None
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            if not source:
                raise
            raise self._not_loaded(first_line(error)) from None

    def _inflate(self, body: Any, channels: int) -> None:
        """Give the first convolutions the trained weights of three channels, and more like them.

        Weights of as many channels are there already; two of three channels are timm's work.
        """
        names = [f"{name}.weight" for name in _first_convolutions(body)]
        own = {} if self.weights == "imagenet" else self._converted(self._file(), self._headless())
        if channels < 3 or (own and own[names[0]].shape[1] == channels):
            return
        trained = self._create({"num_classes": 0}, pretrained=True).state_dict()
        for name in names:
            rgb = trained[name]
            more = {
                "average": rgb.mean(1, keepdim=True).expand(-1, channels - 3, -1, -1),
                "copy": rgb[:, [k % 3 for k in range(channels - 3)]],
                "zeros": torch.zeros_like(rgb[:, :1]).expand(-1, channels - 3, -1, -1),
            }[self.inflate]
            with torch.no_grad():
                body.get_parameter(name).copy_(torch.cat([rgb, more], 1))

    def _source(self, channels: int) -> dict[str, Any]:
        """What timm is told about weights, after a look at whether they can be had."""
        if self.weights == "none":
            return {}
        if self.weights == "imagenet":
            self._reachable()
            return {"pretrained": True}
        path = self._file()
        self._complete(path, channels)
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}

    def _not_loaded(self, why: str) -> WeightsError:
        return WeightsError(
            f'weights="{self.weights}" for {self.name} cannot be loaded ({why}); cures: '
            "weights=/path/to/a/file or folder with weights fetched elsewhere, or weights=none to "
            "train from scratch"
        )

    def _reachable(self) -> None:
        """Fail within seconds where the weights are neither cached nor to be fetched."""
        import timm
        from huggingface_hub import constants, try_to_load_from_cache

        place = timm.get_pretrained_cfg(self.name)
        assert place is not None  # `check` has seen that there are some
        names = ("model.safetensors", "pytorch_model.bin")
        if place.hf_hub_id and any(try_to_load_from_cache(place.hf_hub_id, n) for n in names):
            return
        url = constants.ENDPOINT if place.hf_hub_id else str(place.url)
        try:
            urlopen(Request(url, method="HEAD"), timeout=5).close()
        except HTTPError:
            return  # somebody answers
        except OSError:
            host = urlparse(url).hostname
            raise self._not_loaded(f"{host} cannot be reached from here") from None

    def _siblings(self) -> str:
        """Networks of a similar name that have weights, as words."""
        import timm

        like = sorted(timm.list_models(f"*{self.name}*", pretrained=True), key=len)
        return f"; there are some of {', '.join(like[:3])}" if like else ""

    def _complete(self, path: Path, channels: int) -> None:
        """Timm leaves what a file lacks at random and says nothing; here that is an error."""
        like = self._headless()
        try:
            found = self._converted(path, like)
        except (*BROKEN_FILE, *OF_ANOTHER) as error:
            words = first_line(error)
            if "weights_only" in str(error):
                words = f"{path} holds more than tensors; save the state_dict of its model"
            raise self._not_loaded(words) from None
        wanted = like.state_dict()
        missing = [k for k in wanted if k not in found and not k.endswith("num_batches_tracked")]
        if missing:
            raise self._not_loaded(
                f"{len(missing)} of {len(wanted)} tensors are not in {path}, such as {missing[0]}"
            )
        first = {f"{name}.weight" for name in _first_convolutions(like)}  # of any channels
        unlike = [k for k, v in wanted.items() if k in found and found[k].shape != v.shape]
        if odd := [k for k in unlike if k not in first]:
            shapes = " and ".join(str(tuple(t.shape)) for t in (found[odd[0]], wanted[odd[0]]))
            raise self._not_loaded(f"{odd[0]} has the shapes {shapes} in {path} and in the network")
        for name in first & {*found}:
            if (own := found[name].shape[1]) not in (3, channels):
                raise self._not_loaded(f"{path} is of {own} channels, and the study has {channels}")

    def _headless(self) -> nn.Module:
        """The network without a classifier, untrained."""
        import timm

        return timm.create_model(self.name, pretrained=False, num_classes=0)

    def _converted(self, path: Path, like: nn.Module) -> dict[str, Tensor]:
        """The tensors of a file by the names that timm gives them: authors have names of their own.

        Args:
            path: Of the file.
            like: The network that they are for.
        """
        from timm.models import load_state_dict, model_entrypoint

        found = load_state_dict(str(path), weights_only=True)
        home = inspect.getmodule(model_entrypoint(self.name))
        convert = getattr(home, "checkpoint_filter_fn", None)
        return found if convert is None else convert(found, like)

    def _file(self) -> Path:
        """The file that `weights` names."""
        path = Path(self.weights)
        if path.is_dir():
            names = (f"{self.name}.safetensors", f"{self.name}.pth", *WEIGHT_FILES)
            found = [path / n for n in names if (path / n).is_file()]
            if not found:
                raise WeightsError(f"no weights in {path}; looked for {', '.join(names)}")
            return found[0]
        if not path.is_file():
            raise WeightsError(
                f'weights="{self.weights}": no such file; cures: none, imagenet, or the path of a '
                "file or folder"
            )
        return path


def _first_convolutions(body: Any) -> tuple[str, ...]:
    """The modules that see the channels of a picture."""
    first = body.pretrained_cfg.get("first_conv") or ()
    return (first,) if isinstance(first, str) else tuple(first)


def _vector_width(body: Any) -> int:
    """Features after the network's own pooling; some widen them once more before a classifier."""
    return int(getattr(body, "head_hidden_size", None) or body.num_features)


def _is_last(body: nn.Module) -> bool:
    """Whether features are the last axis of a body's maps, in timm's own word."""
    return str(getattr(body, "output_fmt", "")).endswith("NHWC")


def _map_width(body: nn.Module, channels: int, *, is_last: bool) -> int:
    """Channels of the feature map, from a look at one."""
    training = body.training
    with torch.no_grad():
        shape = body.eval()(torch.zeros(1, channels, *_side(body))).shape
    body.train(training)
    if len(shape) != 4:
        raise UsageError(
            f"this backbone gives no feature map (shape {tuple(shape)}); use its own pooling"
        )
    return int(shape[3] if is_last else shape[1])


def _side(body: Any) -> tuple[int, int]:
    """A picture size that the network takes."""
    fixed = body.pretrained_cfg.get("fixed_input_size", False)
    return tuple(body.pretrained_cfg["input_size"][1:]) if fixed else (64, 64)


def is_depthwise(model: nn.Module) -> bool:
    """Whether a convolution of the model treats every channel on its own."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    return any(m.groups == m.in_channels > 1 for m in convolutions)
