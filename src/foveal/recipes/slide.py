"""Slides of gigapixels to an ordinal grade: the tiles with most tissue, joined or kept as a bag.

Where tissue is, is found once on the smallest level; tiles are cut from there at any size, number
and resolution, so that several layouts cost one look each. From then on it is a grading study:
three approaches, calibrated and averaged, cuts in closed form; those of single sites only where
that helps on cases left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from foveal.audit.duplicates import lookalikes
from foveal.audit.leaks import conflicts, telltales
from foveal.decide.sites import PerSite
from foveal.errors import UsageError, listed
from foveal.grades import APPROACHES, CutName, cuts_of, grade_count, graded, plain_grades
from foveal.manifest import Facts, Manifest
from foveal.members.classical import Classical
from foveal.members.network import Network
from foveal.members.ridge import Learns
from foveal.members.slides import FindTissue, ShownTiles, StoredTiles, Tiles
from foveal.members.training import Training
from foveal.models.backbone import Backbone
from foveal.models.features import TileFeatures, TissueFeatures
from foveal.options import (
    FLOOR,
    Clip,
    Count,
    DropPath,
    Ema,
    FoldCount,
    MemberNames,
    NotNegative,
    Optimiser,
    Pooling,
    Positive,
    Precision,
    Seed,
    Share,
    WarmUp,
    Weights,
    mix_of,
    networks,
    optim_of,
)
from foveal.options import Layout as MemoryLayout
from foveal.ship.panels.slide import slide_panels
from foveal.simulate.biopsy import simulate_biopsy
from foveal.slides import SlideSeen, WithTissue, is_blank, measure, remarks, survey
from foveal.split.folds import Folds, by_grade
from foveal.targets.ordinal import Ordinal
from foveal.task import Family, Recipe
from foveal.train.sampling import Balanced
from foveal.transforms.augment import Augment
from foveal.transforms.montage import Layout, VaryTiles, shifted

Side = Annotated[int, Field(ge=32, le=2048, multiple_of=8)]
Level = Annotated[int, Field(ge=0)]
Shifts = Annotated[int, Field(ge=1, le=4)]

COVERED = 0.5
"""Share of a typical slide's tissue that tiles cover, where nobody says their resolution."""

WORK = 4e8
"""Pixels of tiles that a small network is to see in all epochs of one training."""

FEW_EPOCHS, MANY_EPOCHS = 8, 20

TEXTURE_SIDE, TEXTURE_COUNTS = 64, (16, 64)
"""Side of the tiles that the floor member looks at, and their least and largest number."""

DENSEST = 0.13
"""Share of a typical slide's tissue that they cover."""

TURNED = Augment(flip_vertical=0.5, quarter_turns=True, rotate_degrees=10.0, scale=(0.9, 1.1))
"""A tile has no upper side; each is turned alone."""

STAIN = Augment(flip_horizontal=0.0, brightness=0.2, contrast=0.1, colour=0.1)
"""How dyes and lamps differ: all tiles of a slide alike."""


