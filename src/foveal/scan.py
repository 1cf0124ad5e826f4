"""What `init` measures of volumes: size, depth, brightness, which share slices, how much is mask.

Everything is decoded once, a piece at a time; a slice, region or mask that does not fit the others
is an error that names its file::

    found = [scan(case, mask) for case, (mask,) in zip(manifest.cases(), manifest.target)]
    manifest, facts = measure(manifest, found)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from foveal.errors import TargetError, UnreadableImage
from foveal.lattice import cells, labels_digest, labels_of, read_mask, region_of
from foveal.manifest import Case, Facts, Manifest, commonest
from foveal.read.image import depth_of
from foveal.read.slices import COLOURS, find_slices, gap_of

LATTICES = (2, 4)
"""Pixels that a cell may be wide if masks can be told in it."""

TOLD, SHARP = 0.93, 0.98
"""Dice score of masks told in whole cells that is good enough, and where finer ones cost little."""

FEW_CELLS = 1 << 21
"""Of all planes together that cost little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What one mask marks inside its region.

    Attributes:
        share: Of the region.
        is_hidden: Whether it marks something, but nothing there.
        told: For every one of `LATTICES` the pixels right, given and true, where a cell that is
            mostly foreground is given whole.
        trouble: Why it cannot be used; empty where it can.
    """

    share: float = 0.0
    is_hidden: bool = False
    told: tuple[Float[np.ndarray, "3"], ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What one volume is, from decoding all its slices.

    Attributes:
        height: Of a slice, in pixels.
        width: Of a slice, in pixels.
        depth: Slices.
        bits: 8 or 16.
        mean: Of a sample of pixels, as a share of full scale.
        square: Of the same, the mean of squares.
        white: The largest value, as a share of full scale.
        sha256: Of all pixels, the same for every way to keep them.
        files: That the slices lie in, links resolved.
        gap: Between which slices one seems to be missing; empty where none is.
        is_colour: Whether the slices are the colours of one picture.
        masks: What its masks mark.
    """

    height: int
    width: int
    depth: int
    bits: int
    mean: float
    square: float
    white: float
    sha256: str
    files: tuple[str, ...]
    gap: str = ""
    is_colour: bool = False
    masks: tuple[Marked, ...] = ()


