"""Plausible biopsy slides whose grade follows from how the glands in them have grown.

One to three needle cores of pink stroma lie on bright glass, so most of a slide says nothing. In
them are glands: benign ones are large and round, with a tidy ring of nuclei around an open lumen;
from pattern to pattern they become smaller, crowded, fused, and at last single large dark nuclei.
Malignant glands fill a part of the tissue only, one focus at low grades; the two patterns that
cover most of it decide the grade. Two providers stain, scan and read in their own ways. Faults
are planted: grades moved by one, pen strokes, slides with nothing on the glass.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from foveal.arrays import Pixels

STEPS = (1, 4, 16)
"""How much coarser each level is than the finest, to whose pixels all lengths refer."""

SPACING_UM = 0.5
"""Between pixels of the finest level, in micrometres."""

HEMATOXYLIN = (0.65, 0.70, 0.29)
"""How much the stain of nuclei absorbs of red, green and blue."""

DENSITY = 1 / 80
"""Optical density of a stain for each step of its plane, 0 to 255."""

STROMA, BENIGN = 1, 2
"""Labels in a mask beside 0, glass; greater ones are patterns, each worse than the one before."""

GROUPS = (((2, 2),), ((3, 3),), ((3, 4),), ((4, 3),), ((4, 4), (3, 5)), ((4, 5), (5, 4), (5, 5)))
"""From grade group to its pairs of patterns, the one that covers most first."""

EXTENTS = ((0.0, 0.0), (0.1, 0.4), (0.12, 0.5), (0.15, 0.6), (0.2, 0.7), (0.25, 0.85))
"""Share of the tissue that malignant glands fill, by grade group."""

BORDERLINE = 0.25
"""A pair whose order is less clear than this, 0 to 1, is read as worse by the strict."""

MASKED = 0.8
"""Share of slides that have a mask."""

UPRIGHT = 0.3
"""Share of slides whose cores lie along the height."""

CORNERS = 20
"""Of the outline of a gland."""

GOLDEN = 0.618034
"""Steps of this share lie evenly spread between 0 and 1, however many there are."""

INKS = np.array([(0.2, 0.6, 0.35), (0.15, 0.25, 0.7), (0.12, 0.12, 0.15), (0.8, 0.15, 0.2)])
"""Red, green and blue that pass a green, a blue, a black and a red pen."""


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


@dataclass(frozen=True, slots=True)
class Provider:
    """Who stains, scans and reads.

    Attributes:
        groups: Share of patients by grade group.
        eosin: How much the stain of all but nuclei absorbs of red, green and blue.
        strengths: Of hematoxylin and eosin.
        glass: Brightness of bare glass, 0 to 255.
        blur: Of the scanner, in pixels.
        quality: Of the JPEG tiles, 0 to 100.
        is_strict: Whether borderline slides are read as worse.
    """

    groups: tuple[float, ...]
    eosin: tuple[float, float, float]
    strengths: tuple[float, float]
    glass: int
    blur: float
    quality: int
    is_strict: bool


MILD, SEVERE = (0.28, 0.25, 0.14, 0.11, 0.12, 0.10), (0.20, 0.17, 0.14, 0.15, 0.17, 0.17)
"""Shares of patients by grade group."""

PROVIDERS = {
    "A": Provider(MILD, (0.07, 0.99, 0.11), (1.0, 0.78), 255, 0.6, 88, is_strict=False),
    "B": Provider(SEVERE, (0.09, 0.94, 0.33), (1.2, 0.7), 243, 1.0, 80, is_strict=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What grows in a slide, and whose it is.

    Attributes:
        patient: Counted from 0.
        provider: A name.
        strengths: Of hematoxylin and eosin.
        group: Grade group, 0 where all is benign.
        pair: The patterns that cover most, the larger one first.
        clear: How clear their order is, 0 to 1.
        extent: Share of the tissue that is malignant.
    """

    patient: int
    provider: str
    strengths: Float[np.ndarray, "2"]
    group: int
    pair: tuple[int, int]
    clear: float
    extent: float


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


