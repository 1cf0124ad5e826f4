"""Plausible photographs of whale tails: who it is follows from the edge and the pigment drawn.

An individual is drawn once: two lobes, a median notch, nicks in the trailing edge, white pigment
that differs left from right, streaks and scars. Every photograph shows it in another pose, on
other water, partly under spray; photographs of one encounter share the light. Most individuals
have few photographs, and some photographs are of individuals that the table does not know. Faults
can be planted: photographs that occur twice, and wrong identities.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int

from foveal.arrays import Pixels
from foveal.simulate.clouds import clouds

NEW = "new_whale"
"""The identity that means unknown."""

SINGLE = 1 / 3
"""Share of the known individuals that have one photograph."""

SPAN = 1.1
"""Half the width of the sheet an individual is drawn on; a lobe is about 1 long."""

MIDDLE = (SPAN, SPAN / 2)
"""Of the sheet, from its upper left corner."""

FINER = 2
"""How much larger than the photograph everything is drawn, for smooth edges."""

Row = tuple[str, str, str]
"""Image, identity and encounter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the data on purpose.

    Attributes:
        duplicates: Number of photographs that occur a second time under another name.
        wrong_identities: Share, 0 to 1, of known rows given another individual's name.
    """

    duplicates: int = 0
    wrong_identities: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """What the photographs of one encounter share.

    Attributes:
        water: Colour of the sea, red, green and blue.
        tint: Colour of the light on the tail.
        gain: Brightness of the tail.
        lift: Haze, added to the tail.
        slope: Change of brightness from left to right and from top to bottom.
        chop: Height of the ripples.
    """

    water: Float[np.ndarray, " 3"]
    tint: Float[np.ndarray, " 3"]
    gain: float
    lift: float
    slope: Float[np.ndarray, " 2"]
    chop: float


def simulate_flukes(
    folder: Path,
    *,
    known: int = 40,
    most: int = 10,
    strangers: int = 40,
    unknown: int = 60,
    height: int = 96,
    seed: int = 0,
    faults: Faults = Faults(),
) -> dict[str, Any]:
    """Write `flukes.csv` and `images/` and say how a study reads them.

    Args:
        folder: Made if it is not there.
        known: Individuals with an identity, two or more.
        most: Photographs of a known individual, at most; two or more.
        strangers: Individuals behind the unknown photographs.
        unknown: Photographs whose identity is `new_whale`, spread evenly over the strangers.
        height: Of the pictures, in pixels; they are twice as wide.
        seed: Of everything.
        faults: Planted on purpose.

    Returns:
        The arguments `table`, `images`, `target` and `columns` of `init`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    counts = _counts(rng, known, most, strangers, unknown)
    photographs = _photographs(rng, counts, height=height, seed=seed)
    names = [f"w_{n:05x}" for n in rng.choice(16**5, known, replace=False)]
    names += [NEW] * strangers
    files = rng.choice(16**8, len(photographs) + faults.duplicates, replace=False)
    planted = np.random.default_rng((seed, 3, 0))
    taken = np.arange(len(photographs))
    taken = np.append(taken, planted.choice(taken, faults.duplicates, replace=False))
    rows: list[Row] = []
    for file, k in zip(files, rng.permutation(taken), strict=True):
        data, individual, encounter = photographs[k]
        (folder / "images" / f"{file:08x}.jpg").write_bytes(data)
        rows.append((f"{file:08x}.jpg", names[individual], f"e{encounter:03d}"))
    rows = _mistaken(planted, rows, names[:known], faults.wrong_identities)
    with (folder / "flukes.csv").open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["image", "identity", "encounter"])
        writer.writerows(rows)
    return {
        "table": str(folder / "flukes.csv"),
        "images": str(folder / "images" / "{image}"),
        "target": "identity",
        "columns": {"group": "encounter"},
    }


def _counts(
    rng: np.random.Generator, known: int, most: int, strangers: int, unknown: int
) -> Int[np.ndarray, " individual"]:
    """Photographs of each individual, the known ones first."""
    counts = rng.integers(2, most + 1, known)
    counts[: round(known * SINGLE)] = 1
    spread = np.bincount(np.arange(unknown) % strangers, minlength=strangers)
    return np.concatenate([rng.permutation(counts), spread])


