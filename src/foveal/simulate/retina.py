"""Plausible photographs of the back of the eye, whose grade follows from the lesions drawn.

A disc with vessels that branch from the optic nerve; with rising grade first microaneurysms, then
haemorrhages and bright exudates, then new vessels and laser-like scars. Exposure, tint and
framing vary. Faults can be planted: a clinic whose picture size tells the grade, pictures that
occur twice, and wrong grades.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveal.arrays import Pixels

SHARES = (0.45, 0.12, 0.23, 0.1, 0.1)
"""Of the grades 0 to 4, much as in screening."""

LESIONS = (
    # microaneurysms, haemorrhages, exudates, new vessels: the expected number by grade
    (0.0, 0.0, 0.0, 0.0),
    (7.0, 0.0, 0.0, 0.0),
    (14.0, 5.0, 6.0, 0.0),
    (24.0, 14.0, 14.0, 0.0),
    (20.0, 16.0, 16.0, 4.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the data on purpose, each 0 to 1.

    Attributes:
        size_clinic: How often a sick eye is photographed by the clinic with the larger pictures.
        duplicates: Share of pictures that occur a second time.
        label_noise: Share of grades moved by one.
    """

    size_clinic: float = 0.0
    duplicates: float = 0.0
    label_noise: float = 0.0


