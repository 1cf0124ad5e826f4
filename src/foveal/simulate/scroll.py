"""Plausible X-ray volumes of papyrus fragments: the mask is the strokes drawn on the sheet.

A fragment is a thin curved sheet in air: fibres that run across in its upper half and down in its
lower half, voids, cracks, and the slow errors of a scanner. Letters change it faintly in a layer
of three slices that follows the surface, so one slice or the mean of all shows little, while the
values around the surface tell. Contrast, brightness and noise differ from fragment to fragment.
Faults can be planted: a fragment that is turned, and masks that do not lie on the ink.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt16

from foveal.simulate.clouds import clouds

INK = 0.08
"""Ink at its strongest, where air is about 0.1 and the sheet 0.5."""

LIFT = 0.4
"""How far outside the surface the middle of the ink lies, in slices."""

REACH = 1.5
"""How far from its middle ink is seen, in slices."""

THICK = 4.5
"""Of the sheet, in slices."""

SHARE = (0.11, 0.145)
"""Of the region that is ink: about the first at least, never more than the second."""

GOLDEN = 0.618034
"""Steps of this share of a turn lie evenly spread on it, however many there are."""

LAYERS = 4
"""Of fibres in the sheet; in the upper half they run across, in the lower half down."""

Stroke = tuple[tuple[float, float], ...]
"""Points that a line goes through, x and y, in a box 0.8 wide and 1 high."""

Arc = tuple[float, float, float, float, float, float]
"""Middle x and y, radius across and down, from and to in degrees, clockwise from the right."""

LETTERS: tuple[tuple[tuple[Stroke, ...], tuple[Arc, ...]], ...] = (
    ((((0, 1), (0.4, 0), (0.8, 1)), ((0.17, 0.65), (0.63, 0.65))), ()),  # alpha
    ((((0.7, 0), (0.1, 0), (0.1, 1)),), ()),  # gamma
    ((((0, 1), (0.4, 0), (0.8, 1), (0, 1)),), ()),  # delta
    ((((0, 0.5), (0.6, 0.5)),), ((0.45, 0.5, 0.45, 0.5, 50, 310),)),  # round epsilon
    ((((0.05, 0), (0.05, 1)), ((0.75, 0), (0.75, 1)), ((0.05, 0.5), (0.75, 0.5))), ()),  # eta
    ((((0.15, 0.5), (0.65, 0.5)),), ((0.4, 0.5, 0.4, 0.5, 0, 360),)),  # theta
    ((((0.4, 0), (0.4, 1)),), ()),  # iota
    ((((0.1, 0), (0.1, 1)), ((0.75, 0), (0.1, 0.55), (0.75, 1))), ()),  # kappa
    ((((0, 1), (0.4, 0), (0.8, 1)),), ()),  # lambda
    ((((0, 1), (0.15, 0), (0.4, 0.7), (0.65, 0), (0.8, 1)),), ()),  # mu
    ((((0.05, 1), (0.05, 0), (0.75, 1), (0.75, 0)),), ()),  # nu
    ((), ((0.4, 0.5, 0.4, 0.4, 0, 360),)),  # omicron
    ((((0, 0.05), (0.8, 0.05)), ((0.15, 0), (0.15, 1)), ((0.65, 0), (0.65, 1))), ()),  # pi
    ((((0.1, 0), (0.1, 1)),), ((0.1, 0.28, 0.55, 0.28, -90, 90),)),  # rho
    ((), ((0.45, 0.5, 0.45, 0.5, 50, 310),)),  # round sigma
    ((((0, 0), (0.8, 0)), ((0.4, 0), (0.4, 1))), ()),  # tau
    ((((0.05, 0), (0.4, 0.5), (0.75, 0)), ((0.4, 0.5), (0.4, 1))), ()),  # upsilon
    ((((0.4, -0.1), (0.4, 1.1)),), ((0.4, 0.5, 0.4, 0.3, 0, 360),)),  # phi
    ((((0, 0), (0.8, 1)), ((0.8, 0), (0, 1))), ()),  # chi
    ((), ((0.2, 0.6, 0.22, 0.4, 0, 230), (0.62, 0.6, 0.22, 0.4, -50, 180))),  # round omega
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the data on purpose.

    Attributes:
        rotate: Whether the last fragment is turned by 90 degrees, its masks with it.
        label_shift: Pixels by which the masks of the ink are moved to the right.
    """

    rotate: bool = False
    label_shift: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One piece of papyrus and its truth.

    Attributes:
        slices: As scanned, 16 bit.
        ink: Where the strokes are.
        region: Where papyrus is.
        surface: The slice in which the sheet begins; slices are counted from 0.
    """

    slices: UInt16[np.ndarray, "depth height width"]
    ink: Bool[np.ndarray, "height width"]
    region: Bool[np.ndarray, "height width"]
    surface: Float[np.ndarray, "height width"]


def simulate_scroll(
    folder: Path,
    *,
    fragments: int = 3,
    height: int = 256,
    width: int = 320,
    depth: int = 16,
    seed: int = 0,
    faults: Faults = Faults(),
) -> dict[str, Any]:
    """Write `volumes.csv` and a folder for each fragment and say how a study reads them.

    Args:
        folder: Made if it is not there.
        fragments: How many.
        height: Of a slice, in pixels.
        width: Of a slice, in pixels.
        depth: Slices of a fragment; the sheet needs about 16.
        seed: Of everything.
        faults: Planted on purpose.

    Returns:
        The arguments `table`, `target` and `columns` of `init`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(fragments):
        rng = np.random.default_rng((seed, k))
        drawn = draw_fragment(rng, height=height, width=width, depth=depth)
        if faults.rotate and k == fragments - 1:
            drawn = _turned(drawn)
        drawn = replace(drawn, ink=_shifted(drawn.ink, faults.label_shift))
        name = f"fragment{k + 1}"
        _write(folder / name, drawn)
        rows.append((name, f"{name}/slices", f"{name}/ink.png", f"{name}/region.png"))
    with (folder / "volumes.csv").open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["id", "slices", "mask", "region"])
        writer.writerows(rows)
    return {"table": str(folder / "volumes.csv"), "target": "mask", "columns": {}}