def _photographs(
    rng: np.random.Generator, counts: Int[np.ndarray, " individual"], *, height: int, seed: int
) -> list[tuple[bytes, int, int]]:
    """File, individual and encounter; one to three photographs an encounter."""
    meetings = [_meetings(rng, int(count)) for count in counts]
    numbers = iter(rng.permutation(sum(len(shots) for shots in meetings)).tolist())
    taken = []
    for individual, shots in enumerate(meetings):
        fluke = draw_fluke(np.random.default_rng((seed, 1, individual)), height=height)
        for shot, number in zip(shots, numbers, strict=False):
            camera = np.random.default_rng((seed, 2, number))
            light = draw_light(camera)
            for _ in range(shot):
                taken.append((_encoded(photograph(camera, fluke, light)), individual, number))
    return taken


def _meetings(rng: np.random.Generator, count: int) -> list[int]:
    """Photographs of each encounter with one individual."""
    shots = []
    while count > 0:
        shots.append(min(int(rng.integers(1, 4)), count))
        count -= shots[-1]
    return shots


def _encoded(picture: Pixels) -> bytes:
    """The file of a picture."""
    written = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return written[1].tobytes()


def _mistaken(
    rng: np.random.Generator, rows: Sequence[Row], names: Sequence[str], share: float
) -> list[Row]:
    """The rows, a share of the known ones under the name of another known individual."""
    mistaken = list(rows)
    known = [k for k, (_, name, _) in enumerate(rows) if name != NEW]
    for k in rng.choice(known, round(share * len(known)), replace=False):
        image, name, encounter = rows[k]
        others = [other for other in names if other != name]
        mistaken[k] = (image, others[int(rng.integers(len(others)))], encounter)
    return mistaken


def draw_fluke(rng: np.random.Generator, *, height: int) -> Float[np.ndarray, "rows columns 2"]:
    """An individual without pose, light and sea: brightness and cover, 0 to 1, drawn at 2 x."""
    rows = FINER * height
    scale = rows / SPAN
    outline = _outline(rng)
    corners = np.round((outline + MIDDLE) * scale * 16).astype(np.int32)
    cover = np.zeros((rows, 2 * rows), np.uint8)
    cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, 4)
    skin = _pigment(rng, cover)
    _marks(skin, rng, scale)
    return np.dstack([np.clip(skin, 0, 1), cover / np.float32(255)])


def _outline(rng: np.random.Generator) -> Float[np.ndarray, "point 2"]:
    """Both lobes as one closed line; they share a build and differ a little."""
    # hump, width of the notch, rise of the tip, bow of the trailing edge, chord
    low, high = (0.12, 0.02, 0.02, -0.07, 0.18), (0.28, 0.08, 0.32, 0.07, 0.36)
    build = rng.uniform(low, high)
    ragged = rng.uniform(0.004, 0.014)
    left, right = (_lobe(rng, build + rng.normal(0, 0.008, 5), ragged) for _ in range(2))
    return np.concatenate([left[::-1] * [-1, 1], right])


