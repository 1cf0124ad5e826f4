"""Plausible fluorescence pictures of cells, labelled with the places where a protein is found.

Four channels, a file each: red microtubules, blue nuclei, yellow endoplasmic reticulum, and green
the protein, which sits in one to three kinds of places. Common places come often and rare ones
seldom, down to one picture in fifty. Pictures of a sample show the same protein in other cells;
some occur a second time, turned and stored again. Exposure, noise and density vary.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from foveal.arrays import Pixels

CHANNELS = ("red", "green", "blue", "yellow")

Plane = Float[np.ndarray, "height width"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell's parts, each a plane of 0 to 1 over the whole picture.

    Attributes:
        body: The cell.
        nucleus: Its nucleus.
        tubes: Microtubules.
        folds: Endoplasmic reticulum.
        centre: Of the nucleus, row and column.
        radius: Of the nucleus, in pixels.
    """

    body: Plane
    nucleus: Plane
    tubes: Plane
    folds: Plane
    centre: Float[np.ndarray, "2"]
    radius: float


def simulate_cells(
    folder: Path,
    *,
    cases: int = 300,
    size: int = 128,
    seed: int = 0,
    duplicates: float = 0.05,
    most: int = 3,
) -> dict[str, Any]:
    """Write `labels.csv` and `images/`, a file a channel, and say how a study reads them.

    Args:
        folder: Made if it is not there.
        cases: Pictures, duplicates included.
        size: Height and width, in pixels.
        seed: Of everything.
        duplicates: Share of pictures that occur a second time, turned.
        most: Kinds of places that a protein is in, 1 to 3.

    Returns:
        The arguments `table`, `images`, `target` and `columns` of `init`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str]] = []
    drawn: list[tuple[Pixels, str, str]] = []
    sample, labels, left = -1, (), 0
    for k in range(cases):
        if drawn and rng.random() < duplicates:
            picture, of, told = drawn[int(rng.integers(len(drawn)))]
            picture = np.rot90(picture, int(rng.integers(1, 4)))
        else:
            if not left:
                sample, labels, left = sample + 1, _places(rng, most), int(rng.integers(1, 4))
            left -= 1
            picture = draw_cells(np.random.default_rng((seed, k)), labels=labels, size=size)
            of, told = f"s{sample:04d}", " ".join(labels)
            drawn.append((picture, of, told))
        name = f"c{k:04d}"
        for channel, plane in zip(CHANNELS, np.moveaxis(picture, 2, 0), strict=True):
            data = cv2.imencode(".png", np.ascontiguousarray(plane))[1].tobytes()
            (folder / f"images/{name}_{channel}.png").write_bytes(data)
        rows.append((name, told, of))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "places", "sample"), *rows])
    return {
        "table": folder / "labels.csv",
        "images": str(folder / "images/{id}_{channel}.png"),
        "target": "places",
        "columns": {"group": "sample"},
    }


def draw_cells(rng: np.random.Generator, *, labels: tuple[str, ...], size: int) -> Pixels:
    """One picture, height x width x channel, whose protein is in these places."""
    cells = _scattered(rng, size)
    planes = {name: np.zeros((size, size), dtype=np.float32) for name in CHANNELS}
    for cell in cells:
        planes["red"] += cell.tubes
        planes["blue"] += cell.nucleus * rng.uniform(0.7, 1.0)
        planes["yellow"] += cell.folds
        for label in labels:
            planes["green"] += PLACES[label][1](cell, rng) * rng.uniform(0.6, 1.0)
    exposure = rng.uniform(0.6, 1.1, len(CHANNELS))
    shown = []
    for plane, light in zip(planes.values(), exposure, strict=True):
        blurred = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.5, 0.9))
        noisy = blurred * light + rng.normal(0.02, 0.015, plane.shape)
        shown.append((np.clip(noisy, 0, 1) * 255).astype(np.uint8))
    return np.stack(shown, axis=2)


def _scattered(rng: np.random.Generator, size: int) -> list[Cell]:
    """Cells that do not cover each other's nuclei."""
    cells: list[Cell] = []
    for _ in range(int(rng.integers(12, 24))):
        radius = size * rng.uniform(0.06, 0.09)
        centre = rng.uniform(0, size, 2)
        if all(np.hypot(*(centre - c.centre)) > 1.9 * (radius + c.radius) for c in cells):
            cells.append(_cell(rng, size, centre, radius))
    return cells


