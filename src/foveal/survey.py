"""What `init` measures of photographs: size, channels, depth, brightness, aspect of the content.

One picture is decoded once; what is seen of all of them becomes the facts that a recipe builds on::

    manifest, facts = measure(manifest, [survey(case) for case in manifest.cases()], target={})
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foveal.audit.channels import light_of
from foveal.audit.duplicates import SIDE, alike
from foveal.errors import ManifestError
from foveal.manifest import Case, Facts, Manifest, commonest
from foveal.read.image import Inspection, depth_of, filled, inspect, spare_bits_of
from foveal.transforms.augment import content_box, resize


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One picture's measurements.

    Attributes:
        picture: Its size, channels and brightness.
        aspect: Of its content.
        thumbnail: Grey, of full scale 1, to be compared with others.
    """

    picture: Inspection
    aspect: float
    thumbnail: np.ndarray


def survey(case: Case) -> Surveyed:
    """Decode a photograph in full and measure it."""
    picture, image = inspect(case)
    if picture.bits == 16:
        image = filled(image, spare_bits_of(picture.white))
    top, bottom, left, right = content_box(image)
    grey = resize(image, SIDE, SIDE).mean(axis=2) / np.iinfo(image.dtype).max
    return Surveyed(picture, (right - left) / (bottom - top), grey.astype(np.float32))


def measure(
    manifest: Manifest, found: Sequence[Surveyed], *, target: Mapping[str, Any]
) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every case, and the facts of them all.

    Args:
        manifest: The cases.
        found: What was seen of each.
        target: Facts of what is to be predicted.
    """
    pictures = [f.picture for f in found]
    counts = Counter(p.channels for p in pictures)
    channels = max(counts, key=lambda one: (counts[one], one))
    channels = 3 if channels == 1 and 3 in counts else channels
    odd = [
        f"{manifest.name(k)}: {p.channels} channels"
        for k, p in enumerate(pictures)
        if p.channels != channels and (p.channels, channels) != (1, 3)
    ]
    if odd:
        raise ManifestError(
            f"{len(odd)} pictures have not the {channels} channels of the others; cure: leave them "
            "out, or give all the same channels",
            odd,
        )
    sizes = [f"{p.height}x{p.width}" for p in pictures]
    wide = [_widened(p.mean, channels) for p in pictures]
    square = [_widened(p.square, channels) for p in pictures]
    bits, spare, fills = depth_of([p.bits for p in pictures], [p.white for p in pictures])
    wide, square = np.array(wide) * fills[:, None], np.array(square) * fills[:, None] ** 2
    mean = np.mean(wide, axis=0)
    facts = Facts(
        cases=len(manifest),
        target=dict(target),
        height=int(np.median([p.height for p in pictures])),
        width=int(np.median([p.width for p in pictures])),
        aspect=round(float(np.median([f.aspect for f in found])), 3),
        channels=channels,
        bits=bits,
        spare_bits=spare,
        mean=tuple(round(float(m), 4) for m in mean),
        std=tuple(
            round(float(s), 4) for s in np.sqrt(np.maximum(np.mean(square, axis=0) - mean**2, 1e-6))
        ),
        sizes=commonest(sizes),
        pixels=sum(p.height * p.width for p in pictures),
        sites=manifest.sites,
    )
    lot = alike(np.stack([f.thumbnail for f in found]))
    measured = {
        "image_size": np.asarray(sizes),
        "sha256": np.asarray([p.sha256 for p in pictures]),
        "channel_light": light_of(wide, square),
        "look": np.where(np.bincount(lot)[lot] > 1, lot.astype(np.str_), ""),
    }
    return replace(manifest, measured=measured), facts


def _widened(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A grey picture's value for every channel."""
    return values * channels if len(values) == 1 else values
