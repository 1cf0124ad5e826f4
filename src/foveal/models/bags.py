"""A slide as a bag of tiles: one encoder sees each tile alone, a head sees the maps of all.

The tiles of a case come one under the other as a single tall picture, so whatever carries pictures
carries bags; the maps of the tiles come out one under the other too, and any pooling over a
picture is a pooling over the bag::

    encoder = Backbone("resnet18").build(channels=3, pooled=False)
    bags = torch.zeros(2, 3, 16 * 128, 128)
    TileEncoder(encoder, tiles=16)(bags).shape        # 2, 512, 16 * 4, 4

Reference:
    Ilse, Tomczak, Welling, Attention-based Deep Multiple Instance Learning, 2018.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from foveal.models.backbone import Encoder
from foveal.models.heads import Attention


class TileEncoder(nn.Module):
    """An encoder of single tiles, applied to all tiles of a bag.

    Attributes:
        width: Features a case, or channels of the feature map.
    """

    def __init__(self, encoder: Encoder, tiles: int) -> None:
        """Apply `encoder` to each of so many tiles."""
        super().__init__()
        self.encoder, self.tiles, self.width = encoder, tiles, encoder.width

    def forward(
        self, bags: Float[Tensor, "case channel height width"]
    ) -> Float[Tensor, "case feature ..."]:
        """The maps of all tiles, one under the other, or the mean of their vectors."""
        single = rearrange(bags, "case c (tile h) w -> (case tile) c h w", tile=self.tiles)
        found = self.encoder(single.contiguous(memory_format=_layout(bags)))
        if found.ndim == 2:
            return reduce(found, "(case tile) f -> case f", "mean", tile=self.tiles)
        return rearrange(found, "(case tile) f h w -> case f (tile h) w", tile=self.tiles)


class TileWeights(nn.Module):
    """How much a head that pays attention makes of every tile."""

    def __init__(self, attention: Attention, tiles: int) -> None:
        """Add up what `attention` gives to the places of each of so many tiles."""
        super().__init__()
        self.attention, self.tiles = attention, tiles

    def forward(
        self, maps: Float[Tensor, "case feature height width"]
    ) -> Float[Tensor, "case tile"]:
        """The weights of the tiles of every case; they sum to 1."""
        weights = self.attention.weights(maps)
        return reduce(weights, "case 1 (tile h) w -> case tile", "sum", tile=self.tiles)


def _layout(images: Tensor) -> torch.memory_format:
    """How a batch lies in memory, for what is made of it."""
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
