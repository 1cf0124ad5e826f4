"""What `init` measures of slides: levels, resolution, how much tissue, how dark its dyes are.

Only the smallest level is decoded; of the others every tile must lie inside the file. A blank slide
is no error: it is warned of, left out of the folds, and answered with the prior::

    manifest, facts = measure(manifest, [survey(case) for case in manifest.cases()], target={})
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

import foveal.survey
from foveal.arrays import Pixels
from foveal.audit.duplicates import SIDE
from foveal.errors import SplitError, listed
from foveal.manifest import Case, Facts, Manifest
from foveal.read.image import Inspection
from foveal.read.level import Level
from foveal.read.slide import open_slide, overview, scene
from foveal.split.record import EVERY, NONE, Split
from foveal.transforms.tissue import tissue

BLANK = "blank"
"""What a slide without tissue counts as in the table of folds."""

NAMED = 5
"""Slides that are named, and kinds of them."""

APART = 0.05
"""By which levels, and the shapes of masks, may differ from each other unremarked."""

STAINED = 0.25
"""Share of what is dark on a typical slide from which colours of pens are taken for a stain."""

OVERVIEW_SIDE = 512
"""Most pixels along a side of the picture that a slide is measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSeen:
    """One slide's measurements.

    Attributes:
        picture: Size, channels, look and brightness; brightness is that of the tissue.
        downsamples: Of every level, 1 first.
        spacing_um: Microns a pixel of the largest level; None where nobody says.
        tissue: Share of the slide, 0 to 1.
        dark: Likewise, with what has the colour of a pen.
        mask: Digest of the mask's pixels; empty where there is none.
        stretch: Width over height of the mask, of that of the slide; 1 where there is none.
    """

    picture: foveal.survey.Surveyed
    downsamples: tuple[float, ...]
    spacing_um: float | None
    tissue: float
    dark: float
    mask: str
    stretch: float


