"""Needle cores of stroma in which glands grow by patterns, each worse than the one before.

Benign glands are large and round, with a tidy ring of nuclei around an open lumen; from pattern to
pattern they become smaller, crowded, fused, and at last single large dark nuclei. Malignant ones
fill a part of the tissue, around one focus or a few. All is drawn as stain and label, not as light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from foveal.simulate.clouds import clouds

COARSE = 16
"""Pixels along a side of a pixel of regions and masks."""

STROMA, BENIGN = 1, 2
"""Labels beside 0, glass; greater ones are patterns, each worse than the one before."""

UPRIGHT = 0.3
"""Share of slides whose cores lie along the height."""

CORNERS = 20
"""Of the outline of a gland."""

Planes = UInt8[np.ndarray, "height width 3"]
"""Hematoxylin, eosin, and the label."""

Regions = UInt8[np.ndarray, "rows columns"]
"""Labels on the coarse grid."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """How glands grow.

    Attributes:
        apart: From the middle of a gland to the next one's, in pixels.
        radius: Of a gland, in pixels.
        wobble: How far its edge is from a circle, in radii.
        lumen: Radius of the hollow, in radii of the gland.
        hollow: Share of glands that have one.
        ring: Distance of the nuclei from the middle, in radii of the gland.
        disorder: Of that distance, and of the places of glands.
        pitch: From a nucleus to the next one on the ring, in pixels.
        nucleus: Radius of a nucleus, in pixels.
        dark: Hematoxylin in a nucleus, 0 to 255.
    """

    apart: float
    radius: float
    wobble: float
    lumen: float
    hollow: float
    ring: float
    disorder: float
    pitch: float
    nucleus: float
    dark: float


PATTERNS = {
    2: Pattern(64, 26, 0.10, 0.50, 0.95, 0.84, 0.03, 6.0, 2.6, 100),
    3: Pattern(34, 13, 0.08, 0.42, 0.95, 0.76, 0.06, 7.5, 2.8, 105),
    4: Pattern(25, 16, 0.18, 0.36, 0.70, 0.74, 0.12, 10.0, 3.0, 110),
    5: Pattern(14, 6.0, 0.25, 0.0, 0.0, 0.3, 0.35, 12.0, 3.6, 120),
}
"""From label to how its glands grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What is malignant in a slide.

    Attributes:
        pair: The patterns that cover most, the larger one first; those of benign glands if all are.
        clear: How clear their order is, 0 to 1.
        extent: Share of the tissue that is malignant.
        foci: Most places where it begins.
    """

    pair: tuple[int, int]
    clear: float
    extent: float
    foci: int


@dataclass(frozen=True, slots=True)
class Core:
    """A needle core: points on its middle line, and from there to its edge, x and y."""

    middle: Float[np.ndarray, "point 2"]
    across: Float[np.ndarray, "point 2"]

    def at(
        self, along: Float[np.ndarray, "*place"], beside: Float[np.ndarray, "*place"]
    ) -> Float[np.ndarray, "*place 2"]:
        """Places from the share of the length, 0 to 1, and of half the width, -1 to 1."""
        known = np.linspace(0, 1, len(self.middle))
        columns = np.concatenate([self.middle, self.across], axis=1).T
        found = np.stack([np.interp(along, known, column) for column in columns], axis=-1)
        return found[..., :2] + beside[..., None] * found[..., 2:]


def draw_glands(
    rng: np.random.Generator, *, growth: Growth, shape: tuple[int, int]
) -> tuple[Planes, Regions]:
    """The stains and labels of one slide of height x width, and its labels on the coarse grid."""
    planes = np.zeros((*shape, 3), np.uint8)
    cores = _cores(rng, *shape)
    for core in cores:
        _stroma(planes, rng, core)
    tissue = (planes[:, :, 2] > 0).astype(np.uint8)
    regions = _regions(rng, _coarse(tissue) > 0, growth)
    for label in PATTERNS:
        _grow(planes, rng, regions, label)
    for core in cores:
        _lymphocytes(planes, rng, core)
    planes = cv2.bitwise_and(planes, planes, mask=tissue)
    return planes, _coarse(planes[:, :, 2]).copy()


def _coarse(plane: UInt8[np.ndarray, "height width"]) -> Regions:
    """The middle of every cell of the coarse grid that is whole."""
    cells = (slice(n // COARSE) for n in plane.shape)
    return plane[COARSE // 2 :: COARSE, COARSE // 2 :: COARSE][*cells]


def _cores(rng: np.random.Generator, height: int, width: int) -> list[Core]:
    """One to three cores side by side, bent and of uneven width: 10 to 25 % of the area."""
    count, is_upright = int(rng.integers(1, 4)), rng.random() < UPRIGHT
    area = (0.05 * (count + 1) + rng.uniform(0.01, 0.05)) * height * width
    long, short = (height, width) if is_upright else (width, height)
    cores = []
    for k in range(count):
        length = long * rng.uniform(0.74, 0.9)
        half = area / count / length / 2
        along = np.linspace(-0.5, 0.5, round(length / 8))
        free = max(0.0, min(short / count / 2 - 1.4 * half, 0.08 * length))
        bend = rng.uniform(-1, 1) * np.cos(np.pi * along)
        bend += 0.15 * np.sin(rng.uniform(4, 9) * along + rng.uniform(0, 6))
        x = long / 2 + rng.uniform(-0.4, 0.4) * (long - length) + along * length
        y = short * (k + 0.5) / count + free * (bend - bend.mean())
        slope = np.gradient(y, x)
        uneven = 1 + 0.12 * np.interp(along, np.linspace(-0.5, 0.5, 12), rng.normal(0, 1, 12))
        reach = half * uneven * np.clip(1 - np.abs(2 * along) ** 40, 0.02, 1) / np.hypot(slope, 1)
        lines = np.stack([x, y], axis=1), np.stack([-slope, np.ones_like(x)], axis=1)
        middle, across = (line[:, ::-1] if is_upright else line for line in lines)
        cores.append(Core(middle, across * reach[:, None]))
    return cores


def _stroma(planes: Planes, rng: np.random.Generator, core: Core) -> None:
    """Fibres along the core, clefts between them, slender nuclei, and a frayed edge."""
    ends = np.linspace(0, 1, 2 * len(core.middle))
    edges = [core.at(ends, side * rng.normal(1, 0.02, len(ends))) for side in (1, -1)]
    outline = np.concatenate([edges[0], edges[1][::-1]]).astype(np.int32)
    cv2.fillPoly(planes, [outline], (6, 42, STROMA))
    count = round(cv2.contourArea(outline) / 500)
    along = rng.random((count, 1)) + np.linspace(0, 1, 8) * rng.uniform(0.02, 0.1, (count, 1))
    beside = rng.uniform(-1, 1, (count, 1)) + 0.06 * rng.normal(0, 1, (count, 8)).cumsum(axis=1)
    fibres = core.at(along, np.clip(beside, -1.05, 1.05)).astype(np.int32)
    for k, (eosin, wide) in enumerate(((56, 3), (30, 2), (66, 2), (48, 4), (36, 3), (2, 2))):
        shade = (6, eosin, STROMA)
        cv2.polylines(planes, list(fibres[k::6]), isClosed=False, color=shade, thickness=wide)
    where, beside = rng.random(count), rng.uniform(-1, 1, count)
    places = core.at(where, beside)
    x, y = (core.at(where + 0.01, beside) - places).T
    turns = np.degrees(np.arctan2(y, x)) + rng.normal(0, 15, count)
    _nuclei(planes, rng, places, (4.0, 1.2), (85, STROMA), turns)


def _nuclei(
    planes: Planes,
    rng: np.random.Generator,
    places: Float[np.ndarray, "nucleus 2"],
    radii: tuple[float, float],
    shade: tuple[float, int],
    turns: Float[np.ndarray, " nucleus"],
) -> None:
    """Ellipses, turned by degrees, with some hematoxylin and a label; sizes and shades vary."""
    sizes = np.array(radii) * np.exp(rng.normal(0, 0.13, places.shape))
    darks = shade[0] * rng.uniform(0.75, 1.25, len(places))
    drawn = ((places * 16).astype(int), (sizes * 16).astype(int), turns, darks)
    for middle, size, turn, dark in zip(*(some.tolist() for some in drawn), strict=True):
        colour = (dark, 22, shade[1])
        cv2.ellipse(planes, middle, size, turn, 0, 360, colour, -1, cv2.LINE_8, 4)


def _regions(
    rng: np.random.Generator, tissue: Bool[np.ndarray, "rows columns"], growth: Growth
) -> Regions:
    """Where which pattern grows: around one focus or a few, with exact shares of the tissue."""
    regions, (one, other) = tissue * np.uint8(BENIGN), growth.pair
    places, grid = np.argwhere(tissue), np.moveaxis(np.indices(tissue.shape), 0, 2)
    foci = places[rng.integers(len(places), size=rng.integers(1, growth.foci + 1))]
    away = np.min([np.linalg.norm(grid - focus, axis=2) for focus in foci], axis=0)
    away = away / min(tissue.shape) + 0.08 * clouds(rng, tissue.shape, 16)
    malignant = tissue & (away < np.quantile(away[tissue], growth.extent))
    share = 0.54 + 0.36 * growth.clear
    if one == other:  # a trace of the next pattern
        other, share = min(one + 1, max(PATTERNS)), 0.95 + 0.05 * growth.clear
    if malignant.any():
        mixed = clouds(rng, tissue.shape, 12)[malignant]
        regions[malignant] = np.where(mixed <= np.quantile(mixed, share), one, other)
    return regions


def _scattered(
    rng: np.random.Generator, regions: Regions, label: int
) -> Float[np.ndarray, "gland 2"]:
    """Middles of the glands of a pattern, on a loose hexagonal lattice where it grows."""
    pattern, (rows, columns) = PATTERNS[label], regions.shape
    y, x = np.mgrid[: rows * COARSE : pattern.apart * 0.87, : columns * COARSE : pattern.apart]
    x[1::2] += pattern.apart / 2
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    places += rng.normal(0, (0.1 + pattern.disorder / 2) * pattern.apart, places.shape)
    column, row = np.clip(places // COARSE, 0, (columns - 1, rows - 1)).astype(np.int64).T
    return places[(regions[row, column] == label) & (rng.random(len(places)) < 0.9)]


def _grow(planes: Planes, rng: np.random.Generator, regions: Regions, label: int) -> None:
    """Bodies of all glands of a pattern, then their lumens, then their nuclei."""
    pattern, middle = PATTERNS[label], _scattered(rng, regions, label)
    radius = pattern.radius * np.exp(rng.normal(0, 0.15, (len(middle), 1)))
    bumps = rng.normal(0, pattern.wobble / 2, (len(middle), CORNERS))
    reach = radius * (1 + sum(np.roll(bumps, k, axis=1) for k in range(5)))
    even = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)[None]
    hollow = rng.random(len(middle)) < pattern.hollow
    lumens = pattern.lumen * reach * rng.normal(1, 0.12, reach.shape)
    for outlines, colour in (
        (_around(middle, reach, even), (4 + 5 * label, 34, label)),
        (_around(middle, lumens, even)[hollow], (0, 0, label)),
    ):
        for outline in (outlines * 16).astype(np.int32):
            cv2.fillPoly(planes, [outline], colour, cv2.LINE_8, 4)
    counts = np.maximum(1, 2 * np.pi * pattern.ring * radius[:, 0] / pattern.pitch).astype(int)
    of = np.repeat(np.arange(len(middle)), counts)
    angle = 2 * np.pi * np.arange(len(of)) / counts[of] + rng.normal(0, 0.08, len(of))
    share = np.clip(rng.normal(pattern.ring, pattern.disorder, len(of)), 0, 1)
    corner = np.round(angle / (2 * np.pi) * CORNERS).astype(int) % CORNERS
    places = _around(middle[of], (share * reach[of, corner])[:, None], angle[:, None])[:, 0]
    turns = np.degrees(angle) if label == BENIGN else rng.uniform(0, 360, len(of))
    radii = (1.15 * pattern.nucleus, 0.85 * pattern.nucleus)
    _nuclei(planes, rng, places, radii, (pattern.dark, label), turns)


def _around(
    middle: Float[np.ndarray, "gland 2"],
    reach: Float[np.ndarray, "gland corner"],
    angle: Float[np.ndarray, "#gland corner"],
) -> Float[np.ndarray, "gland corner 2"]:
    """Places at distances and angles from the middles of glands."""
    return middle[:, None] + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=2)


def _lymphocytes(planes: Planes, rng: np.random.Generator, core: Core) -> None:
    """Crowds of small dark cells, which say nothing about the grade."""
    for _ in range(rng.poisson(1.2)):
        count = int(rng.integers(60, 180))
        middle = core.at(rng.random(1), rng.uniform(-0.8, 0.8, 1))
        places = middle + rng.normal(0, rng.uniform(12, 28), (count, 2))
        _nuclei(planes, rng, places, (2.1, 2.1), (130, STROMA), np.zeros(count))
