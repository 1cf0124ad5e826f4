"""The tiles of slides as members look at them: chosen by tissue, made once, mapped afterwards.

Where tissue is, is found once a slide and kept; size, number and offset of the tiles are chosen
from that without another look at the slide. A case's tiles lie one under the other, those of every
shift of the grid together, the best first::

    tiles = StoredTiles(tiles=Tiles(side=128, count=16, shifts=2))
    tiles(cases, resources)(row).shape      # 2 * 16 * 128, 128, 3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.arrays import Pixels
from foveal.errors import DataError, UnreadableImage
from foveal.manifest import Case
from foveal.members.pictures import Stored, stored
from foveal.read.level import GLASS
from foveal.read.slide import Slide, level_for, open_slide, overview, scene
from foveal.task import Resources
from foveal.train.cache import Direct, Mapped, seconds_to_make
from foveal.transforms.augment import resize
from foveal.transforms.tiles import PHASES
from foveal.transforms.tissue import SummedArea, best_tiles, tissue

MAP_SIDE = 256
"""Cells along each side of a tissue map."""

GROUP_BYTES = 1 << 23
"""Of larger regions that are read together, before they are shrunk."""

SCALE_DIGITS = 6
"""Of a ratio of resolutions: what lies behind is rounding, and would move the grid of tiles."""

TIMED_SLIDES = 2
"""Slides that say what one costs: each may take seconds, and every training asks."""

SAME_SCALE = 0.01
"""Difference of scales up to which a level is taken as it is."""


class NoTissue(DataError):
    """A slide shows nothing but glass."""


@dataclass(frozen=True, slots=True)
class FindTissue:
    """How much tissue every cell of a slide holds, 0 to 1; all zeros for a blank one.

    Where a case has a mask, a picture of the same scene, what has higher values there is wanted
    more, and what has 0 is not wanted, unless that leaves nothing. In colour the highest counts.

    Attributes:
        pens: Whether what has the colour of a pen is no tissue.
    """

    pens: bool = True

    def __call__(self, case: Case) -> Float[np.ndarray, "row column"]:
        """The map of a case.

        Raises:
            UnreadableImage: The slide or its mask does not decode.
        """
        with open_slide(case.paths[0]) as slide:
            amount = tissue(overview(slide, 2 * MAP_SIDE), pens=self.pens)
        amount = cv2.resize(amount, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
        if case.mask is not None:
            picture = scene(case.mask, 2 * MAP_SIDE)
            colours = picture[:, :, : 3 if picture.shape[2] > 2 else 1]  # what is behind is alpha
            wanted = colours.max(axis=2).astype(np.float64)
            wanted = cv2.resize(wanted, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
            steered = amount * wanted / max(float(wanted.max()), 1e-12)
            amount = steered if steered.any() else amount
        return amount.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles of a slide that hold most tissue, at one resolution.

    Attributes:
        side: Of a tile, in pixels.
        count: Tiles of every shift; where there are fewer with tissue, the rest is glass.
        shifts: Offsets of the grid that are used, 1 to 4: none, half a tile both ways, then down,
            then across.
        downsample: Pixels of the largest level along a side of a pixel of a tile.
        spacing_um: Microns along a side of a pixel instead, where every slide says its own; new
            ones must then say it too.
        channels: Of a tile; grey is repeated where there are more.
        evenly: Share of the tiles that is spread over all tissue, 0 to 1.
        find: Where tissue is; found once a slide, whatever tiles are chosen by it later.
    """

    side: int
    count: int
    shifts: int = 1
    downsample: float = 1.0
    spacing_um: float | None = None
    channels: int = 3
    evenly: float = 0.0
    find: FindTissue = FindTissue()

    def __call__(self, case: Case, amount: Float[np.ndarray, "row column"]) -> Pixels:
        """All tiles of a case, one under the other.

        Raises:
            NoTissue: There is none.
            UnreadableImage: A tile does not decode, or the slide does not say its resolution.
        """
        if not amount.any():
            raise NoTissue(f"{case.paths[0]}: no tissue was found on this slide")
        with open_slide(case.paths[0]) as slide:
            if slide.channels not in (1, self.channels):
                raise UnreadableImage(
                    f"{slide.path}: {slide.channels} channels, where the study has {self.channels}"
                )
            places = self.places(slide, amount)
            shape = (len(places), self.count, self.side, self.side, self.channels)
            out = np.empty(shape, dtype=np.uint8)
            for shift, corners in zip(out, places, strict=True):
                self._cut(slide, corners, shift[: len(corners)])
                shift[len(corners) :] = GLASS
        return out.reshape(-1, self.side, self.channels)

    def places(
        self, slide: Slide, amount: Float[np.ndarray, "row column"]
    ) -> list[Float[np.ndarray, "tile corner"]]:
        """Top and left of the tiles of every shift, in pixels of the largest level."""
        largest = slide.levels[0]
        area = SummedArea.of(amount.astype(np.float64), height=largest.height, width=largest.width)
        side = self.side * self.scale(slide)
        return [
            best_tiles(area, side=side, count=self.count, offset=shift, evenly=self.evenly)
            for shift in PHASES[: self.shifts]
        ]

    def pixels(self, case: Case) -> float:
        """How many pixels of tiles the whole slide of a case would be."""
        with open_slide(case.paths[0]) as slide:
            largest = slide.levels[0]
            return largest.height * largest.width / self.scale(slide) ** 2

    def scale(self, slide: Slide) -> float:
        """Pixels of the largest level along a side of a pixel of a tile."""
        if self.spacing_um is None:
            return self.downsample
        if slide.spacing_um is None:
            raise UnreadableImage(
                f"{slide.path}: the file does not say how many microns a pixel is wide, as every "
                "slide of the study does; cure: a copy that does, or a study with level="
            )
        return round(self.spacing_um / slide.spacing_um, SCALE_DIGITS)

    def _cut(
        self,
        slide: Slide,
        places: Float[np.ndarray, "tile corner"],
        out: Shaped[np.ndarray, "tile side side channel"],
    ) -> None:
        scale = self.scale(slide)
        number = level_for(slide, scale)
        corners = np.round(places / slide.levels[number].downsample).astype(np.int64)
        shrink = scale / slide.levels[number].downsample
        if abs(shrink - 1) <= SAME_SCALE and slide.channels == self.channels:
            slide.fill(out, number, corners)
            return
        side = self.side if abs(shrink - 1) <= SAME_SCALE else max(1, round(self.side * shrink))
        order = np.lexsort(corners.T[::-1])  # neighbours lie in the same tiles of the file
        groups = -(-len(order) * side * side * slide.channels // GROUP_BYTES)
        for group in np.array_split(order, groups) if groups else ():
            read = np.empty((len(group), side, side, slide.channels), dtype=np.uint8)
            slide.fill(read, number, corners[group])
            for k, tile in zip(group.tolist(), read, strict=True):
                out[k] = resize(tile, self.side, self.side)


@dataclass(frozen=True, slots=True)
class ShownTiles:
    """What a person is shown of a slide.

    Attributes:
        tiles: The ones to be marked.
        side: Longest side of the picture, in pixels.
    """

    tiles: Tiles
    side: int = 512

    def __call__(self, case: Case) -> tuple[Pixels, Float[np.ndarray, "tile 3"]]:
        """A small picture of the slide, and top, left and side of the first shift's tiles there.

        Raises:
            UnreadableImage: The slide is gone.
        """
        amount = self.tiles.find(case)
        with open_slide(case.paths[0]) as slide:
            image = overview(slide, self.side)
            corners = self.tiles.places(slide, amount)[0]
            scale = max(image.shape[:2]) / max(slide.levels[0].height, slide.levels[0].width)
            side = np.full((len(corners), 1), self.tiles.side * self.tiles.scale(slide))
        return image, np.concatenate([corners, side], axis=1) * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTiles:
    """What some steps make of the tiles of every case; members that ask for the same share it.

    Attributes:
        kind: First word of the cache's name; the rest follows from parts and cases.
        tiles: Which of them are wanted, and how.
        steps: From them to what is cached, one after the other.
        beside: From the map of tissue, and how many pixels of tiles it stands for, to numbers that
            stand behind that.
    """

    kind: str = "tiles"
    tiles: Tiles
    steps: tuple[Callable, ...] = ()
    beside: Callable | None = None

    def __call__(self, cases: Sequence[Case], resources: Resources) -> Mapped | Direct:
        """The arrays of all cases, from the study's cache or through it."""
        maps = Stored("tissue", self.tiles.find, ())(cases, resources)
        return stored(self.kind, self, self._maker(cases, maps), cases, resources)

    def seconds(self, cases: Sequence[Case], rows: Int[np.ndarray, " row"]) -> float:
        """What one case costs before it is cached, from a few of the rows.

        Tissue is looked for again, as it will be on a new slide.
        """
        return seconds_to_make(self._maker(cases, None), rows[:TIMED_SLIDES].tolist())

    def _maker(
        self, cases: Sequence[Case], maps: Mapped | Direct | None
    ) -> Callable[[int], np.ndarray]:
        def make(row: int) -> np.ndarray:
            if maps is not None and row in maps.failed:
                raise UnreadableImage(maps.failed[row])
            amount = self.tiles.find(cases[row]) if maps is None else maps(row)
            value = self.tiles(cases[row], amount)
            for step in self.steps:
                value = step(value)
            if self.beside is not None:
                more = self.beside(amount, self.tiles.pixels(cases[row]))
                value = np.concatenate([value, more]).astype(value.dtype)
            return value

        return make