def survey(case: Case) -> SlideSeen:
    """Look at all of a slide, small.

    Raises:
        UnreadableImage: The file is truncated, or no slide; or its mask does not decode.
    """
    mask = None if case.mask is None else scene(case.mask, OVERVIEW_SIDE)
    with open_slide(case.paths[0]) as slide:
        seen = overview(slide, OVERVIEW_SIDE)
        shown, dark = tissue(seen) > 0, tissue(seen, pens=False) > 0
        is_dyed = shown if shown.sum() > (1 - STAINED) * dark.sum() else dark
        dyed = seen[is_dyed] if is_dyed.any() else seen.reshape(-1, slide.channels)
        unit = dyed / 255.0
        grey = cv2.resize(seen.mean(axis=2) / 255, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        picture = Inspection(
            height=slide.levels[0].height,
            width=slide.levels[0].width,
            channels=slide.channels,
            bits=8,
            sha256=slide.fingerprint(),
            mean=tuple(unit.mean(axis=0).tolist()),
            square=tuple((unit**2).mean(axis=0).tolist()),
        )
        return SlideSeen(
            picture=foveal.survey.Surveyed(picture, 1.0, grey.astype(np.float32)),
            downsamples=tuple(one.downsample for one in slide.levels),
            spacing_um=slide.spacing_um,
            tissue=float(shown.mean()),
            dark=float(dark.mean()),
            mask="" if mask is None else _digest(mask),
            stretch=1.0 if mask is None else _stretch(mask, slide.levels[0]),
        )


def _stretch(mask: Pixels, level: Level) -> float:
    """How much wider than the slide a mask is, as far as its pixels tell."""
    height, width = mask.shape[:2]
    across, down = width / level.width, height / level.height
    slack = max(across, down) * (1 / width + 1 / height)
    return 1.0 if abs(across - down) <= slack else across / down


def _digest(image: Pixels) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def measure(
    manifest: Manifest, found: Sequence[SlideSeen], *, target: Mapping[str, Any]
) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every slide, and the facts of them all.

    Mean and deviation are those of glass and about glass, so that glass is 0 to a network, as the
    zeros are with which convolutions pad.
    """
    manifest, facts = foveal.survey.measure(manifest, [f.picture for f in found], target=target)
    mean, std = np.array(facts.mean), np.array(facts.std)
    about_white = np.sqrt(std**2 + (1 - mean) ** 2)
    usual = max((f.downsamples for f in found), key=len)
    spacings = [f.spacing_um for f in found if f.spacing_um is not None]
    spacing = float(np.median(spacings)) if len(spacings) == len(found) else None
    mute = [name for name, f in zip(manifest.ids, found, strict=True) if f.spacing_um is None]
    if is_stain := _looks_stained(found):
        found = [replace(f, tissue=f.dark) for f in found]
    shown = [f for f in found if f.tissue > 0] or list(found)
    facts = replace(
        facts,
        mean=(1.0,) * facts.channels,
        std=tuple(round(float(s), 4) for s in about_white),
        levels=tuple(
            round(float(np.median([f.downsamples[k] for f in found if len(f.downsamples) > k])), 3)
            for k in range(len(usual))
        ),
        spacing_um=spacing,
        target={
            **facts.target,
            **({"without_spacing": listed(mute)} if spacings and mute else {}),
            **({"pens": False} if is_stain else {}),
        },
        tissue_pixels=round(float(np.median([_tissue_pixels(f, spacing) for f in shown]))),
    )
    more = {
        "spacing_um": np.array([f"{f.spacing_um:.5g}" if f.spacing_um else "" for f in found]),
        "levels": np.array([" ".join(f"{d:.5g}" for d in f.downsamples) for f in found]),
        "tissue": np.array([f"{f.tissue:.5f}" for f in found], dtype=np.str_),
        "stain": np.array([STAIN if is_stain else "" for _ in found], dtype=np.str_),
        "mask_stretch": np.array([f"{f.stretch:.3f}" for f in found], dtype=np.str_),
        "mask_sha256": np.array([f.mask for f in found], dtype=np.str_),
    }
    return replace(manifest, measured={**manifest.measured, **more}), facts


STAIN = "as pens"
"""What is measured of slides whose stain has the colour of pens."""


def _looks_stained(found: Sequence[SlideSeen]) -> bool:
    """Whether colours of pens are as common as only a stain is: pens mark few slides, or little."""
    taken = [1 - f.tissue / f.dark for f in found if f.dark > 0]
    return bool(taken) and float(np.median(taken)) > STAINED


def _tissue_pixels(seen: SlideSeen, spacing_um: float | None) -> float:
    """In pixels of the slide's own largest level, or of a width that is said."""
    own = seen.tissue * seen.picture.picture.height * seen.picture.picture.width
    if spacing_um is None or seen.spacing_um is None:
        return own
    return own * (seen.spacing_um / spacing_um) ** 2


def remarks(manifest: Manifest) -> list[str]:
    """What a person should know of the slides before anything is trained."""
    of_stain = [PENS_COUNT] if STAIN in manifest.measured["stain"] else []
    return [*of_stain, *_of_spacing(manifest), *_of_levels(manifest), *_of_masks(manifest)]


PENS_COUNT = (
    "much of what is dark on most slides has the colour of a pen, so it is taken for a stain, and "
    "pens for tissue"
)


def _of_spacing(manifest: Manifest) -> list[str]:
    """Whether some slides, but not all, say how wide their pixels are."""
    told = manifest.measured["spacing_um"]
    mute = np.flatnonzero(told == "")
    if not 0 < len(mute) < len(told):
        return []
    widths = told[told != ""].astype(np.float64)
    return [
        f"{len(mute)} slides do not say how wide their pixels are, so tiles of all slides count in "
        f"pixels, where the others have {widths.min():.3g} to {widths.max():.3g} um: "
        f"{listed([manifest.ids[row] for row in mute.tolist()])}; cure: slides that say it, or a "
        "table without these"
    ]


def _of_levels(manifest: Manifest) -> list[str]:
    """Whether levels of the same number are shrunk differently, so that `level=` fits no slide."""
    steps = [tuple(map(float, told.split())) for told in manifest.measured["levels"].tolist()]
    single = sum(len(own) == 1 for own in steps)
    kinds: dict[tuple[float, ...], list[int]] = {}
    for row in sorted(range(len(steps)), key=lambda row: -len(steps[row])):
        if len(steps[row]) > 1:
            same = (kind for kind in kinds if _is_alike(kind, steps[row]))
            kinds.setdefault(next(same, steps[row]), []).append(row)
    if len(kinds) < 2:
        return []
    told = [
        f"{', '.join(f'{step:g}' for step in kind)} in {len(rows)} "
        f"(such as {manifest.ids[min(rows)]})"
        for kind, rows in kinds.items()
    ]
    told += [f"one level in {single}"] if single else []
    return [
        f"the levels of slides are not shrunk alike: {'; '.join(told[:NAMED])}; level= is the "
        "median of each, which no slide may have; cure: spacing_um= in its place, where every "
        "slide says its own"
    ]


def _of_masks(manifest: Manifest) -> list[str]:
    """How many slides have a mask, and which masks are of another shape than their slides."""
    has = manifest.roles.get("mask", np.array([""])) != ""
    stretch = manifest.measured["mask_stretch"].astype(np.float64)
    odd = np.flatnonzero(np.maximum(stretch, 1 / stretch) > 1 + APART)
    said = []
    if has.any() and not has.all():
        said.append(f"masks for {has.sum()} of {len(has)} slides; the others have none to steer by")
    if len(odd):
        told = [f"{manifest.ids[row]} ({stretch[row]:.2g} times as wide)" for row in odd.tolist()]
        said.append(
            f"{len(odd)} masks are of another shape than their slides: {listed(told)}; cure: masks "
            "of the whole scene"
        )
    return said


def _is_alike(steps: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the levels that two slides both have are shrunk alike."""
    return all(max(a, b) <= (1 + APART) * min(a, b) for a, b in zip(steps, others, strict=False))


def is_blank(manifest: Manifest) -> np.ndarray:
    """Which slides show nothing but glass."""
    return manifest.measured["tissue"].astype(np.float64) == 0


@dataclass(frozen=True, slots=True)
class WithTissue:
    """Folds of slides that show something; blank ones are neither learned from nor judged.

    Attributes:
        folds: Of the others.
    """

    folds: Callable[[Manifest], Split]

    def __call__(self, manifest: Manifest) -> Split:
        """Assign every case with tissue to a fold.

        Raises:
            SplitError: As `folds` does.
        """
        shown = np.flatnonzero(~is_blank(manifest))
        if len(shown) == len(manifest):
            return self.folds(manifest)
        if not len(shown):
            raise SplitError("no slide shows any tissue; cure: other slides, or another level")
        made, blank = self.folds(manifest.take(shown)), is_blank(manifest)
        left_out = listed([manifest.ids[row] for row in np.flatnonzero(blank)])

        def spread(values: np.ndarray, of_blank: object) -> np.ndarray:
            kind = np.result_type(values, np.asarray(of_blank))
            whole = np.full(len(manifest), of_blank, dtype=kind)
            whole[shown] = values
            return whole

        group = spread(made.group, 0)
        group[blank] = made.group.max() + 1 + np.arange(blank.sum())
        return replace(
            made,
            fold=spread(made.fold, NONE),
            hidden=spread(made.hidden, EVERY),
            group=group,
            kind=spread(made.kind, BLANK),
            notes=(*made.notes, f"blank slides are left out: {left_out}"),
        )