def _write(folder: Path, fragment: Fragment) -> None:
    """The slices and both masks of a fragment, as PNG."""
    (folder / "slices").mkdir(parents=True, exist_ok=True)
    planes = {f"slices/{z:02d}.png": plane for z, plane in enumerate(fragment.slices)}
    planes["ink.png"] = fragment.ink * np.uint8(255)
    planes["region.png"] = fragment.region * np.uint8(255)
    for name, plane in planes.items():
        (folder / name).write_bytes(cv2.imencode(".png", plane)[1].tobytes())


def _shifted(mask: Bool[np.ndarray, "height width"], by: int) -> Bool[np.ndarray, "height width"]:
    """The mask moved to the right; what leaves the plane is lost."""
    move = np.array([[1, 0, by], [0, 1, 0]], np.float32)
    return cv2.warpAffine(mask.astype(np.uint8), move, mask.shape[::-1]) > 0


def _turned(fragment: Fragment) -> Fragment:
    """A fragment turned by 90 degrees in the plane of its slices."""
    return Fragment(
        slices=np.rot90(fragment.slices, axes=(1, 2)).copy(),
        ink=np.rot90(fragment.ink).copy(),
        region=np.rot90(fragment.region).copy(),
        surface=np.rot90(fragment.surface).copy(),
    )


def draw_fragment(
    rng: np.random.Generator, *, height: int, width: int, depth: int, ink: float = INK
) -> Fragment:
    """One fragment as scanned; with ink of strength 0 it is the same sheet without writing."""
    shape = (height, width)
    region = _outline(rng, shape)
    surface = _surface(rng, shape, depth)
    strokes = _script(rng, region)
    whole = region * (1 - _cracks(rng, shape))
    below = np.arange(depth, dtype=np.float32)[:, None, None] - surface
    bare = _sheet(rng, below, whole)
    near = np.clip(1 - ((below + LIFT) / REACH) ** 2, 0, 1)
    volume = bare + ink * _coat(rng, strokes) * whole * near
    return Fragment(slices=_scanned(rng, volume), ink=strokes, region=region, surface=surface)