def _cell(rng: np.random.Generator, size: int, centre: np.ndarray, radius: float) -> Cell:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn, slant = rng.uniform(0, np.pi), rng.uniform(0.75, 1.0)
    down, across = y - centre[0], x - centre[1]
    along = np.cos(turn) * across + np.sin(turn) * down
    beside = (-np.sin(turn) * across + np.cos(turn) * down) / slant
    distance, angle = np.hypot(along, beside), np.arctan2(beside, along)
    wave = 1 + sum(
        rng.uniform(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 6)
    )
    nucleus = _inside(distance, radius)
    body = _inside(distance, 2.1 * radius * wave)
    spokes = 0.5 + 0.5 * np.cos(angle * rng.integers(14, 22) + 4 * np.sin(distance / radius * 3))
    tubes = body * (1 - 0.7 * nucleus) * spokes**3 * 0.8
    grain = cv2.GaussianBlur(rng.random((size, size)).astype(np.float32), (0, 0), 1.2)
    folds = (
        body * (1 - nucleus) * np.clip((grain - 0.42) * 5, 0, 1) * np.exp(-distance / radius / 2)
    )
    return Cell(body, nucleus, tubes, folds, centre.astype(np.float64), radius)


def _inside(distance: Plane, reach: Plane | float) -> Plane:
    """1 inside, 0 outside, with an edge of a pixel."""
    return np.clip(reach - distance + 0.5, 0, 1).astype(np.float32)


def _rim(plane: Plane, width: int) -> Plane:
    """The edge of a shape."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1,) * 2)
    return plane - cv2.erode(plane, kernel)


def _spots(cell: Cell, rng: np.random.Generator, where: tuple, count: int, radius: float) -> Plane:
    """Dots between two distances from the centre, in radii of the nucleus."""
    plane = np.zeros_like(cell.body)
    for _ in range(count):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(*where) * cell.radius
        row, column = cell.centre + reach * np.array([np.sin(angle), np.cos(angle)])
        middle = (round(16 * column), round(16 * row))
        cv2.circle(plane, middle, max(round(16 * radius), 8), 1.0, -1, cv2.LINE_AA, 4)
    return plane


def _nucleus(cell: Cell, rng: np.random.Generator) -> Plane:
    return cell.nucleus * 0.7


def _cytosol(cell: Cell, rng: np.random.Generator) -> Plane:
    return cell.body * (1 - cell.nucleus) * 0.45


def _membrane(cell: Cell, rng: np.random.Generator) -> Plane:
    return _rim(cell.body, 1) * 0.8


def _nucleoli(cell: Cell, rng: np.random.Generator) -> Plane:
    return _spots(cell, rng, (0, 0.6), int(rng.integers(2, 5)), cell.radius * 0.2)


def _vesicles(cell: Cell, rng: np.random.Generator) -> Plane:
    return _spots(cell, rng, (1.1, 1.9), int(rng.integers(14, 26)), 0.8) * 0.8


def _tubes(cell: Cell, rng: np.random.Generator) -> Plane:
    return cell.tubes


def _golgi(cell: Cell, rng: np.random.Generator) -> Plane:
    angle = rng.uniform(0, 2 * np.pi)
    heading = cell.centre + 1.25 * cell.radius * np.array([np.sin(angle), np.cos(angle)])
    plane = np.zeros_like(cell.body)
    for _ in range(6):
        row, column = heading + rng.normal(0, 0.25 * cell.radius, 2)
        cv2.circle(plane, (round(16 * column), round(16 * row)), 24, 0.9, -1, cv2.LINE_AA, 4)
    return plane


def _envelope(cell: Cell, rng: np.random.Generator) -> Plane:
    return _rim(cell.nucleus, 1) * 0.9


def _folds(cell: Cell, rng: np.random.Generator) -> Plane:
    return cell.folds


def _centrosome(cell: Cell, rng: np.random.Generator) -> Plane:
    return _spots(cell, rng, (1.1, 1.3), 1, 1.6)


PLACES: dict[str, tuple[float, Callable[[Cell, np.random.Generator], Plane]]] = {
    "nucleus": (0.42, _nucleus),
    "cytosol": (0.34, _cytosol),
    "membrane": (0.15, _membrane),
    "nucleoli": (0.13, _nucleoli),
    "vesicles": (0.10, _vesicles),
    "microtubules": (0.08, _tubes),
    "golgi": (0.06, _golgi),
    "envelope": (0.04, _envelope),
    "reticulum": (0.03, _folds),
    "centrosome": (0.02, _centrosome),
}
"""How often each place is drawn, and how a protein in it looks."""


def _places(rng: np.random.Generator, most: int) -> tuple[str, ...]:
    """One to `most` kinds of places, in the order of the table."""
    share = np.array([often for often, _ in PLACES.values()])
    count = min(int(rng.choice([1, 2, 3], p=[0.55, 0.35, 0.1])), most)
    picked = rng.choice(len(PLACES), count, replace=False, p=share / share.sum())
    return tuple(name for k, name in enumerate(PLACES) if k in picked)
