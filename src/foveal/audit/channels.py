"""Is every channel what it says it is?

Sources of pictures differ in which plane holds which stain; on one famous set a channel read as
grey cost a hundredth of the score until somebody looked. A channel that is the same everywhere,
channels that are copies of each other, and sources whose channels fit better in another order are
found from each channel's mean and spread.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from foveal.errors import listed
from foveal.manifest import Manifest

FLAT = 2e-3
"""Spread, of full scale, under which a channel holds nothing."""

SAME = 1e-4
"""Of full scale: means and spreads that are no further apart are those of one plane."""

FEWEST = 5
"""Pictures of a source whose order of channels is judged."""


def light_of(
    mean: Float[np.ndarray, "case channel"], square: Float[np.ndarray, "case channel"]
) -> np.ndarray:
    """Mean and spread of every channel as a text, for the table of what was measured."""
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    both = np.stack([mean, spread], axis=2).reshape(len(mean), -1)
    return np.array([" ".join(f"{v:.5f}" for v in row) for row in both.tolist()], dtype=np.str_)


def odd_channels(manifest: Manifest) -> list[str]:
    """What is odd about the channels, in plain words."""
    texts = manifest.measured["channel_light"]
    light = np.array([[float(v) for v in text.split()] for text in texts.tolist()])
    light = light.reshape(len(light), -1, 2)
    channels = light.shape[1]
    found = []
    for k in range(channels):
        found += _said(
            manifest, light[:, k, 1] < FLAT, f"channel {k + 1} is the same everywhere in"
        )
    if channels == 1:
        return found
    copied = (np.ptp(light, axis=1) < SAME).all(axis=1) & (light[:, 0, 1] >= FLAT)
    is_grey = channels == 3 and all(len(files) == 1 for files in manifest.paths)
    if not (is_grey and copied.all()):  # pictures in grey are often kept as red, green and blue
        found += _said(manifest, copied, "all channels are copies of one in")
    for a, b in combinations(range(channels), 2):
        pair = _equal(light, a, b) & ~copied
        found += _said(manifest, pair, f"channels {a + 1} and {b + 1} are copies of each other in")
    for role in ("source", "site"):
        if role in manifest.roles:
            found += _swapped(manifest.roles[role], light, role)
    return found


def _equal(light: Float[np.ndarray, "case channel 2"], a: int, b: int) -> Bool[np.ndarray, " case"]:
    """Where two channels hold something, and the same to the last digit: two may be near."""
    return (light[:, a] == light[:, b]).all(axis=1) & (light[:, a, 1] >= FLAT)


def _said(manifest: Manifest, odd: np.ndarray, words: str) -> list[str]:
    names = [manifest.ids[k] for k in np.flatnonzero(odd).tolist()]
    return [f"{words} {len(names)} pictures: {listed(names)}"] if names else []


def _swapped(
    source: np.ndarray, light: Float[np.ndarray, "case channel 2"], role: str
) -> list[str]:
    """Sources whose channels are more like those of the others in another order."""
    from scipy.optimize import linear_sum_assignment

    found, channels = [], np.arange(light.shape[1])
    for name in filter(None, np.unique(source).tolist()):
        inside = source == name
        if min(inside.sum(), (~inside).sum()) < FEWEST:
            continue
        mine, theirs = (np.log(light[rows] + FLAT).mean(axis=0) for rows in (inside, ~inside))
        far = np.abs(mine[:, None] - theirs).sum(axis=2)
        order = linear_sum_assignment(far)[1]
        if (
            far[channels, order].sum() < 0.5 * far[channels, channels].sum()
            and (order != channels).any()
        ):
            told = ", ".join(str(k + 1) for k in order.tolist())
            found.append(
                f"{role} {name}: its channels look like channels {told} of the others; cure: the "
                "same order in every file"
            )
    return found