def panda(
    facts: Facts,
    /,
    *,
    size: Side = 256,
    tiles: Count = 36,
    level: Level | None = None,
    spacing_um: Positive | None = None,
    shifts: Shifts = 2,
    masks: str = "",
    backbone: str = "tf_efficientnet_b0",
    weights: Weights = "imagenet",
    epochs: Count = 30,
    batch: Count = 6,
    folds: FoldCount = 5,
    near_duplicates: bool = False,
    seed: Seed = 0,
    grades: Count | None = None,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    mirror: bool = True,
    shuffle: Share = 0.5,
    cutout: Share = 0.0,
    mixup: Share = 0.3,
    cutmix: Share = 0.0,
    pooling: Pooling = "gem",
    drop_path: DropPath = 0.2,
    dropout: Share = 0.4,
    balance: Share = 0.0,
    trees: Count = 300,
    precision: Precision = "auto",
    layout: MemoryLayout = "auto",
    cuts: CutName = "closed_form",
    site_cuts: bool = True,
    cache_gb: NotNegative = 60.0,
) -> Recipe:
    """Gigapixel biopsies, grade 0 to 5: three tile layouts, each with three approaches.

    16 tiles of half the side joined to one picture, `tiles` of `size` joined, and 25 of twice the
    side as a bag. Made for the 10,616 slides of PANDA 2020 and one large GPU; winners reached a
    quadratic kappa of .94 on that competition's hidden slides. This recipe has not been run on
    them here.

    Args:
        facts: What `init` measured.
        size: Side of a tile of the middle layout, in pixels.
        tiles: Of the middle layout.
        level: Of the slide that tiles of the middle layout are cut from, counted from the largest;
            the smaller ones from one that is coarser by 4, the larger ones from the same.
        spacing_um: Microns a pixel instead, where every slide says its own.
        shifts: Offsets of the grid, 1 to 4: none, half a tile both ways, then down, then across;
            drawn in training, averaged after.
        masks: Pattern of masks that steer the choice of tiles, such as 'masks/{id}.png'; a missing
            file means none.
        backbone: A timm network.
        epochs: Passes over the training slides.
        batch: Slides a step.
        near_duplicates: Whether slides that look nearly the same share a fold.
        grades: How many there are; the largest one in the table + 1 if left out.
        lr: Peak learning rate; .0003 if left out, for sgd .05 from scratch and .01 for trained
            weights.
        mirror: Whether scores are averaged over tiles and their mirror images.
        shuffle: Probability that tiles change places in training.
        cutout: Probability of a hidden square in a tile.
        mixup: Share of batches whose slides are blended.
        cutmix: Share of the other batches whose slides show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention, over all tiles of a bag.
        dropout: Share of features dropped before the last layer.
        balance: 0 shows grades as often as they occur, 1 equally often.
        trees: Of the floor member's forest.
        cuts: closed_form, exact, bagged_exact, halves or fifths.
        site_cuts: Whether sites may have cuts of their own, where folds left out say that it helps.
        cache_gb: Most disk that tiles may take; changes no result.
    """
    training = Training(
        size=(size, size),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone, weights, drop_path),
        epochs=epochs,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=3e-4, decay=0.05, tuning=3e-4),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        mix=mix_of(mixup, cutmix),
        sampler=Balanced(balance),
        precision=precision,
        layout=layout,
        augment=replace(TURNED, cutout=cutout),
    )
    middle = _tiles(
        facts, size=size, tiles=tiles, level=level, spacing_um=spacing_um, shifts=shifts
    )
    little = _shrunk(replace(middle, side=size // 2, count=16), 4.0)
    large = replace(middle, side=2 * size, count=25)
    available: list[Network] = []
    for chosen, is_bag in ((little, False), (middle, False), (large, True)):
        available += _networks(
            chosen,
            training,
            bag=is_bag,
            mirror=mirror,
            shuffle=shuffle,
            head={"pooling": pooling, "dropout": dropout},
            suffix=f"-{chosen.count}x{chosen.side}",
        )
    count = grade_count(facts, grades)
    rule = cuts_of(cuts, count, seed)
    return graded(
        count,
        (_floor(facts, middle, trees), *available),
        members=members,
        folds=WithTissue(Folds(folds, seed, by_grade, near_duplicates)),
        decode=PerSite(rule) if site_cuts else rule,
        seed=seed,
        panels=slide_panels(ShownTiles(middle)),
        cache_gb=cache_gb,
    )


def small(
    facts: Facts,
    /,
    *,
    size: Side = 64,
    tiles: Count = 36,
    bag: bool = True,
    level: Level | None = None,
    spacing_um: Positive | None = None,
    shifts: Shifts = 2,
    masks: str = "",
    backbone: str = "mobilenetv3_small_050",
    weights: Weights = "none",
    epochs: Count | None = None,
    batch: Count = 4,
    folds: FoldCount = 5,
    near_duplicates: bool = False,
    seed: Seed = 0,
    grades: Count | None = None,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    mirror: bool = True,
    shuffle: Share = 0.5,
    cutout: Share = 0.0,
    mixup: Share = 0.0,
    cutmix: Share = 0.0,
    pooling: Pooling = "average_max",
    drop_path: DropPath = 0.0,
    dropout: Share = 0.2,
    balance: Share = 0.3,
    trees: Count = 300,
    precision: Precision = "auto",
    layout: MemoryLayout = "channels_last",
    cuts: CutName = "closed_form",
    site_cuts: bool = True,
    cache_gb: NotNegative = 8.0,
) -> Recipe:
    """Any graded slides on a CPU: three approaches with a small network from scratch.

    `level` or `spacing_um` say at which resolution tiles are cut; with neither it is chosen so that
    they cover half of the tissue of a typical slide, in microns where every slide says its own and
    in pixels of its largest level where not. `epochs` follow from the pixels of all slides'
    tiles, so that `run` is to take at most 30 minutes on 2 busy cores for 60 slides.

    Args:
        facts: What `init` measured.
        size: Side of a tile, in pixels.
        tiles: Of a slide, those with most tissue.
        bag: Whether the network sees each tile alone and pools over all, or all joined to one
            picture.
        level: Of the slide that tiles are cut from, counted from the largest.
        spacing_um: Microns a pixel instead, where every slide says its own.
        shifts: Offsets of the grid, 1 to 4: none, half a tile both ways, then down, then across;
            drawn in training, averaged after.
        masks: Pattern of masks that steer the choice of tiles, such as 'masks/{id}.png'; a missing
            file means none.
        backbone: A timm network.
        epochs: Passes over the training slides; by their pixels if left out.
        batch: Slides a step.
        near_duplicates: Whether slides that look nearly the same share a fold.
        grades: How many there are; the largest one in the table + 1 if left out.
        lr: Peak learning rate; .002 from scratch, .0005 for trained weights if left out (for
            sgd .05 and .01).
        mirror: Whether scores are averaged over tiles and their mirror images.
        shuffle: Probability that tiles change places in training.
        cutout: Probability of a hidden square in a tile.
        mixup: Share of batches whose slides are blended.
        cutmix: Share of the other batches whose slides show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention, over all tiles of a bag.
        dropout: Share of features dropped before the last layer.
        balance: 0 shows grades as often as they occur, 1 equally often.
        trees: Of the floor member's forest.
        cuts: closed_form, exact, bagged_exact, halves or fifths.
        site_cuts: Whether sites may have cuts of their own, where folds left out say that it helps.
        cache_gb: Most disk that tiles may take; changes no result.
    """
    training = Training(
        size=(size, size),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone, weights, drop_path),
        epochs=epochs or _epochs(facts.cases * tiles * size**2),
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=2e-3, decay=0.05),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        mix=mix_of(mixup, cutmix),
        sampler=Balanced(balance),
        precision=precision,
        layout=layout,
        augment=replace(TURNED, cutout=cutout),
    )
    chosen = _tiles(
        facts, size=size, tiles=tiles, level=level, spacing_um=spacing_um, shifts=shifts
    )
    available = _networks(
        chosen,
        training,
        bag=bag,
        mirror=mirror,
        shuffle=shuffle,
        head={"pooling": pooling, "dropout": dropout},
    )
    count = grade_count(facts, grades)
    rule = cuts_of(cuts, count, seed)
    return graded(
        count,
        (_floor(facts, chosen, trees), *available),
        members=members,
        folds=WithTissue(Folds(folds, seed, by_grade, near_duplicates)),
        decode=PerSite(rule) if site_cuts else rule,
        seed=seed,
        panels=slide_panels(ShownTiles(chosen)),
        cache_gb=cache_gb,
    )


