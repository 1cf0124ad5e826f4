"""A stack of slices to one mask: 2.5-D networks on crops, judged on one lattice.

The floor looks at filter responses; a network learns slice groups as pictures and mixes them over
depth. Masks are decided by one threshold for all volumes, or by one share of each, both exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from foveal.audit.leaks import conflicts
from foveal.combine.blend import PowerMean
from foveal.decide.share import Absolute, AsTheyAre, Share
from foveal.errors import UsageError
from foveal.losses.overlap import CrossEntropyAndFBeta
from foveal.manifest import Facts, Manifest
from foveal.members.filters import FilterTrees
from foveal.members.segmenter import Segmenter
from foveal.members.training import Training
from foveal.metrics.overlap import CellFBeta
from foveal.models.backbone import Backbone
from foveal.models.volumetric import Volumetric
from foveal.options import (
    FLOOR,
    Clip,
    Count,
    Degrees,
    DropPath,
    Ema,
    Layout,
    MemberNames,
    NotNegative,
    Optimiser,
    Positive,
    Precision,
    Seed,
    WarmUp,
    Weights,
    optim_of,
    wanted,
)
from foveal.options import Share as Part
from foveal.scan import measure, region_profile, scan
from foveal.ship.masks import MaskFolder
from foveal.ship.panels.segment import MASK_PANELS
from foveal.simulate.scroll import simulate_scroll
from foveal.split.record import numbered
from foveal.split.volumes import VolumeFolds
from foveal.targets.mask import Mask
from foveal.task import Family, Member, Recipe
from foveal.transforms.augment import Augment
from foveal.transforms.mix import CellCutmix, FirstOf, Mixup
from foveal.transforms.tiles import Dense, Inner, Windows, hann, uniform

DECIDE = {"share": Share, "absolute": Absolute}
Decide = Literal["share", "absolute"]

WORK = 5.5e8
"""Pixels that all epochs of a training of `small` look at, those of each slice group counted."""

LOOKS = 200
"""How often they look at every pixel of the volumes, at most."""

USUAL_SIZE, SIZE_STEP = 256, 32
"""Of a crop of large volumes; that of small ones is a multiple of the other."""

COARSE, FINE = 4, 0.25
"""Cells of so many pixels cost a decoder little; finer ones so many slice groups more."""

Mode = Literal["windows", "dense"]
Weighting = Literal["uniform", "hann", "inner"]
Lattice = Literal[1, 2, 4, 8, 16, 32]

MOST_SLICES = 64
"""That a network of `small` looks at: its time and memory grow with them."""

USUAL_SLICES = 16
"""That it looks at, at most, where nobody says how many."""

HALO = 32
"""Pixels around a place that `small` looks at, at least: twice as many told no more."""

Depth = Annotated[int, Field(ge=1, le=MOST_SLICES)]

Stride = Annotated[float, Field(ge=0.05, le=1)]
"""Of a window, as a share of its side: at the least, 400 windows see every place."""

Folds = Annotated[int, Field(ge=2)]
"""How many; over volumes, or over parts of them."""


def small(
    facts: Facts,
    /,
    *,
    size: Annotated[int, Field(ge=32, le=1024)] | None = None,
    lattice: Lattice | None = None,
    depth: Depth | None = None,
    group: Count = 3,
    backbone: str = "test_resnet",
    weights: Weights = "none",
    epochs: Count | None = None,
    crops: Count = 100,
    batch: Count = 2,
    folds: Folds = 4,
    guard: Annotated[int, Field(ge=0)] = 32,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    blocks: Count = 1,
    width: Count = 64,
    decoder_width: Count = 32,
    dropout: Part = 0.0,
    drop_path: DropPath = 0.0,
    smoothing: Part = 0.05,
    overlap: NotNegative = 1.0,
    beta: Positive = 0.5,
    decide: Decide = "absolute",
    warp: Part = 0.5,
    rotate: Degrees = 180.0,
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0,
    cutmix: Part = 0.0,
    mixup: Part = 0.0,
    z_shift: Annotated[int, Field(ge=0)] = 0,
    shuffle: Part = 0.0,
    foreground: Part = 0.5,
    weighting: Weighting = "hann",
    stride: Stride = 0.5,
    alternate: bool = True,
    mode: Mode = "dense",
    block: Count = 576,
    halo: Count | None = None,
    phases: Annotated[int, Field(ge=1, le=4)] = 4,
    trees: Count = 40,
    position: bool = False,
    precision: Precision = "auto",
    layout: Layout = "channels_last",
) -> Recipe:
    """Any stacks of slices on a CPU: filter responses with trees, and a small 2.5-D network.

    Where not given, `epochs` follows from the slices that are looked at and from the cells, so that
    `run` is to take at most 30 minutes on 2 busy cores; small sets are not looked at forever.

    Args:
        facts: What `init` measured.
        size: Side of a crop and of a window, in pixels; 256, or less where volumes are smaller, if
            left out.
        lattice: Pixels a cell is wide, 1 to 32; if left out 4, or finer where the masks are.
        depth: Slices around the middle, whole groups of them; as many as the shallowest volume has,
            16 at most and rounded down to whole groups, if left out.
        group: Slices that the network sees together, as the channels of one picture.
        backbone: A timm network.
        epochs: Of `crops` crops each; by their size, their slices and their cells if left out.
        crops: Crops of an epoch.
        batch: Crops a step, and windows a step when scoring.
        folds: How many.
        guard: Pixels that learning keeps away from what the fold judges, where volumes are cut.
        lr: Peak learning rate; .002 from scratch, .0005 for trained weights if left out (for
            sgd .05 and .01).
        blocks: Convolutions of the network that mix neighbouring slice groups.
        width: Features behind the backbone.
        decoder_width: Features on the way back up to a finer lattice.
        dropout: Share of features dropped before the logit.
        smoothing: How much closer targets are: with 0.2 they are .1 and .9.
        overlap: Weight of soft F-beta in the loss.
        beta: Of the metric, the decision and the loss; below 1 favours precision.
        decide: absolute (one threshold for all volumes) or share (of each plane).
        warp: Share of crops that are turned by any angle, zoomed, slanted and bent; the others are
            only mirrored and turned by quarters.
        rotate: Largest turn either way of those, in degrees.
        elastic: Their largest bend, as a share of the side.
        cutmix: Share of batches whose crops show a rectangle of each other.
        mixup: Share of the other batches whose crops are blended.
        z_shift: Most slices by which a crop is moved in depth.
        shuffle: Share of crops whose slices are shuffled inside their groups.
        foreground: Share of crops that are drawn around foreground; the others evenly.
        weighting: Of the cells of a window: uniform, hann or inner (the edge is discarded); this
            and the next two act where small windows are used.
        stride: From window to window, as a share of their side, .05 to 1.
        alternate: Whether windows are seen flipped in turn.
        mode: dense (large crops, where the network passes the shift test) or windows.
        block: Longest side of a large crop with its halo, in pixels.
        halo: Width of what is discarded of it, in pixels; 32 if left out, or a quarter of `size`
            where that is less.
        phases: How often large crops see the plane, each time shifted and flipped.
        trees: Of the floor member's forest.
        position: Whether the floor member is told where in its plane a cell lies, as organs or
            layers are told by; harmful where volumes to come show other places.
    """
    groups, channels = _groups(depth, group, facts.depth)
    lattice = lattice or facts.target["lattice"]
    size = size or _usual_size(facts)
    cells = size // lattice
    network = Segmenter(
        name="network",
        network=Volumetric(
            groups=groups,
            channels=channels,
            lattice=lattice,
            blocks=blocks,
            width=width,
            decoder_width=decoder_width,
            dropout=dropout,
            side=size,
        ),
        loss=CrossEntropyAndFBeta(beta, smoothing, overlap),
        training=Training(
            size=(size, size),
            backbone=Backbone(backbone, weights, drop_path),
            mean=facts.mean,
            std=facts.std,
            bits=facts.bits,
            augment=Augment(
                flip_vertical=0.5,
                quarter_turns=True,
                warp=warp,
                rotate_degrees=rotate,
                scale=(0.8, 1.25),
                shear_degrees=5.0,
                elastic=elastic,
            ),
            mix=_mix(cutmix, mixup),
            epochs=epochs or _epochs(facts, crops * size**2, groups, lattice),
            batch=batch,
            optim=optim_of(optimiser, lr, weights, scratch=2e-3, decay=0.02),
            warm_up=warm_up,
            ema=ema,
            clip=clip,
            precision=precision,
            layout=layout,
        ),
        windows=Windows(
            cells, max(1, round(cells * stride)), _weighting(weighting, cells), alternate
        ),
        dense=_dense(mode, lattice, block, halo or min(HALO, size // 4), phases),
        z_shift=z_shift,
        shuffle=shuffle,
        foreground=foreground,
        crops=crops,
        guard=guard,
        spare_bits=facts.spare_bits,
        judged_pixels=facts.pixels // folds,
    )
    floor = FilterTrees(
        lattice=lattice,
        slices=groups * channels,
        name=FLOOR,
        trees=trees,
        position=position,
        guard=guard,
        spare_bits=facts.spare_bits,
        bits=facts.bits,
        pixels=facts.pixels,
    )
    return _recipe(
        (floor, network),
        members=members,
        lattice=lattice,
        beta=beta,
        decide=decide,
        split=VolumeFolds(folds, lattice, region_profile, seed),
        seed=seed,
        said=(
            *_colour(facts),
            *_coarse(facts, lattice),
            *(() if depth else _shallow(facts, group, groups * channels)),
        ),
    )


def _groups(depth: int | None, group: int, shallowest: int) -> tuple[int, int]:
    """How many groups of slices, and how many slices in each; fewer slices than a group are one.

    Raises:
        UsageError: A depth was given that is not of whole groups.
    """
    channels = min(group, depth or shallowest)
    if depth is None:
        return max(1, min(shallowest, USUAL_SLICES) // channels), channels
    groups = depth // channels
    if depth % channels:
        more = (groups + 1) * channels
        either = f" or depth={more}" if more <= MOST_SLICES else ""
        raise UsageError(
            f"depth={depth} is not of whole groups of {group} slices; cure: "
            f"depth={groups * channels}{either}, or another group="
        )
    return groups, channels


def _shallow(facts: Facts, group: int, looked: int) -> list[str]:
    """That one shallow volume takes slices of all others from what members look at."""
    deepest = facts.target.get("deepest", facts.depth)
    groups, channels = _groups(None, group, deepest)
    if groups * channels <= looked:
        return []
    return [
        f'members look at {looked} of the slices, because volume "{facts.target["shallowest"]}" '
        f"has only {facts.depth}; others have up to {deepest}; cure: depth={groups * channels} "
        "(shallower volumes are padded)"
    ]


def _padded(facts: Facts, looked: int) -> list[str]:
    """That volumes are shallower than what is looked at."""
    if facts.depth >= looked:
        return []
    return [f"volumes of {facts.depth} slices or more, {looked} are looked at: edges are repeated"]


def _coarse(facts: Facts, lattice: int) -> list[str]:
    """That the cells asked for are coarser than what the masks show."""
    needed = facts.target.get("lattice", lattice)
    if lattice <= needed:
        return []
    return [f"the masks are finer than cells of lattice={lattice}; cure: lattice={needed}"]


def _colour(facts: Facts) -> list[str]:
    """What became of pictures in colour."""
    count = facts.target.get("colour", 0)
    said = f"{count} of {facts.cases} volumes are a picture in colour, which is three slices: "
    return [f"{said}red, green and blue"] if count else []


def _usual_size(facts: Facts) -> int:
    """Side of a crop: no larger than the volumes, but for a part of `SIZE_STEP`."""
    longer = max(facts.height, facts.width)
    return min(USUAL_SIZE, -(-longer // SIZE_STEP) * SIZE_STEP)


def _epochs(facts: Facts, pixels: int, groups: int, lattice: int) -> int:
    """Epochs of so many pixels of a slice each."""
    cost = groups + (FINE if lattice < COARSE else 0)
    most = min(WORK / cost, LOOKS * facts.pixels)
    return max(round(most / pixels), 8)


def vesuvius(
    facts: Facts,
    /,
    *,
    size: Annotated[int, Field(ge=32, le=1024)] = 256,
    lattice: Lattice = 32,
    backbone: str = "resnetrs50,convnext_tiny",
    weights: Weights = "imagenet",
    epochs: Count = 30,
    crops: Count = 25_000,
    batch: Count = 16,
    folds: Folds = 5,
    guard: Annotated[int, Field(ge=0)] = 128,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 0.6,
    ema: Ema = 0.99,
    clip: Clip = 2.0,
    dropout: Part = 0.0,
    drop_path: DropPath = 0.2,
    smoothing: Part = 0.2,
    decide: Decide = "share",
    warp: Part = 0.9,
    mixup: Part = 0.5,
    cutmix: Part = 0.5,
    z_shift: Annotated[int, Field(ge=0)] = 2,
    shuffle: Part = 0.2,
    foreground: Part = 0.0,
    weighting: Weighting = "uniform",
    stride: Stride = 0.25,
    mode: Mode = "dense",
    block: Count = 1024,
    halo: Count | None = None,
    phases: Annotated[int, Field(ge=1, le=4)] = 4,
    precision: Precision = "auto",
    layout: Layout = "auto",
) -> Recipe:
    """Ink in papyrus: each backbone on 7 groups of 5 slices and on 9 groups of 3.

    Made for the three fragments of the 2023 competition (65 slices of up to 14,830 x 9,506 pixels)
    and one large GPU; the second place, an ensemble of such networks, reached an F0.5 of .68 on
    its hidden fragment. This recipe has not been run on them here.

    Args:
        facts: What `init` measured.
        size: Side of a crop and of a window, in pixels.
        lattice: Pixels a cell is wide.
        backbone: timm networks that give feature maps, with commas between them.
        epochs: Of `crops` crops each.
        crops: Crops of an epoch.
        batch: Crops a step, and windows a step when scoring.
        folds: How many.
        guard: Pixels that learning keeps away from what the fold judges, where volumes are cut.
        lr: Peak learning rate; .0005 if left out, for sgd .05 from scratch and .01 for trained
            weights.
        dropout: Share of features dropped before the logit.
        smoothing: How much closer targets are: with 0.2 they are .1 and .9.
        decide: absolute (one threshold for all volumes) or share (of each plane).
        warp: Share of crops that are turned by any angle, zoomed, shifted and bent; the others are
            only mirrored and turned by quarters.
        mixup: Share of the batches that are left whose crops are blended.
        cutmix: Share of batches whose crops show a rectangle of each other.
        z_shift: Most slices by which a crop is moved in depth.
        shuffle: Share of crops whose slices are shuffled inside their groups.
        foreground: Share of crops that are drawn around foreground; the others evenly.
        weighting: Of the cells of a window: uniform, hann or inner (the edge is discarded); this
            and the next act where small windows are used.
        stride: From window to window, as a share of their side, .05 to 1.
        mode: dense (large crops, where the network passes the shift test) or windows.
        block: Longest side of a large crop with its halo, in pixels.
        halo: Width of what is discarded of it, in pixels; a quarter of `size` if left out.
        phases: How often large crops see the plane, each time shifted and flipped.
    """
    cells = size // lattice
    training = Training(
        size=(size, size),
        backbone=Backbone(weights=weights, drop_path=drop_path),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        augment=Augment(
            flip_vertical=0.5,
            quarter_turns=True,
            warp=warp,
            rotate_degrees=180.0,
            scale=(0.8, 1.25),
            shift=0.06,
            elastic=0.02,
        ),
        mix=_mix(cutmix, mixup),
        epochs=epochs,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=5e-4, decay=1e-4),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        precision=precision,
        layout=layout,
    )
    networks = [
        Segmenter(
            name=f"{name}-{channels}x{groups}",
            network=Volumetric(
                groups=groups,
                channels=channels,
                lattice=lattice,
                blocks=blocks,
                dropout=dropout,
                side=size,
            ),
            loss=CrossEntropyAndFBeta(smoothing=smoothing),
            training=replace(training, backbone=replace(training.backbone, name=name)),
            windows=Windows(cells, max(1, round(cells * stride)), _weighting(weighting, cells)),
            dense=_dense(mode, lattice, block, halo or size // 4, phases),
            z_shift=z_shift,
            shuffle=shuffle,
            foreground=foreground,
            crops=crops,
            guard=guard,
            spare_bits=facts.spare_bits,
            judged_pixels=facts.pixels // folds,
        )
        for name in map(str.strip, backbone.split(","))
        for channels, groups, blocks in ((5, 7, 3), (3, 9, 6))
    ]
    floor = FilterTrees(
        lattice=lattice,
        slices=35,
        guard=guard,
        spare_bits=facts.spare_bits,
        bits=facts.bits,
        pixels=facts.pixels,
    )
    return _recipe(
        (floor, *networks),
        members=members,
        lattice=lattice,
        beta=0.5,
        decide=decide,
        split=VolumeFolds(folds, lattice, region_profile, seed),
        seed=seed,
        said=(
            *_colour(facts),
            *_padded(facts, max(network.network.slices for network in networks)),
        ),
    )


def _recipe(
    available: Sequence[Member],
    *,
    members: str,
    lattice: int,
    beta: float,
    decide: Decide,
    split: VolumeFolds,
    seed: int,
    said: tuple[str, ...],
) -> Recipe:
    return Recipe(
        target=Mask(lattice, said),
        metric=CellFBeta(beta),
        folds=split,
        members=wanted(available, members),
        floor=FLOOR,
        blends=(PowerMean(),),
        decode=DECIDE[decide](beta),
        probabilities=AsTheyAre(),
        answer=MaskFolder(lattice, beta),
        panels=MASK_PANELS,
        seed=seed,
    )


def _mix(cutmix: float, mixup: float) -> FirstOf | None:
    parts = (CellCutmix(cutmix), Mixup(probability=mixup))
    wanted_parts = tuple(part for part in parts if part.probability > 0)
    return FirstOf(wanted_parts) if wanted_parts else None


def _dense(mode: Mode, lattice: int, block: int, halo: int, phases: int) -> Dense | None:
    if mode == "windows":
        return None
    return Dense(side=block // lattice, halo=-(-halo // lattice), phases=phases)


def _weighting(name: Weighting, cells: int) -> Callable[[int], np.ndarray]:
    return {"uniform": uniform, "hann": hann, "inner": Inner(cells // 8)}[name]


def suspicions(manifest: Manifest) -> list[str]:
    """Do equal volumes have different masks or regions? Do masks mark most of their volumes?"""
    words = "volumes are equal to another slice by slice, with another mask or region "
    labels = numbered(manifest.measured["labels"])
    marked = manifest.measured.get("marked", np.zeros(len(manifest)))  # studies of old have none
    most = [manifest.ids[row] for row in np.flatnonzero(marked.astype(np.float64) > MOST)]
    said = f"{len(most)} masks mark more than half of their volumes: {', '.join(most[:NAMED])}"
    return [
        *conflicts(manifest, labels, words + "(kept, in one fold)"),
        *([f"{said}; are background and foreground exchanged?"] if most else []),
        *missing_slices(manifest),
    ]


def missing_slices(manifest: Manifest) -> list[str]:
    """Are numbers left out where slices are counted?"""
    gaps = manifest.measured.get("gap", np.zeros(len(manifest), dtype=np.str_)).tolist()
    found = [f"{name}: {gap}" for name, gap in zip(manifest.ids, gaps, strict=True) if gap]
    if not found:
        return []
    return [f"slices seem to be missing in {len(found)} volumes ({'; '.join(found[:NAMED])})"]


MOST = 0.5
"""Share of a volume above which a mask may be the opposite of what is meant."""

NAMED = 5
"""Such volumes that are named."""


FAMILY = Family(
    survey=scan,
    facts=measure,
    audit=suspicions,
    simulate=simulate_scroll,
    demo=(
        "small",
        {"lattice": 8, "size": 128, "batch": 8, "epochs": 10, "crops": 120, "folds": 3},
    ),
    files=("slices",),
    optional_files=("region",),
    target_is_file=True,
)
