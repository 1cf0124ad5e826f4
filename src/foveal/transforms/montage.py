"""Tiles of a slide laid out for a network, varied one by one.

A case holds the tiles of all shifts of a grid one under the other. A training sees those of one
shift, drawn, each varied on its own, the colours of all alike as one stain is; a view sees those of
its shift. Either stands as a tall column, a bag, or as one picture of rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from foveal.arrays import Pixels, Resized
from foveal.transforms.views import View

Vary = Callable[[Pixels, np.random.Generator], Resized]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the tiles of a case lie, and how a network sees them.

    Attributes:
        count: Tiles of a shift.
        side: Of a tile, in pixels.
        shifts: Of the grid, one under the other.
        joined: Whether the network sees one picture of rows and columns, or a column of tiles.
    """

    count: int
    side: int
    shifts: int = 1
    joined: bool = True

    @property
    def rows(self) -> int:
        """Rows of tiles that the network sees: the nearest to a square that no tile is missing in.

        Example:
            >>> [Layout(count=n, side=8).rows for n in (16, 20, 7)]
            [4, 4, 1]
        """
        if not self.joined:
            return self.count
        return max(rows for rows in range(1, isqrt(self.count) + 1) if self.count % rows == 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.rows * self.side, self.count // self.rows * self.side

    def tiles(
        self, case: Shaped[np.ndarray, "tall side channel"], shift: int
    ) -> Shaped[np.ndarray, "tile side side channel"]:
        """The tiles of one shift."""
        return rearrange(case, "(shift n h) w c -> shift n h w c", n=self.count, h=self.side)[shift]

    def arrange(self, tiles: Shaped[np.ndarray, "tile side side channel"]) -> Resized:
        """Tiles as the network sees them."""
        return rearrange(tiles, "(row column) h w c -> (row h) (column w) c", row=self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaryTiles:
    """Random variants of a case: another shift, another order, every tile varied.

    Attributes:
        layout: How tiles lie.
        each: Varies a single tile, such as by turns.
        whole: Varies all tiles alike, such as their colours.
        shuffle: Probability that the tiles change places.
    """

    layout: Layout
    each: Vary
    whole: Vary
    shuffle: float = 0.0

    def __call__(self, case: Pixels, rng: np.random.Generator) -> Resized:
        """A variant of the size that the layout says; the case is never written to.

        Everything is drawn whether it is used or not, so that no setting moves another.
        """
        shift, is_shuffled = int(rng.integers(self.layout.shifts)), rng.random() < self.shuffle
        order = rng.permutation(self.layout.count)
        tiles = self.layout.tiles(case, shift)
        tiles = tiles[order] if is_shuffled else tiles
        varied = np.stack([self.each(tile, rng) for tile in tiles])
        return self.whole(self.layout.arrange(varied), rng)


@dataclass(frozen=True, slots=True)
class SeenTiles:
    """A batch of cases as the network sees them.

    Attributes:
        layout: How tiles lie.
        shift: Which of them are seen.
        mirrored: Whether left and right of every tile are exchanged.
    """

    layout: Layout
    shift: int = 0
    mirrored: bool = False

    def __call__(
        self, cases: Float[Tensor, "case channel tall side"]
    ) -> Float[Tensor, "case channel height width"]:
        """The tiles of the shift."""
        of = {"n": self.layout.count, "h": self.layout.side}
        tiles = rearrange(cases, "b c (shift n h) w -> b c shift n h w", **of)[:, :, self.shift]
        tiles = tiles.flip(-1) if self.mirrored else tiles
        rows = self.layout.rows
        return rearrange(tiles, "b c (row column) h w -> b c (row h) (column w)", row=rows)


def shifted(layout: Layout, *, mirrored: bool) -> tuple[View, ...]:
    """A view for every shift, and for the mirror image of each if wanted."""
    return tuple(
        View(forward=SeenTiles(layout, shift, flip))
        for flip in ((False, True) if mirrored else (False,))
        for shift in range(layout.shifts)
    )