def _epochs(pixels: int) -> int:
    """Passes over so many pixels of tiles."""
    return max(FEW_EPOCHS, min(MANY_EPOCHS, round(WORK / pixels)))


def _networks(
    tiles: Tiles,
    training: Training,
    *,
    bag: bool,
    mirror: bool,
    shuffle: float,
    head: Mapping[str, Any],
    suffix: str = "",
) -> list[Network]:
    """A network of each approach that sees these tiles."""
    seen = Layout(count=tiles.count, side=tiles.side, shifts=tiles.shifts, joined=not bag)
    vary = VaryTiles(layout=seen, each=training.augment, whole=STAIN, shuffle=shuffle)
    views = shifted(seen, mirrored=mirror)
    training = replace(training, size=seen.size, augment=vary, views=views)
    bagged, pictures = tiles.count if bag else None, StoredTiles(tiles=tiles)
    return networks(APPROACHES, pictures, training, suffix=suffix, bag=bagged, **head)


def _floor(facts: Facts, tiles: Tiles, trees: int) -> Classical:
    """Features of small tiles, twice as fine, and of how much tissue there is; no network.

    Half of the tiles lie where tissue is densest, the others all over it.
    """
    fine = replace(
        tiles,
        side=TEXTURE_SIDE,
        shifts=1,
        downsample=max(tiles.downsample / 2, 1.0),
        spacing_um=tiles.spacing_um and max(tiles.spacing_um / 2, facts.spacing_um or 0.0),
    )
    scale = fine.downsample
    if fine.spacing_um and facts.spacing_um:
        scale = fine.spacing_um / facts.spacing_um
    wanted = DENSEST * facts.tissue_pixels / (scale * TEXTURE_SIDE) ** 2
    chosen = replace(fine, count=int(np.clip(round(wanted), *TEXTURE_COUNTS)), evenly=0.5)
    features = StoredTiles(
        kind="features",
        tiles=chosen,
        steps=(TileFeatures(TEXTURE_SIDE),),
        beside=TissueFeatures(),
    )
    return Classical(name=FLOOR, features=features, trees=trees, learns=Learns())