def scan(case: Case, *masks: str) -> Scanned:
    """Decode all slices of a volume, a piece at a time, and its masks, and measure them.

    Args:
        case: The volume.
        masks: Files; what is wrong with them is told later, of all volumes together.

    Raises:
        UnreadableImage: A slice does not decode or has another shape than the first, or the region
            has.
    """
    stack = find_slices(case.paths[0])
    of_slice, samples = [hashlib.sha256() for _ in stack.names], []
    plane, dtype, white = (0, 0), np.dtype(np.uint8), 0
    for piece in stack.pieces():
        plane, dtype = piece.plane, piece.values.dtype
        white = max(white, int(piece.values.max()))
        for sha, rows in zip(of_slice[piece.first :], piece.values, strict=False):
            sha.update(np.ascontiguousarray(rows).tobytes())
        down, across = (max(1, side // 64) for side in plane)
        sample = piece.values[:, -piece.top % down :: down, ::across]
        samples.append(sample.reshape(-1) / float(np.iinfo(dtype).max))
    try:
        region_of(case, *plane)
    except TargetError as error:
        raise UnreadableImage(str(error)) from None
    seen = np.concatenate(samples)
    return Scanned(
        height=plane[0],
        width=plane[1],
        depth=len(stack),
        bits=dtype.itemsize * 8,
        mean=float(seen.mean()),
        square=float((seen**2).mean()),
        white=white / float(np.iinfo(dtype).max),
        sha256=hashlib.sha256(b"".join(sha.digest() for sha in of_slice)).hexdigest(),
        files=stack.files,
        gap=gap_of(stack.names),
        is_colour=stack.is_colour,
        masks=tuple(_marked(case, path, plane) for path in masks),
    )


def _marked(case: Case, path: str, plane: tuple[int, int]) -> Marked:
    try:
        region, whole = region_of(case, *plane), read_mask(path, plane)
    except TargetError as error:
        return Marked(trouble=str(error))
    mask = whole & region
    return Marked(
        share=float(mask.sum() / max(region.sum(), 1)),
        is_hidden=bool(whole.any() and not mask.any()),
        told=tuple(_told(mask, lattice) for lattice in LATTICES),
    )


def measure(manifest: Manifest, found: Sequence[Scanned]) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every volume, and the facts of them all.

    Raises:
        TargetError: A mask is missing, does not decode, or has another size than the slices.
    """
    sizes = [f"{v.height}x{v.width}" for v in found]
    bits, spare, fills = depth_of([v.bits for v in found], [v.white for v in found])
    mean = np.mean(np.array([v.mean for v in found]) * fills)
    square = np.mean(np.array([v.square for v in found]) * fills**2)
    shares, target = _measured_masks(manifest, found)
    depths = _depths(found)
    facts = Facts(
        cases=len(manifest),
        target={**target, **_kinds(manifest, found, depths)},
        height=int(np.median([v.height for v in found])),
        width=int(np.median([v.width for v in found])),
        aspect=1.0,
        channels=1,
        bits=bits,
        spare_bits=spare,
        depth=min(depths),
        mean=(round(float(mean), 4),),
        std=(round(float(np.sqrt(max(square - mean**2, 1e-6))), 4),),
        sizes=commonest(sizes),
        pixels=sum(v.height * v.width for v in found),
        sites=manifest.sites,
    )
    measured = {
        "image_size": np.asarray(sizes),
        "sha256": np.asarray([v.sha256 for v in found]),
        "labels": np.asarray([labels_digest(labels_of(manifest, k)) for k in range(len(found))]),
        "physical": np.asarray([f"volume {k}" for k in _physical(found)]),
        "depth": np.asarray([str(v.depth) for v in found]),
        "gap": np.asarray([v.gap for v in found], dtype=np.str_),
        "marked": np.asarray([f"{share:.5f}" for share in shares]),
    }
    return replace(manifest, measured=measured), facts


def _depths(found: Sequence[Scanned]) -> list[int]:
    """Slices of every volume; a grey picture among ones in colour is one whose colours are equal.

    Else one grey picture would take the colours from all others.
    """
    depths = [v.depth for v in found]
    are_pictures = all(v.is_colour or v.depth == 1 for v in found)
    if are_pictures and any(v.is_colour for v in found):
        return [len(COLOURS)] * len(found)
    return depths


def _kinds(
    manifest: Manifest, found: Sequence[Scanned], depths: Sequence[int]
) -> dict[str, int | str]:
    """What a recipe tells of volumes that are not all of one depth, or are pictures in colour."""
    kinds: dict[str, int | str] = {}
    if colour := sum(v.is_colour for v in found):
        kinds["colour"] = colour
    if max(depths) > min(depths):
        kinds["deepest"] = max(depths)
        kinds["shallowest"] = manifest.ids[int(np.argmin(depths))]
    return kinds


def _measured_masks(
    manifest: Manifest, found: Sequence[Scanned]
) -> tuple[list[float], dict[str, float]]:
    """Every volume's share of foreground; their mean, and the cells that masks can be told in."""
    each = [(k, mask) for k, volume in enumerate(found) for mask in volume.masks]
    bad = [f"{manifest.name(k)}: {mask.trouble}" for k, mask in each if mask.trouble]
    if bad:
        raise TargetError(f"{len(bad)} masks cannot be used; cure: correct them", bad)
    if not each:
        return [], {}
    hidden = [f"{manifest.name(k)}: {manifest.paths[k][1]}" for k, m in each if m.is_hidden]
    shares = [mask.share for _, mask in each]
    if not any(shares) and hidden:
        raise TargetError(
            "no mask marks anything inside its region; there is nothing to learn; cure: regions "
            "that show where volumes count (anything but 0), or a table without that column",
            hidden,
        )
    if not any(shares):
        raise TargetError("all masks are empty; there is nothing to learn; cure: another --target")
    if min(shares) == 1:
        raise TargetError(
            "all masks mark everything, for anything but 0 is marked; there is nothing to learn; "
            "cure: masks with 0 for background, or another --target"
        )
    counts = zip(LATTICES, np.sum([mask.told for _, mask in each], axis=0), strict=True)
    pixels = sum(v.height * v.width for v in found)
    fine = []
    for n, (hit, given, true) in counts:
        is_cheap = pixels <= FEW_CELLS * (n // 2) ** 2  # in cells of half the width
        if 2 * hit >= (SHARP if is_cheap else TOLD) * (given + true):
            fine.append(n)
    return shares, {"share": round(float(np.mean(shares)), 6), "lattice": max([1, *fine])}


def _told(mask: Bool[np.ndarray, "height width"], lattice: int) -> Float[np.ndarray, "3"]:
    """Pixels right, given and true, where a cell that is mostly foreground is given whole."""
    positive = cells(mask, lattice)
    area = cells(np.ones(mask.shape, dtype=np.uint8), lattice)
    given = 2 * positive >= area
    return np.array([positive[given].sum(), area[given].sum(), positive.sum()], dtype=np.float64)


def _physical(found: Sequence[Scanned]) -> list[int]:
    """A number for each volume; those that share a file share it."""
    owner: dict[str, int] = {}
    number = list(range(len(found)))
    for k, volume in enumerate(found):
        same = {number[owner[f]] for f in volume.files if f in owner} | {number[k]}
        least = number[k] = min(same)
        if len(same) > 2:  # it joins volumes that were apart
            number = [least if n in same else n for n in number]
        owner |= dict.fromkeys(volume.files, k)
    return number


def region_profile(case: Case, axis: int) -> Float[np.ndarray, " place"]:
    """The region's pixels at each place along an axis (0 rows, 1 columns)."""
    (height, width), _ = find_slices(case.paths[0]).form()
    return region_of(case, height, width).sum(axis=1 - axis).astype(np.float64)
