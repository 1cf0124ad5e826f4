"""Pictures that are nearly the same: stored again, shrunk, turned or mirrored.

A picture's look is the signs of its 63 coarsest waves, as one number for each of the eight ways to
turn and mirror it. Two pictures may be alike where the look of one differs from any of the other's
in at most three signs. Of four bands of a look one must then be equal, so candidates are found by
sorting, and time grows with the number of pictures, not with its square.

Signs alone would say that of any two pictures of one composition, such as an eye's disc on black.
So the thumbnails themselves are compared, without what all pictures of the study have in common.

Reference:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from foveal.errors import listed
from foveal.manifest import Manifest

SIDE = 32
"""Of the thumbnail that a look is taken from."""

WAVES = 8
"""Along each axis."""

MOST_BITS, BANDS = 3, 4
"""Signs that may differ; and one band more than that, so that one of them is equal."""

FLAT = 2e-3
"""Spread of a thumbnail, of full scale, under which it looks like nothing."""

ALIKE, EQUAL = 0.9, 0.998
"""Correlation of two thumbnails that makes them one picture: of what is their own, and as they are,
for where nearly all pictures are copies of one."""

NOTHING = 0.01
"""Share of a length that may as well not be there."""

BLOCK = 1024
"""Pictures that are compared with as many others at once."""


def alike(thumbnails: Float[np.ndarray, "case 32 32"]) -> Int[np.ndarray, " case"]:
    """The number of the lot that each picture belongs to; alike in turns is one lot.

    Args:
        thumbnails: Grey, of full scale 1. A flat one is like no other.
    """
    lot = np.arange(len(thumbnails))
    seen = np.flatnonzero([one.std() >= FLAT for one in thumbnails])
    if len(seen):
        _join(lot, seen, _standardised(thumbnails[seen]))
    return lot


def _standardised(
    thumbnails: Float[np.ndarray, "case 32 32"],
) -> Float[np.ndarray, "case 32 32"]:
    """Mean 0 and spread 1: light and contrast tell nothing."""
    centred = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)
    return centred / centred.std(axis=(1, 2), keepdims=True)


def _own(pictures: Float[np.ndarray, "case 32 32"]) -> Float[np.ndarray, "case 32 32"]:
    """Standardised pictures without what all share, whichever way that is turned; of length 1.

    One that has nothing of its own is 0.
    """
    shared = np.stack([one.reshape(-1) for one in _turned(pictures.mean(axis=0))])
    _, size, ways = np.linalg.svd(shared.astype(np.float64), full_matrices=False)
    ways = ways[size > NOTHING * size[0]].astype(pictures.dtype)
    flat = pictures.reshape(len(pictures), -1)
    own = flat - (flat @ ways.T) @ ways
    length = np.linalg.norm(own, axis=1, keepdims=True)
    own *= (length > NOTHING * SIDE) / np.maximum(length, NOTHING)
    return own.reshape(pictures.shape)


def _join(
    lot: Int[np.ndarray, " case"],
    seen: Int[np.ndarray, " seen"],
    pictures: Float[np.ndarray, "seen 32 32"],
) -> None:
    """Give standardised pictures that are alike the same lot, the least of theirs."""
    own = _own(pictures)
    blocks = (pictures[k : k + BLOCK] for k in range(0, len(pictures), BLOCK))
    for some, others, near in _near(np.concatenate([looks(block) for block in blocks])):
        near &= lot[seen[some // 8]][:, None] != lot[seen[others]]
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if not len(rows):
            continue
        some, others = some[rows], others[columns]
        is_alike = _products(own, some, others) > ALIKE
        is_equal = _products(pictures, some, others) > EQUAL * SIDE**2
        near = near[np.ix_(rows, columns)] & (is_alike | is_equal)
        for k in np.flatnonzero(near.any(axis=1)).tolist():
            joined = np.unique(lot[[seen[some[k] // 8], *seen[others[near[k]]]]])
            if len(joined) > 1:
                lot[np.isin(lot, joined)] = joined[0]


def _products(
    pictures: Float[np.ndarray, "case 32 32"],
    some: Int[np.ndarray, " some"],
    others: Int[np.ndarray, " other"],
) -> Float[np.ndarray, "some other"]:
    """The scalar product of every turned picture with every whole one."""
    turned = [_turned(pictures[k // 8])[k % 8].reshape(-1) for k in some.tolist()]
    whole = pictures[others].reshape(len(others), -1)
    return np.stack(turned).astype(np.float64) @ whole.T.astype(np.float64)


def looks(thumbnails: Float[np.ndarray, "case 32 32"]) -> UInt64[np.ndarray, "case 8"]:
    """The looks of thumbnails for all eight ways to turn and mirror them."""
    return np.stack([_signs(one) for one in _turned(thumbnails)], axis=1)


def _turned(
    thumbnails: Float[np.ndarray, "*case 32 32"],
) -> list[Float[np.ndarray, "*case 32 32"]]:
    return [
        np.rot90(one, quarters, axes=(-2, -1))
        for one in (thumbnails, thumbnails[..., ::-1])
        for quarters in range(4)
    ]


def _signs(thumbnails: Float[np.ndarray, "case 32 32"]) -> UInt64[np.ndarray, " case"]:
    from scipy.fft import dctn

    waves = dctn(thumbnails.astype(np.float64), axes=(1, 2), norm="ortho")[:, :WAVES, :WAVES]
    waves = waves.reshape(len(waves), -1)[:, 1:]
    signs = waves > np.median(waves, axis=1, keepdims=True)
    padded = np.pad(signs, ((0, 0), (0, 1)), constant_values=True)
    return np.packbits(padded, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _near(
    look: UInt64[np.ndarray, "case 8"],
) -> Iterator[
    tuple[Int[np.ndarray, " some"], Int[np.ndarray, " other"], Bool[np.ndarray, "some other"]]
]:
    """Turned pictures, whole ones, and which of them are of nearly one look, a block at a time.

    A turned picture is 8 times the number of the picture, and the turn. A pair comes once.
    """
    whole, turned = look[:, 0], look.reshape(-1)
    for band in range(BANDS):
        of_whole, of_turned = _band(whole, band), _band(turned, band)
        order, turned_order = (np.argsort(v, kind="stable") for v in (of_whole, of_turned))
        keys, starts = np.unique(of_whole[order], return_index=True)
        first, last = (np.searchsorted(of_turned[turned_order], keys, s) for s in ("left", "right"))
        for others, low, high in zip(
            np.split(order, starts[1:]), first.tolist(), last.tolist(), strict=True
        ):
            if len(others) == 1 and (turned_order[low:high] // 8 == others[0]).all():
                continue  # nobody but itself
            for start in range(low, high, BLOCK):
                some = turned_order[start : min(start + BLOCK, high)]
                for place in range(0, len(others), BLOCK):
                    part = others[place : place + BLOCK]
                    differ = turned[some][:, None] ^ whole[part]
                    near = np.bitwise_count(differ) <= MOST_BITS
                    for earlier in range(band):
                        near &= _band(differ, earlier) != 0
                    yield some, part, near


def _band(look: UInt64[np.ndarray, "..."], band: int) -> UInt64[np.ndarray, "..."]:
    """A quarter of the signs of looks."""
    width = 64 // BANDS
    return (look >> np.uint64(width * band)) & np.uint64(2**width - 1)


def lookalikes(manifest: Manifest) -> list[str]:
    """The pictures that look nearly like another one, as a sentence; nothing for none."""
    names = [manifest.ids[k] for k in np.flatnonzero(manifest.measured["look"] != "").tolist()]
    if not names:
        return []
    return [
        f"{len(names)} pictures look nearly like another one, whichever way they are turned: "
        f"{listed(names)}; cure, where they are of one scene: near_duplicates=true, or --group"
    ]
