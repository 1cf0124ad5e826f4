"""Plausible biopsy slides whose grade follows from how the glands in them have grown.

One to three needle cores lie on bright glass, so most of a slide says nothing. The two patterns of
glands that cover most of what is malignant decide the grade. Two providers stain, scan and read in
their own ways. Faults are planted: grades moved by one, pen strokes, slides with nothing on them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from foveal.arrays import Pixels
from foveal.simulate.clouds import clouds
from foveal.simulate.glands import COARSE, Growth, Planes, Regions, draw_glands

STEPS = (1, 4, COARSE)
"""How much coarser each level is than the finest, to whose pixels all lengths refer."""

SPACING_UM = 0.5
"""Between pixels of the finest level, in micrometres."""

HEMATOXYLIN = (0.65, 0.70, 0.29)
"""How much the stain of nuclei absorbs of red, green and blue."""

DENSITY = 1 / 80
"""Optical density of a stain for each step of its plane, 0 to 255."""

GROUPS = (((2, 2),), ((3, 3),), ((3, 4),), ((4, 3),), ((4, 4), (3, 5)), ((4, 5), (5, 4), (5, 5)))
"""From grade group to its pairs of patterns, the one that covers most first."""

EXTENTS = ((0.0, 0.0), (0.1, 0.4), (0.12, 0.5), (0.15, 0.6), (0.2, 0.7), (0.25, 0.85))
"""Share of the tissue that malignant glands fill, by grade group."""

FOCI = (1, 1, 1, 3, 3, 3)
"""Most places where malignant glands begin, by grade group."""

BORDERLINE = 0.25
"""A pair whose order is less clear than this, 0 to 1, is read as worse by the strict."""

MASKED = 0.8
"""Share of slides that have a mask."""

GOLDEN = 0.618034
"""Steps of this share lie evenly spread between 0 and 1, however many there are."""

INKS = np.array([(0.2, 0.6, 0.35), (0.15, 0.25, 0.7), (0.12, 0.12, 0.15), (0.8, 0.15, 0.2)])
"""Red, green and blue that pass a green, a blue, a black and a red pen."""


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
        growth: The glands that tell it.
    """

    patient: int
    provider: str
    strengths: Float[np.ndarray, "2"]
    group: int
    growth: Growth


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
    for k, finding in enumerate(islice(_findings(seed), cases)):
        rng, provider = np.random.default_rng((seed, k)), PROVIDERS[finding.provider]
        name, grade = f"b{k:04d}", _read(rng, finding, grades=grades, noise=noise)
        has_pen, has_mask = rng.random(2) < (pens, MASKED)
        picture = np.full((height, width, 3), provider.glass, np.uint8)
        mask = np.zeros((height // COARSE, width // COARSE), np.uint8)
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
) -> tuple[Pixels, Regions]:
    """One slide, height x width x 3, and its labels on the coarsest level."""
    planes, mask = draw_glands(rng, growth=finding.growth, shape=shape)
    return _scanned(rng, planes, finding), mask


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
                growth=Growth(
                    pair=GROUPS[group][int(rng.integers(len(GROUPS[group])))],
                    clear=rng.random(),
                    extent=rng.uniform(*EXTENTS[group]),
                    foci=FOCI[group],
                ),
            )
        patient += 1


def _read(rng: np.random.Generator, finding: Finding, *, grades: int, noise: float) -> int:
    """The grade in the table: as the provider reads it, sometimes moved by one."""
    is_borderline = finding.group > 0 and finding.growth.clear < BORDERLINE
    worse = is_borderline and PROVIDERS[finding.provider].is_strict
    highest, top = grades - 1, len(GROUPS) - 1
    grade = -(-min(finding.group + worse, top) * highest // top)
    is_moved, is_up = rng.random(2) < (noise, 0.5)
    if is_moved:
        grade += 1 if grade == 0 or (is_up and grade < highest) else -1
    return grade


def _scanned(rng: np.random.Generator, planes: Planes, finding: Finding) -> Pixels:
    """Light that passes the two stains, which lie unevenly, as the provider's scanner sees it."""
    provider, shape = PROVIDERS[finding.provider], planes.shape[:2]
    uneven = np.clip(128 + 14 * clouds(rng, shape, 6), 0, 255).astype(np.uint8)
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
    ink, tissue = INKS[int(rng.integers(len(INKS)))], np.argwhere(mask)[:, ::-1] * COARSE
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