def _tiles(
    facts: Facts,
    *,
    size: int,
    tiles: int,
    level: int | None,
    spacing_um: float | None,
    shifts: int,
) -> Tiles:
    """Tiles at the resolution that was said, or at one where they cover enough tissue."""
    find = FindTissue(pens=facts.target.get("pens", True))
    chosen = Tiles(side=size, count=tiles, shifts=shifts, channels=facts.channels, find=find)
    if level is not None and spacing_um is not None:
        raise UsageError("level= and spacing_um= say the same thing; cure: one of them")
    if spacing_um is not None:
        if facts.spacing_um is None:
            mute = facts.target.get("without_spacing", "none of them does")
            raise UsageError(
                f"spacing_um={spacing_um:g}: not every slide says how many microns a pixel is wide "
                f"(without: {mute}); cure: level="
            )
        return replace(chosen, spacing_um=spacing_um)
    if level is not None:
        if level >= len(facts.levels):
            raise UsageError(f"level={level}: the slides have levels 0 to {len(facts.levels) - 1}")
        return replace(chosen, downsample=facts.levels[level])
    covering = math.sqrt(COVERED * facts.tissue_pixels / (tiles * size**2))
    downsample = max(round(2 * covering) / 2, 1.0)
    if facts.spacing_um is not None:  # scanners differ, and pixels of one are not those of another
        return replace(chosen, spacing_um=downsample * facts.spacing_um)
    return replace(chosen, downsample=downsample)


def _shrunk(tiles: Tiles, factor: float) -> Tiles:
    """The same at a coarser resolution."""
    spacing = None if tiles.spacing_um is None else factor * tiles.spacing_um
    return replace(tiles, downsample=factor * tiles.downsample, spacing_um=spacing)


# --- what `init` measures -----------------------------------------------------------------------


def facts(manifest: Manifest, found: Sequence[SlideSeen]) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every slide, and the facts of them all."""
    return measure(manifest, found, target=Ordinal.measure(manifest))


def suspicions(manifest: Manifest) -> list[str]:
    """Are slides blank, equal, alike? Does a site tell the grade?"""
    truth = plain_grades(manifest)
    words = "slides are equal to another with another grade (kept, in one fold)"
    blank = [manifest.ids[row] for row in np.flatnonzero(is_blank(manifest))]
    said = f"slides that show no tissue, and are left out: {listed(blank)}"
    return [
        *([said] if blank else []),
        *telltales(manifest, truth),
        *conflicts(manifest, truth.target, words),
        *lookalikes(manifest),
    ]


FAMILY = Family(
    survey=survey,
    facts=facts,
    audit=suspicions,
    remarks=remarks,
    simulate=simulate_biopsy,
    demo=("small", {"epochs": 5, "trees": 100}),
)