def _grain(
    rng: np.random.Generator, shape: tuple[int, ...], across: float, down: float
) -> Float[np.ndarray, "height width"]:
    """Noise blurred so far across and down, with a standard deviation of 1."""
    noise = rng.normal(0, 1, shape).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=down)
    return soft / soft.std()


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """One ragged piece that covers 0.72 to 0.82 of the plane."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    ragged = 0.05 * clouds(rng, shape, (5, 6)) + 0.015 * clouds(rng, shape, (20, 24))
    distance = (x**6 + y**6) ** (1 / 6) + ragged
    inside = distance < np.quantile(distance, rng.uniform(0.73, 0.82))
    _, pieces, found, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    return pieces == 1 + found[1:, cv2.CC_STAT_AREA].argmax()


def _surface(
    rng: np.random.Generator, shape: tuple[int, int], depth: int
) -> Float[np.ndarray, "height width"]:
    """Where the sheet begins: it wanders over the middle third, and is a little rough."""
    heading = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.sin(heading)
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None] * np.cos(heading)
    slow = (x + y + 0.5 * clouds(rng, shape, (4, 5))).astype(np.float32)
    slow = (slow - slow.min()) / np.ptp(slow)
    rough = 0.08 * _grain(rng, shape, 6, 2) + 0.08 * _grain(rng, shape, 9, 9)
    return depth / 3 * (1 + slow) + rough


def _cracks(rng: np.random.Generator, shape: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """How much is missing through the whole sheet along thin lines, 0 to 1."""
    drawn = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(3, 8)):
        start = rng.uniform(0, 1, 2) * shape[::-1]
        steps = rng.normal(0, 0.02, (12, 2)) + rng.normal(0, 0.03, 2)
        points = start + np.cumsum(steps, axis=0) * min(shape)
        _line(drawn, points, rng.uniform(0.8, 2.2))
    return cv2.GaussianBlur(drawn, (0, 0), 0.7) / np.float32(255)


def _line(drawn: np.ndarray, points: Float[np.ndarray, "point 2"], thickness: float) -> None:
    """A line through points, x and y in pixels, drawn with 255."""
    corners = np.round(points * 16).astype(np.int32)
    cv2.polylines(
        drawn,
        [corners],
        isClosed=False,
        color=255,
        thickness=max(1, round(thickness)),
        lineType=cv2.LINE_AA,
        shift=4,
    )


def _script(
    rng: np.random.Generator, region: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Rows of letters in one hand, some of them lost, with small gaps where ink flaked off."""
    pen = rng.uniform(8.5, 11) * min(1.0, min(region.shape) / 256)
    kept = region & (_grain(rng, region.shape, 0.5 * pen, 0.2 * pen) < 1.6)
    slant, target = rng.normal(0, 0.08), rng.uniform(SHARE[0], sum(SHARE) / 2)
    drawn = np.zeros(region.shape, bool)
    for place in _places(rng, region.shape, pen):
        letter = _letter(rng, region.shape, place, pen, slant)
        share = ((drawn | letter) & kept).sum() / region.sum()
        if share <= SHARE[1]:
            drawn |= letter
        if target <= share <= SHARE[1]:
            break
    return drawn & kept


def _places(
    rng: np.random.Generator, shape: tuple[int, ...], pen: float
) -> Float[np.ndarray, "place 2"]:
    """Upper left corners of letters in rows, x and y; the first ones lie all over the plane."""
    down = np.arange(rng.uniform(0.5, 3) * pen, shape[0], 7.2 * pen)
    across = np.arange(rng.uniform(0, 2) * pen, shape[1], 5.5 * pen)
    grid = np.stack(np.meshgrid(across, down), axis=2).reshape(-1, 2)
    slope = rng.normal(0, 0.02)
    grid[:, 1] += slope * grid[:, 0]
    grid += rng.normal(0, 0.25 * pen, grid.shape)
    turns = (np.arange(len(grid)) * GOLDEN + rng.random()) % 1
    return grid[np.argsort(turns)]


def _letter(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    place: Float[np.ndarray, " 2"],
    pen: float,
    slant: float,
) -> Bool[np.ndarray, "height width"]:
    """Any letter at a place, written with a pen of some width."""
    lines, arcs = LETTERS[int(rng.integers(len(LETTERS)))]
    size = 5 * pen * rng.uniform(0.92, 1.08, 2)
    drawn = np.zeros(shape, np.uint8)
    for points in [np.array(line, float) for line in lines] + [_bent(arc) for arc in arcs]:
        leaning = points + slant * (0.5 - points[:, 1:]) * [1, 0] + rng.normal(0, 0.015, 2)
        _line(drawn, place + leaning * size, pen * rng.uniform(0.9, 1.1))
    return drawn > 127


