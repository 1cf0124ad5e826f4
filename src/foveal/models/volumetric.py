"""Networks for a stack of slices: what is learned from pictures, slice group by slice group.

The stack is cut into groups of neighbouring slices. A picture backbone sees each group as the
channels of one picture; blocks that mix over depth, separated by channel, follow; then average and
maximum over the groups, and one logit a cell of the lattice::

    model = Volumetric(groups=7, channels=5, lattice=32).build(Backbone("resnetrs50"))
    model(torch.zeros(2, 35, 256, 256)).shape     # (2, 8, 8)

A lattice finer than the last feature map is reached by going back up through the finer maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from foveal.errors import UsageError
from foveal.models.backbone import Backbone, Levels

Map = Float[Tensor, "_ _ _ _"]
"""Case, feature, row, column; maps of several strides meet in one function."""

Stack = Float[Tensor, "case feature group rows columns"]

FINE = 4
"""Stride in pixels below which maps on the way up get fewer features."""


class SeparatedBlock(nn.Module):
    """A residual block in which only a depthwise 3 x 3 x 3 convolution looks around.

    The last norm starts at zero, so that a fresh block hands on its shortcut, which is always
    projected. Depth is never reduced.

    Reference:
        Tran et al., Video Classification with Channel-Separated Convolutional Networks, 2019
        (interaction preserved).
    """

    def __init__(self, width: int) -> None:
        """Make a block from `width` features to as many."""
        super().__init__()
        point = {"kernel_size": 1, "bias": False}
        last = nn.BatchNorm3d(width)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(
            nn.Conv3d(width, width, **point),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, **point),
            nn.Conv3d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, **point),
            last,
        )
        self.shortcut = nn.Sequential(nn.Conv3d(width, width, **point), nn.BatchNorm3d(width))

    def forward(self, features: Stack) -> Stack:
        """The same shape."""
        return functional.relu(self.branch(features) + self.shortcut(features))


class Join(nn.Module):
    """One step up: a coarse and a finer map, each convolved at its own size, then added.

    Convolved before it is enlarged, the coarse map costs a quarter and reaches twice as far.
    """

    def __init__(self, coarse: int, finer: int, width: int) -> None:
        """Make a step from maps with so many features to `width`."""
        super().__init__()
        self.coarse = nn.Conv2d(coarse, width, 3, padding=1, bias=False)
        self.finer = nn.Conv2d(finer, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, coarse: Map, finer: Map) -> Map:
        """Features as large as the finer map."""
        enlarged = functional.interpolate(self.coarse(coarse), finer.shape[2:], mode="nearest")
        return functional.relu(self.norm(enlarged + self.finer(finer)))


class Decoder(nn.Module):
    """From the coarsest map up to a finer one, twice as fine with every step.

    The finest maps cost the most; those of strides below `FINE` get half the features of the
    map before, as in a U-Net.
    """

    def __init__(self, coarse: int, finer: Sequence[tuple[int, int]], width: int) -> None:
        """Make steps to maps with these features and strides, the next finer first."""
        super().__init__()
        widths = [coarse, *(max(1, width * min(stride, FINE) // FINE) for _, stride in finer)]
        self.steps = nn.ModuleList(
            Join(before, skip, after)
            for (before, after), (skip, _) in zip(pairwise(widths), finer, strict=True)
        )
        self.width = widths[-1]

    def forward(self, features: Map, finer: Sequence[Map]) -> Map:
        """Features at the stride of the last of the finer maps."""
        for step, skip in zip(self.steps, finer, strict=True):
            features = step(features, skip)
        return features


def over_depth(features: Stack) -> Map:
    """Average and maximum over the slice groups; of a single one they are the same."""
    if features.shape[2] == 1:
        return features[:, :, 0]
    return torch.cat([features.mean(2), features.amax(2)], 1)


def standardised(slices: Map, side: int | None = None) -> Map:
    """Every input brought to mean 0 and deviation 1 over all its slices.

    Args:
        slices: "case slice row column".
        side: Of the inputs that were learned from, in pixels; a larger one is brought to what lies
            in such a square around each place, as if that had been cut out. None: all of it.
    """
    size = slices.shape[-2:]
    if side is None or max(size) <= side:
        spread, mean = torch.std_mean(slices, dim=(1, 2, 3), keepdim=True)
        return (slices - mean).div_(spread + 1e-6)
    cell = max(1, side // 5)
    pool = partial(functional.avg_pool2d, count_include_pad=False)

    def around(plane: Map) -> Map:
        coarse = pool(pool(plane, cell, ceil_mode=True), 5, stride=1, padding=2)
        fine = functional.interpolate(coarse, scale_factor=cell, mode="bilinear")
        return fine[..., : size[0], : size[1]]

    mean, square = (around(plane[:, None]) for plane in (slices.mean(1), slices.square().mean(1)))
    spread = (square - mean.square()).clamp_(min=0).sqrt_()
    return (slices - mean).div_(spread + 1e-6)


def grouped(slices: Map, groups: int) -> Map:
    """Slice groups as pictures of their own, copied once where slices lie channels last.

    Args:
        slices: "case slice row column".
        groups: Of each case.
    """
    apart = slices.unflatten(1, (groups, -1))
    if slices.is_contiguous():
        return apart.flatten(0, 1)
    shape, layout = (len(slices) * groups, *apart.shape[2:]), torch.channels_last
    pictures = torch.empty(shape, dtype=slices.dtype, device=slices.device, memory_format=layout)
    pictures.unflatten(0, apart.shape[:2]).copy_(apart)
    return pictures


class VolumetricModel(nn.Module):
    """Slices to one logit a cell of the lattice."""

    def __init__(self, encoder: Levels, settings: Volumetric, lattice_levels: int) -> None:
        """Join an encoder, a neck, blocks over depth, a decoder of so many levels, and a head."""
        super().__init__()
        width = settings.width
        self.encoder, self.settings = encoder, settings
        self.neck = nn.Sequential(
            nn.Conv2d(encoder.widths[-1], width, 1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(SeparatedBlock(width) for _ in range(settings.blocks)))
        joined = 2 if settings.groups > 1 else 1
        levels = zip(encoder.widths, encoder.strides, strict=True)
        finer = [(joined * w, s) for w, s in list(levels)[-2::-1][:lattice_levels]]
        self.decoder = Decoder(joined * width, finer, settings.decoder_width)
        hidden = min(width, self.decoder.width)
        self.head = nn.Sequential(
            nn.Conv2d(self.decoder.width, hidden, 1),
            nn.ReLU(),
            nn.BatchNorm2d(hidden),
            nn.Dropout2d(settings.dropout),
            nn.Conv2d(hidden, 1, 1),
        )
        self.enlarge = encoder.strides[-1 - lattice_levels] // settings.lattice

    def forward(self, slices: Float[Tensor, "case slice rows columns"]) -> Tensor:
        """Logits "case row column", one a cell of the lattice."""
        cases, groups = len(slices), self.settings.groups
        if self.settings.per_input:
            slices = standardised(slices, self.settings.side)
        maps = self.encoder(grouped(slices, groups))
        deep = self._stacked(self.neck(maps[-1]), cases)
        deep = over_depth(self.blocks(deep))
        count = len(self.decoder.steps)
        finer = [over_depth(self._stacked(m, cases)) for m in maps[-2::-1][:count]]
        logits = self.head(self.decoder(deep, finer))
        if self.enlarge > 1:
            logits = functional.interpolate(logits, scale_factor=self.enlarge, mode="bilinear")
        return logits[:, 0]

    def _stacked(self, features: Map, cases: int) -> Stack:
        """Groups as an axis of their own, behind the features."""
        return features.unflatten(0, (cases, self.settings.groups)).transpose(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumetric:
    """The 2.5-D network.

    Attributes:
        groups: Slice groups.
        channels: Slices of a group.
        lattice: Pixels a cell of the output is wide: 1, 2, 4, ... up to the backbone's stride.
        blocks: That look over depth.
        width: Features behind the backbone.
        decoder_width: Features on the way back up to a finer lattice.
        dropout: Share of features dropped before the logit.
        per_input: Whether every input is brought to mean 0 and deviation 1 by itself.
        side: Of the inputs that are learned from, in pixels; see `standardised`.
    """

    groups: int
    channels: int
    lattice: int = 32
    blocks: int = 3
    width: int = 512
    decoder_width: int = 64
    dropout: float = 0.0
    per_input: bool = True
    side: int | None = None

    @property
    def slices(self) -> int:
        """That the network looks at."""
        return self.groups * self.channels

    def build(self, backbone: Backbone, *, pretrained: bool = True) -> VolumetricModel:
        """Make the network on an encoder of pictures.

        Raises:
            UsageError: No feature map of the backbone is as coarse as the lattice.
        """
        encoder = backbone.levels(channels=self.channels, pretrained=pretrained)
        coarsest = encoder.strides[-1]
        if self.lattice > coarsest or coarsest % self.lattice:
            raise UsageError(
                f"lattice={self.lattice}: {backbone.name} gives cells of {coarsest} pixels; "
                "cure: that or a half, a quarter, ... of it"
            )
        fine_enough = [k for k, s in enumerate(encoder.strides) if s >= self.lattice]
        return VolumetricModel(encoder, self, len(encoder.strides) - 1 - fine_enough[0])
