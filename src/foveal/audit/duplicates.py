"""Pictures that are nearly the same: stored again, shrunk, turned or mirrored.

A picture's look is the signs of its 63 coarsest waves, as one number for each of the eight ways to
turn and mirror it. Two pictures are alike where the look of one differs from any of the other's in
at most three signs. Of four bands of a look one must then be equal, so candidates are found by
sorting, and time grows with the number of pictures, not with its square.

Reference:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt64

from foveal.manifest import Manifest

SIDE = 32
"""Of the thumbnail that a look is taken from."""

WAVES = 8
"""Along each axis."""

MOST_BITS, BANDS = 3, 4
"""Signs that may differ; and one band more than that, so that one of them is equal."""

FLAT = 2e-3
"""Spread of a thumbnail, of full scale, under which it looks like nothing."""


def looks(thumbnail: Float[np.ndarray, "32 32"]) -> UInt64[np.ndarray, "8"]:
    """The look of a grey thumbnail, of full scale 1, for all eight ways to turn and mirror it.

    A flat picture has none: all its looks are 0.
    """
    if thumbnail.std() < FLAT:
        return np.zeros(8, dtype=np.uint64)
    turned = [
        np.rot90(one, quarters) for one in (thumbnail, thumbnail[:, ::-1]) for quarters in range(4)
    ]
    return np.array([_signs(one) for one in turned], dtype=np.uint64)


def _signs(thumbnail: Float[np.ndarray, "32 32"]) -> int:
    from scipy.fft import dctn

    waves = dctn(thumbnail, norm="ortho")[:WAVES, :WAVES].reshape(-1)[1:]
    return int(np.packbits(np.append(waves > np.median(waves), True)).view(">u8")[0])


def alike(found: UInt64[np.ndarray, "case 8"]) -> Int[np.ndarray, " case"]:
    """The number of the lot that each picture belongs to; alike in turns is one lot."""
    parent = np.arange(len(found))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = int(parent[k])
        return k

    for one, other in _pairs(found).tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(k) for k in range(len(found))], dtype=np.int64)


def _pairs(found: UInt64[np.ndarray, "case 8"]) -> Int[np.ndarray, "pair 2"]:
    """Pictures that are alike, the first before the second."""
    seen = np.flatnonzero(found.any(axis=1))
    plain, turned = found[seen, 0], found[seen].reshape(-1)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for band in range(BANDS):
        shift, mask = np.uint64(64 // BANDS * band), np.uint64(2 ** (64 // BANDS) - 1)
        keys = (plain >> shift) & mask
        order = np.argsort(keys, kind="stable")
        wanted = (turned >> shift) & mask
        first, last = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        count = last - first
        left = np.repeat(np.arange(len(turned)), count)
        step = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
        right = order[np.repeat(first, count) + step]
        near = np.bitwise_count(turned[left] ^ plain[right]) <= MOST_BITS
        ends = np.stack([left // 8, right], axis=1)[near]
        pairs.append(seen[ends[ends[:, 0] != ends[:, 1]]])
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def lookalikes(manifest: Manifest) -> list[str]:
    """The pictures that look nearly like another one, as a sentence; nothing for none."""
    rows = np.flatnonzero(manifest.measured["look"] != "")
    if not len(rows):
        return []
    listed = ", ".join(manifest.ids[k] for k in rows[:10].tolist())
    return [
        f"{len(rows)} pictures look nearly like another one, whichever way they are turned: "
        f"{listed}{' ...' if len(rows) > 10 else ''}; cure, where they are of one scene: "
        "near_duplicates=true, or --group"
    ]