def _bent(arc: Arc) -> Float[np.ndarray, "point 2"]:
    """The points of an arc."""
    x, y, across, down, start, stop = arc
    angle = np.deg2rad(np.linspace(start, stop, 24))
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def _coat(
    rng: np.random.Generator, strokes: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width"]:
    """How much ink lies where, 0 to 1: less at the edges of strokes, uneven inside."""
    inner = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_L2, 3)
    uneven = np.clip(0.75 + 0.2 * _grain(rng, strokes.shape, 4, 4), 0.3, 1)
    return np.clip(inner / 2, 0, 1) * uneven


def _sheet(
    rng: np.random.Generator,
    below: Float[np.ndarray, "depth height width"],
    whole: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "depth height width"]:
    """Air, dust and the bare sheet, from how far below the surface a voxel is."""
    shape = whole.shape
    thick = THICK + 0.3 * clouds(rng, shape, (5, 6)) + 0.35 * _grain(rng, shape, 5, 8)
    density = 0.4 * _fibrous(rng, below / thick) * (1 + 0.15 * clouds(rng, shape, (6, 8)))
    cover = np.clip(below / 1.4 + 0.5, 0, 1) * np.clip((thick - below) / 1.4 + 0.5, 0, 1)
    patches = np.clip(_grain(rng, shape, 8, 3) - 0.8, 0, 2)
    dust = 0.02 * patches * np.clip(1 - np.abs(below + 1), 0, 1)
    return 0.1 + whole * (cover * density + dust)


def _fibrous(
    rng: np.random.Generator, place: Float[np.ndarray, "depth height width"]
) -> Float[np.ndarray, "depth height width"]:
    """Density around 1 at places in the sheet, 0 at its surface and 1 at its back."""
    nearest = np.clip(LAYERS * place - np.float32(0.5), 0, LAYERS - 1)
    shape = place.shape[1:]
    density = np.zeros_like(place)
    for k in range(LAYERS):
        if k < LAYERS // 2:
            layer = _layer(rng, shape, blotches=0.05)
        else:
            layer = _layer(rng, shape[::-1], blotches=0.18).T
        density += layer * np.clip(1 - np.abs(nearest - k), 0, 1)
    return density


def _layer(
    rng: np.random.Generator, shape: tuple[int, ...], *, blotches: float
) -> Float[np.ndarray, "height width"]:
    """Density around 1 of fibres that run across, with voids along them and blotches."""
    fine, broad = _grain(rng, shape, 14, 1.1), _grain(rng, shape, 30, 3)
    fibres = 1 + 0.18 * fine + 0.08 * broad + blotches * _grain(rng, shape, 6, 6)
    fibres *= 1 - np.clip(_grain(rng, shape, 7, 2.5) - 2.2, 0, 1)
    return _wavy(rng, fibres)


def _wavy(
    rng: np.random.Generator, fibres: Float[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width"]:
    """Fibres that lean and bend a little."""
    rows, columns = fibres.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    lean = rng.normal(0, 0.03) * (x - columns / 2)
    y = y + (lean + 0.01 * rows * clouds(rng, fibres.shape, (4, 6))).astype(np.float32)
    return cv2.remap(fibres, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _scanned(
    rng: np.random.Generator, volume: Float[np.ndarray, "depth height width"]
) -> UInt16[np.ndarray, "depth height width"]:
    """What the scanner makes of a volume: gradients, rings, noise, and a contrast of its own."""
    contrast, brightness, noise = rng.uniform((0.6, 0.05, 0.02), (1.05, 0.15, 0.04))
    gain = (1 + 0.06 * clouds(rng, volume.shape[1:], (3, 3))) * (1 + _hardening(rng, volume))
    drift = np.cumsum(rng.normal(0, 0.002, len(volume)))
    planes = []
    for plane, offset in zip(volume, drift, strict=True):
        seen = plane * gain + offset + noise * _grain(rng, plane.shape, 0.6, 0.6)
        planes.append(np.clip(contrast * seen + brightness, 0, 1) * 65535)
    return np.round(planes).astype(np.uint16)


def _hardening(
    rng: np.random.Generator, volume: Float[np.ndarray, "depth height width"]
) -> Float[np.ndarray, "height width"]:
    """Brighter with the distance from the axis of the scan, and rings around it."""
    shape = np.array(volume.shape[1:])
    y, x = np.mgrid[: shape[0], : shape[1]] - (shape * rng.uniform(0.2, 0.8, 2))[:, None, None]
    distance = np.hypot(x, y) / np.hypot(*shape)
    rings = np.interp(distance, np.linspace(0, 1, 120), rng.normal(0, 0.012, 120))
    return (rng.uniform(0, 0.2) * distance**2 + rings).astype(np.float32)