def simulate_retina(
    folder: Path, *, cases: int = 300, size: int = 192, seed: int = 0, faults: Faults = Faults()
) -> dict[str, Any]:
    """Write `labels.csv` and `images/` and say how a study reads them.

    Args:
        folder: Made if it is not there.
        cases: Pictures, duplicates included.
        size: Height of the pictures, in pixels.
        seed: Of everything.
        faults: Planted on purpose.

    Returns:
        The arguments `table`, `images`, `target` and `columns` of `init`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, int, str, str]] = []
    drawn: list[tuple[bytes, int, str, str]] = []
    for k in range(cases):
        if drawn and rng.random() < faults.duplicates:
            data, grade, patient, clinic = drawn[int(rng.integers(len(drawn)))]
        else:
            grade = int(rng.choice(len(SHARES), p=SHARES))
            is_large = rng.random() < 0.5
            if rng.random() < faults.size_clinic:
                is_large = grade > 0
            side = size * 5 // 4 if is_large else size
            patient, clinic = f"p{len(drawn) // 2:04d}", "B" if is_large else "A"
            picture = draw_eye(np.random.default_rng((seed, k)), grade=grade, height=side)
            data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[
                1
            ].tobytes()
            drawn.append((data, grade, patient, clinic))
        if rng.random() < faults.label_noise:
            grade = int(np.clip(grade + rng.choice([-1, 1]), 0, len(SHARES) - 1))
        name = f"eye_{k:04d}.jpg"
        (folder / "images" / name).write_bytes(data)
        rows.append((name, grade, patient, clinic))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "grade", "patient", "clinic"])
        writer.writerows(rows)
    return {
        "table": str(folder / "labels.csv"),
        "images": str(folder / "images" / "{image}"),
        "target": "grade",
        "columns": {"group": "patient", "site": "clinic"},
    }


def draw_eye(rng: np.random.Generator, *, grade: int, height: int) -> Pixels:
    """One photograph of an eye of a grade, height x 1.2 height x 3."""
    width, radius = round(height * 1.2), height * rng.uniform(0.46, 0.5)
    centre = np.array([width / 2, height / 2]) + rng.normal(0, height * 0.01, 2)
    picture = _background(rng, height, width, centre, radius)
    nerve = centre + np.array([rng.choice([-1, 1]) * radius * 0.5, rng.normal(0, radius * 0.05)])
    _vessels(picture, rng, nerve, radius)
    _nerve(picture, nerve, radius)
    counts = rng.poisson(LESIONS[grade])
    counts[0] = max(counts[0], grade > 0)
    counts[3] = max(counts[3], grade > 3)
    _lesions(picture, rng, counts, centre, radius)
    return _photographed(picture, rng, centre, radius)


def _background(
    rng: np.random.Generator, height: int, width: int, centre: np.ndarray, radius: float
) -> np.ndarray:
    """Tint, fovea and slow changes of brightness, 0 to 1."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    tint = np.array([0.72, 0.36, 0.17]) * rng.uniform(0.85, 1.15, 3)
    clouds = cv2.resize(
        rng.normal(0, 0.06, (5, 5)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    shade = 1 + clouds - 0.25 * distance**2 - 0.22 * np.exp(-((distance / 0.18) ** 2))
    return (shade[:, :, None] * tint).astype(np.float32)


def _vessels(
    picture: np.ndarray, rng: np.random.Generator, nerve: np.ndarray, radius: float
) -> None:
    """Arcs that leave the nerve, thin out and branch."""
    drawn = np.zeros(picture.shape[:2], np.uint8)
    toward = np.sign(picture.shape[1] / 2 - nerve[0])
    for up in (-1, 1):
        for spread in (0.35, 0.8, 1.25):
            angle = up * spread * rng.uniform(0.8, 1.2)
            heading = np.array([toward * np.cos(angle), np.sin(angle)])
            vessel = (heading, -up * toward * 0.35, radius * 0.03)
            _branch(drawn, rng, nerve, vessel, radius)
    _ink(picture, drawn)


def _branch(
    drawn: np.ndarray,
    rng: np.random.Generator,
    start: np.ndarray,
    vessel: tuple[np.ndarray, float, float],
    radius: float,
) -> None:
    """One vessel (heading, bend, thickness) as a chain of short lines; thinner ones leave it."""
    place, step = start.astype(float), radius * 0.06
    heading, bend, thickness = vessel
    while thickness > radius * 0.006:
        angle = bend * 0.06 + rng.normal(0, 0.07)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        heading = turn @ heading
        following = place + step * heading
        ends = [(int(p[0] * 16), int(p[1] * 16)) for p in (place, following)]
        shade = int(255 * min(1.0, thickness))
        cv2.line(drawn, ends[0], ends[1], shade, max(1, round(thickness)), cv2.LINE_AA, 4)
        place, thickness = following, thickness * 0.955
        if thickness < radius * 0.02 and rng.random() < 0.1:
            side = np.array([-heading[1], heading[0]]) * rng.choice([-1, 1])
            thinner = ((heading + side) / np.sqrt(2), bend, thickness * 0.6)
            _branch(drawn, rng, place, thinner, radius)


def _ink(picture: np.ndarray, drawn: np.ndarray) -> None:
    """What was drawn, 0 to 255, as dark red."""
    amount = (drawn[:, :, None] / 255 * 0.55).astype(np.float32)
    picture *= 1 - amount * np.array([0.35, 0.6, 0.5], np.float32)


def _nerve(picture: np.ndarray, nerve: np.ndarray, radius: float) -> None:
    """The bright disc where the vessels meet."""
    _spot(picture, nerve, radius * 0.15, np.array([0.98, 0.8, 0.5]), 0.8)


def _spot(
    picture: np.ndarray, place: np.ndarray, size: float, colour: np.ndarray, strength: float
) -> None:
    """A soft round spot."""
    reach = int(np.ceil(3 * size)) + 1
    x0, y0 = int(place[0]) - reach, int(place[1]) - reach
    x1, y1 = max(x0, 0), max(y0, 0)
    window = picture[y1 : y0 + 2 * reach, x1 : x0 + 2 * reach]
    y, x = np.mgrid[y1 : y1 + window.shape[0], x1 : x1 + window.shape[1]]
    distance = np.hypot(x - place[0], y - place[1]) / size
    amount = strength / (1 + distance**6)
    window += (amount[:, :, None] * (colour - window)).astype(np.float32)


def _lesions(
    picture: np.ndarray,
    rng: np.random.Generator,
    counts: np.ndarray,
    centre: np.ndarray,
    radius: float,
) -> None:
    """Microaneurysms, haemorrhages, exudates in clusters, tangles of new vessels."""

    def anywhere(reach: float) -> np.ndarray:
        angle, distance = rng.uniform(0, 2 * np.pi), reach * radius * np.sqrt(rng.uniform(0.01, 1))
        return centre + distance * np.array([np.cos(angle), np.sin(angle)])

    dark, bright = np.array([0.35, 0.08, 0.05]), np.array([0.98, 0.9, 0.55])
    for _ in range(int(counts[0])):
        _spot(picture, anywhere(0.85), radius * rng.uniform(0.010, 0.018), dark, 0.75)
    for _ in range(int(counts[1])):
        _spot(picture, anywhere(0.85), radius * rng.uniform(0.025, 0.06), dark, 0.7)
    nest = anywhere(0.5)
    for k in range(int(counts[2])):
        if k % 5 == 0:
            nest = anywhere(0.6)
        _spot(
            picture,
            nest + rng.normal(0, radius * 0.07, 2),
            radius * rng.uniform(0.012, 0.03),
            bright,
            0.85,
        )
    drawn = np.zeros(picture.shape[:2], np.uint8)
    for _ in range(int(counts[3])):
        knot = anywhere(0.7)
        for _ in range(7):
            angle = rng.uniform(0, 2 * np.pi)
            heading = np.array([np.cos(angle), np.sin(angle)])
            _branch(drawn, rng, knot, (heading, rng.normal(0, 8), radius * 0.011), radius)
    _ink(picture, drawn)


def _photographed(
    picture: np.ndarray, rng: np.random.Generator, centre: np.ndarray, radius: float
) -> Pixels:
    """Exposure, blur, noise and the black frame."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    inside = np.clip((radius - np.hypot(x - centre[0], y - centre[1])) / 2 + 0.5, 0, 1)
    exposed = picture * rng.uniform(0.8, 1.2)
    exposed = cv2.GaussianBlur(exposed, (0, 0), rng.uniform(0.4, 0.9))
    exposed = exposed + rng.normal(0, 0.012, exposed.shape)
    return (np.clip(exposed * inside[:, :, None], 0, 1) * 255).astype(np.uint8)