def _lobe(
    rng: np.random.Generator, build: Float[np.ndarray, " 5"], ragged: float
) -> Float[np.ndarray, "point 2"]:
    """From the notch along the trailing edge to the tip and along the leading edge to the stock."""
    hump, width, rise, bow, chord = build
    s = np.linspace(0, 1, 140)
    y = 0.12 - hump * (1 - np.exp(-s / max(width, 0.01))) * (1 - s)
    y += bow * np.sin(np.pi * s) - (rise + 0.08) * s**2.2
    teeth = np.interp(s, np.linspace(0, 1, 36), rng.normal(0, ragged, 36))
    for _ in range(rng.integers(1, 6)):
        depth, half = rng.uniform(0.03, 0.1), rng.uniform(0.012, 0.035)
        teeth += depth * np.maximum(0, 1 - np.abs(s - rng.uniform(0.08, 0.92)) / half)
    trailing = np.stack([s, y + teeth * np.minimum(1, 8 * (1 - s))], 1)
    tip = trailing[-1]
    bends = np.array(
        [tip, tip + np.array([-0.04, chord * 0.8]), [0.5, tip[1] * 0.3 + chord + 0.16]]
    )
    t = np.linspace(0, 1, 40)[1:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    leading = weights @ np.vstack([bends, [0.1, 0.46]])
    return np.vstack([trailing, leading, [0.13, 0.7]])


def _pigment(rng: np.random.Generator, cover: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """White patches on dark skin: from a few spots to a white tail with a dark edge."""
    shape = cover.shape
    x = np.linspace(-SPAN, SPAN, shape[1], dtype=np.float32)
    field = clouds(rng, shape, (4, 8)) + 0.45 * clouds(rng, shape, (10, 20))
    field = field + rng.uniform(-0.5, 1.5) * (np.abs(x) - 0.5)
    level, crisp = rng.uniform(-0.7, 0.9), rng.uniform(5, 14)
    white = 1 / (1 + np.exp(np.clip(crisp * (level - field), -30, 30)))
    inner = cv2.distanceTransform((cover > 127).astype(np.uint8), cv2.DIST_L2, 3) / shape[0]
    white = white * np.clip(inner / rng.uniform(0.01, 0.05), 0, 1)
    white = white * (1 - rng.uniform(0.3, 1) * np.exp(-((x / rng.uniform(0.06, 0.2)) ** 2)))
    dark, bright = rng.uniform(0.1, 0.2), rng.uniform(0.6, 0.85)
    grain = 1 + 0.07 * clouds(rng, shape, (24, 48)) - 0.25 * np.exp(-((x / 0.03) ** 2))
    return ((dark + (bright - dark) * white) * grain).astype(np.float32)


def _marks(skin: np.ndarray, rng: np.random.Generator, scale: float) -> None:
    """Streaks from the stock outwards, blotches, scars and rings that barnacles left."""

    def place(reach: float) -> np.ndarray:
        return np.array([rng.uniform(-reach, reach), rng.uniform(-0.15, 0.25)])

    for _ in range(rng.integers(2, 9)):
        end = place(0.9)
        start = end + (np.array([0, 0.5]) - end) * rng.uniform(0.15, 0.6)
        _stroke(skin, [start, end], scale, rng.uniform(0.006, 0.014), rng.choice([0.12, 0.6]))
    for _ in range(rng.integers(1, 6)):
        start = place(0.85)
        end = start + rng.normal(0, 0.05, 2)
        _stroke(skin, [start, end], scale, rng.uniform(0.03, 0.1), rng.choice([0.12, 0.75]))
    for _ in range(rng.integers(1, 5)):
        scar = np.cumsum(np.vstack([place(0.8), rng.normal(0, 0.08, (3, 2))]), 0)
        _stroke(skin, list(scar), scale, 0.008, 0.9)
    for _ in range(rng.integers(0, 5)):
        angle = np.linspace(0, 2 * np.pi, 12)
        ring = place(0.85) + rng.uniform(0.02, 0.04) * np.stack([np.cos(angle), np.sin(angle)], 1)
        _stroke(skin, list(ring), scale, 0.008, 0.8)


def _stroke(
    skin: np.ndarray, points: list[np.ndarray], scale: float, thickness: float, shade: float
) -> None:
    """A line through points of the sheet, with soft sides."""
    drawn = np.zeros(skin.shape, np.uint8)
    corners = np.round((np.array(points) + MIDDLE) * scale * 16).astype(np.int32)
    cv2.polylines(
        drawn,
        [corners],
        isClosed=False,
        color=255,
        thickness=max(1, round(thickness * scale)),
        lineType=cv2.LINE_AA,
        shift=4,
    )
    amount = cv2.GaussianBlur(drawn, (0, 0), 0.005 * scale) * np.float32(0.7 / 255)
    skin += amount * (np.float32(shade) - skin)


def draw_light(rng: np.random.Generator) -> Light:
    """The light and the sea of one encounter."""
    sea = np.array([0.3, 0.4, 0.48]) + rng.uniform(-0.5, 1) * np.array([-0.04, 0.0, 0.03])
    tint = 1 + rng.uniform(-0.5, 1) * np.array([-0.08, 0.0, 0.08])
    return Light(
        water=(sea * rng.uniform(0.7, 1.4)).astype(np.float32),
        tint=tint.astype(np.float32),
        gain=rng.uniform(0.65, 1.15),
        lift=rng.uniform(0.0, 0.15),
        slope=rng.normal(0, 0.15, 2).astype(np.float32),
        chop=rng.uniform(0.06, 0.2),
    )


def photograph(
    rng: np.random.Generator, fluke: Float[np.ndarray, "rows columns 2"], light: Light
) -> Pixels:
    """One photograph of what `draw_fluke` drew, half as large."""
    rows, columns = fluke.shape[:2]
    pose = _pose(rng, rows)
    seen = cv2.warpPerspective(fluke, pose, (columns, rows), flags=cv2.INTER_LINEAR)
    x, y = _grid(rows)
    slope = light.slope[0] * (x / rows - 1) + light.slope[1] * (2 * y / rows - 1)
    shade = light.gain * (1 + slope) + 0.08 * clouds(rng, seen.shape, (3, 6))
    skin = seen[:, :, 0] * shade + light.lift
    sea, ahead, foam = _sea(rng, light, pose, rows)
    cover = seen[:, :, 1] * (1 - ahead)
    white = np.clip(foam + _spray(rng, pose, rows), 0, 0.95)
    planes = []
    for tint, water in zip(light.tint, light.water, strict=True):
        plane = sea * water
        plane += cover * (skin * tint - plane)
        plane += white * (0.65 + 0.25 * light.gain - plane)
        planes.append(plane)
    return _developed(np.dstack(planes), rng)


def _pose(rng: np.random.Generator, rows: int) -> Float[np.ndarray, "3 3"]:
    """From the sheet to the photograph: turn, size, slant, perspective and shift."""
    angle = np.deg2rad(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = rng.uniform(0.72, 1.05)
    slant = np.array([[1, rng.normal(0, 0.1)], [0, rng.uniform(0.75, 1.1)]])
    pose = np.eye(3)
    pose[:2, :2] = turn @ slant * size
    pose[:2, 2] = rng.normal(0, [0.08, 0.04])
    pose[2, :2] = rng.normal(0, 0.07, 2)
    scale = rows / SPAN
    sheet = np.array([[scale, 0, SPAN * scale], [0, scale, SPAN / 2 * scale], [0, 0, 1]])
    return sheet @ pose @ np.linalg.inv(sheet)


def _seen_at(
    pose: Float[np.ndarray, "3 3"], place: tuple[float, float], rows: int
) -> Float[np.ndarray, " 2"]:
    """Where a place of the tail is in the photograph, in pixels."""
    scale = rows / SPAN
    x, y, w = pose @ [(place[0] + SPAN) * scale, (place[1] + SPAN / 2) * scale, 1]
    return np.array([x / w, y / w], np.float32)


def _grid(rows: int) -> tuple[Float[np.ndarray, "1 columns"], Float[np.ndarray, "rows 1"]]:
    """Columns and rows of the photograph, in pixels."""
    y = np.arange(rows, dtype=np.float32)[:, None]
    return np.arange(2 * rows, dtype=np.float32)[None], y


def _sea(
    rng: np.random.Generator, light: Light, pose: Float[np.ndarray, "3 3"], rows: int
) -> tuple[
    Float[np.ndarray, "rows columns"],
    Float[np.ndarray, "rows columns"],
    Float[np.ndarray, "rows columns"],
]:
    """Rippled water, how much of it is in front of the tail, and foam around the stock."""
    shape = (rows, 2 * rows)
    ripple = clouds(rng, shape, (10, 8)) + 0.7 * clouds(rng, shape, (32, 24))
    slow = 0.1 * clouds(rng, shape, (3, 3))
    x, y = _grid(rows)
    sea = 1 + slow + light.chop * ripple + 0.3 * light.slope[0] * (x / rows - 1)
    stock = _seen_at(pose, (0.0, rng.uniform(0.36, 0.46)), rows)
    line = stock[1] + 0.015 * rows * clouds(rng, (1, 2 * rows), (1, 16))
    ahead = np.clip((y - line) / 3, 0, 1)
    near = np.exp(-(((y - line) / (0.05 * rows)) ** 2) - ((x - stock[0]) / (0.28 * rows)) ** 2)
    foam = near * np.clip(0.5 + 0.5 * clouds(rng, shape, (30, 50)), 0, 1)
    return sea, ahead, foam


def _spray(
    rng: np.random.Generator, pose: Float[np.ndarray, "3 3"], rows: int
) -> Float[np.ndarray, "rows columns"]:
    """White water that hides a part of the tail, in four photographs of ten."""
    shape = (rows, 2 * rows)
    if rng.random() > 0.4:
        return np.zeros(shape, np.float32)
    x, y = _grid(rows)
    place = _seen_at(pose, (rng.uniform(-0.9, 0.9), rng.uniform(-0.2, 0.25)), rows)
    wide, high = rows * rng.uniform(0.1, 0.3, 2).astype(np.float32)
    near = np.exp(-(((x - place[0]) / wide) ** 2) - ((y - place[1]) / high) ** 2)
    drops = np.clip(clouds(rng, shape, (rows // 3, 2 * rows // 3)) - 1, 0, 1)
    mist = np.clip(0.6 + 0.5 * clouds(rng, shape, (12, 24)), 0, 1.2)
    return near * mist + 1.5 * np.sqrt(near) * drops


def _developed(picture: Float[np.ndarray, "rows columns 3"], rng: np.random.Generator) -> Pixels:
    """Half as large, with blur and noise of the camera."""
    size = (picture.shape[1] // FINER, picture.shape[0] // FINER)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 1.0))
    small = small + rng.normal(0, rng.uniform(0.008, 0.025), small.shape)
    return (np.clip(small, 0, 1) * 255).astype(np.uint8)