def simulate_biopsy(
    folder: Path,
    *,
    cases: int = 60,
    height: int = 1536,
    width: int = 2048,
    seed: int = 0,
    grades: int = 6,
    noise: float = 0.1,
    pens: float = 0.15,
    blanks: float = 0.02,
) -> dict[str, Any]:
    """Write `labels.csv`, `slides/` and `masks/` and say how a study reads them.

    Args:
        folder: Made if it is not there.
        cases: Slides; the first ones are the same however many there are.
        height: Of the finest level, in pixels, 256 or more.
        width: Of the finest level, in pixels, 256 or more.
        seed: Of everything.
        grades: 2 to 6; with fewer than 6, neighbouring grade groups are one grade.
        noise: Share of grades moved by one.
        pens: Share of slides with pen strokes.
        blanks: Share of slides that are bare glass, whatever their grade says.

    Returns:
        The arguments `table`, `images`, `target` and `columns` of `init`.
    """
    for name in ("slides", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    every = round(1 / blanks) if blanks else 1
    blank = int(np.random.default_rng(seed).integers(min(every, 20)))
    rows: list[tuple[str, int, str, str]] = []
    for k, finding in zip(range(cases), _findings(seed), strict=False):
        rng, provider = np.random.default_rng((seed, k)), PROVIDERS[finding.provider]
        name, grade = f"b{k:04d}", _read(rng, finding, grades=grades, noise=noise)
        has_pen, has_mask = rng.random(2) < (pens, MASKED)
        picture = np.full((height, width, 3), provider.glass, np.uint8)
        mask = np.zeros((height // STEPS[-1], width // STEPS[-1]), np.uint8)
        if not blanks or k % every != blank:
            picture, mask = draw_biopsy(rng, finding=finding, shape=(height, width))
            if has_pen:
                _pen(rng, picture, mask)
        _write(folder / f"slides/{name}.tiff", picture, provider.quality)
        if has_mask:
            (folder / f"masks/{name}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        rows.append((name, grade, finding.provider, f"p{finding.patient:04d}"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "grade", "provider", "patient"), *rows])
    return {
        "table": folder / "labels.csv",
        "images": str(folder / "slides/{id}.tiff"),
        "target": "grade",
        "columns": {"group": "patient", "site": "provider"},
    }


def draw_biopsy(
    rng: np.random.Generator, *, finding: Finding, shape: tuple[int, int]
) -> tuple[Pixels, UInt8[np.ndarray, "rows columns"]]:
    """One slide, height x width x 3, and its labels on the coarsest level."""
    step, planes = STEPS[-1], np.zeros((*shape, 3), np.uint8)  # hematoxylin, eosin, label

    def coarse(plane: np.ndarray) -> np.ndarray:
        return plane[step // 2 :: step, step // 2 :: step][: shape[0] // step, : shape[1] // step]

    cores = _cores(rng, *shape)
    for core in cores:
        _stroma(planes, rng, core)
    tissue = (planes[:, :, 2] > 0).astype(np.uint8)
    regions = _regions(rng, coarse(tissue) > 0, finding)
    for label in PATTERNS:
        _grow(planes, rng, regions, label)
    for core in cores:
        _lymphocytes(planes, rng, core)
    planes = cv2.bitwise_and(planes, planes, mask=tissue)
    return _scanned(rng, planes, finding), coarse(planes[:, :, 2]).copy()


def _findings(seed: int) -> Iterator[Finding]:
    """Slide after slide; a patient has one to three, stained alike and of similar severity."""
    start, patient = np.random.default_rng(seed).random(), 0
    while True:
        rng, name = np.random.default_rng((seed, patient, 1)), "AB"[patient % 2]
        provider = PROVIDERS[name]
        strengths = np.array(provider.strengths) * np.exp(rng.normal(0, 0.15, 2))
        for _ in range(int(rng.integers(1, 4))):
            severity = np.clip((start + patient * GOLDEN) % 1 + rng.normal(0, 0.05), 0, 1)
            group = int(np.searchsorted(np.cumsum(provider.groups)[:-1], severity))
            yield Finding(
                patient=patient,
                provider=name,
                strengths=strengths * np.exp(rng.normal(0, 0.03, 2)),
                group=group,
                pair=GROUPS[group][int(rng.integers(len(GROUPS[group])))],
                clear=rng.random(),
                extent=rng.uniform(*EXTENTS[group]),
            )
        patient += 1


def _read(rng: np.random.Generator, finding: Finding, *, grades: int, noise: float) -> int:
    """The grade in the table: as the provider reads it, sometimes moved by one."""
    is_borderline = finding.group > 0 and finding.clear < BORDERLINE
    worse = is_borderline and PROVIDERS[finding.provider].is_strict
    highest, top = grades - 1, len(GROUPS) - 1
    grade = -(-min(finding.group + worse, top) * highest // top)
    is_moved, is_up = rng.random(2) < (noise, 0.5)
    if is_moved:
        grade += 1 if grade == 0 or (is_up and grade < highest) else -1
    return grade


def _clouds(
    rng: np.random.Generator, shape: tuple[int, ...], cells: int
) -> Float[np.ndarray, "rows columns"]:
    """Slow changes around 0, with so many ups and downs along the shorter side."""
    small = rng.normal(0, 1, [round(n * cells / min(shape)) for n in shape]).astype(np.float32)
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)


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


def _stroma(planes: np.ndarray, rng: np.random.Generator, core: Core) -> None:
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
    planes: np.ndarray,
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
    rng: np.random.Generator, tissue: Bool[np.ndarray, "rows columns"], finding: Finding
) -> UInt8[np.ndarray, "rows columns"]:
    """Where which pattern grows: around one focus or a few, with exact shares of the tissue."""
    regions, (one, other) = tissue * np.uint8(BENIGN), finding.pair
    places, grid = np.argwhere(tissue), np.moveaxis(np.indices(tissue.shape), 0, 2)
    foci = places[rng.integers(len(places), size=1 if finding.group < 3 else rng.integers(1, 4))]
    away = np.min([np.linalg.norm(grid - focus, axis=2) for focus in foci], axis=0)
    away = away / min(tissue.shape) + 0.08 * _clouds(rng, tissue.shape, 16)
    malignant = tissue & (away < np.quantile(away[tissue], finding.extent))
    share = 0.54 + 0.36 * finding.clear
    if one == other:  # a trace of the next pattern
        other, share = min(one + 1, max(PATTERNS)), 0.95 + 0.05 * finding.clear
    if malignant.any():
        mixed = _clouds(rng, tissue.shape, 12)[malignant]
        regions[malignant] = np.where(mixed <= np.quantile(mixed, share), one, other)
    return regions


def _scattered(
    rng: np.random.Generator, regions: UInt8[np.ndarray, "rows columns"], label: int
) -> Float[np.ndarray, "gland 2"]:
    """Middles of the glands of a pattern, on a loose hexagonal lattice where it grows."""
    pattern, step, (rows, columns) = PATTERNS[label], STEPS[-1], regions.shape
    y, x = np.mgrid[: rows * step : pattern.apart * 0.87, : columns * step : pattern.apart]
    x[1::2] += pattern.apart / 2
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    places += rng.normal(0, (0.1 + pattern.disorder / 2) * pattern.apart, places.shape)
    column, row = np.clip(places // step, 0, (columns - 1, rows - 1)).astype(np.int64).T
    return places[(regions[row, column] == label) & (rng.random(len(places)) < 0.9)]


def _grow(
    planes: np.ndarray,
    rng: np.random.Generator,
    regions: UInt8[np.ndarray, "rows columns"],
    label: int,
) -> None:
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


def _lymphocytes(planes: np.ndarray, rng: np.random.Generator, core: Core) -> None:
    """Crowds of small dark cells, which say nothing about the grade."""
    for _ in range(rng.poisson(1.2)):
        count = int(rng.integers(60, 180))
        middle = core.at(rng.random(1), rng.uniform(-0.8, 0.8, 1))
        places = middle + rng.normal(0, rng.uniform(12, 28), (count, 2))
        _nuclei(planes, rng, places, (2.1, 2.1), (130, STROMA), np.zeros(count))


def _scanned(rng: np.random.Generator, planes: np.ndarray, finding: Finding) -> Pixels:
    """Light that passes the two stains, which lie unevenly, as the provider's scanner sees it."""
    provider, shape = PROVIDERS[finding.provider], planes.shape[:2]
    uneven = np.clip(128 + 14 * _clouds(rng, shape, 6), 0, 255).astype(np.uint8)
    grain = cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (0, 0), 0.9)
    factor = cv2.addWeighted(uneven, 0.5, grain, 0.5, 0)
    passing = []
    for k, absorbed in enumerate((HEMATOXYLIN, provider.eosin)):
        plane = cv2.multiply(planes[:, :, k], factor, scale=1 / 128)
        plane = cv2.GaussianBlur(plane, (0, 0), provider.blur)
        density = np.arange(256) * DENSITY * finding.strengths[k]
        tables = (255 * np.exp(-density * share) for share in absorbed)
        passing.append([cv2.LUT(plane, np.round(table).astype(np.uint8)) for table in tables])
    scale = provider.glass / 255**2
    return cv2.merge(
        [cv2.multiply(one, other, scale=scale) for one, other in zip(*passing, strict=True)]
    )


def _pen(rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray) -> None:
    """A few thick strokes of one pen that begin beside or on tissue."""
    ink, tissue = INKS[int(rng.integers(len(INKS)))], np.argwhere(mask)[:, ::-1] * STEPS[-1]
    side = min(picture.shape[:2])
    for start in tissue[rng.integers(len(tissue), size=rng.integers(1, 5))]:
        turns = rng.uniform(0, 6.3) + np.cumsum(rng.normal(rng.uniform(-0.25, 0.25), 0.08, 24))
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.008, 0.025) * side
        steps[0] += start + rng.normal(0, 0.06 * side, 2)
        points = np.cumsum(steps, axis=0).astype(np.int32)
        wide = round(rng.uniform(0.012, 0.028) * side)
        x0, y0 = np.clip(points.min(axis=0) - wide, 0, None)
        x1, y1 = np.clip(points.max(axis=0) + wide, 0, None)
        window = picture[y0:y1, x0:x1]
        if not window.size:
            continue
        drawn = np.zeros(window.shape[:2], np.uint8)
        cv2.polylines(drawn, [points - (x0, y0)], isClosed=False, color=235, thickness=wide)
        cover = cv2.blur(drawn, (5, 5))[:, :, None] / 255
        window[:] = window * (1 - cover * (1 - ink))


def _write(path: Path, picture: Pixels, quality: int) -> None:
    """A TIFF with a page a level, in tiles of JPEG."""
    import tifffile

    height, width = picture.shape[:2]
    with tifffile.TiffWriter(path) as file:
        for step in STEPS:
            size, dots = (width // step, height // step), 1e4 / SPACING_UM / step
            file.write(
                cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
                photometric="rgb",
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": quality},
                subfiletype=int(step > 1),
                resolution=(dots, dots),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
