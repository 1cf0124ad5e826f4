"""Photographs to an ordinal grade: three approaches to one order, aligned before they are joined.

Regression, cumulative classification and classification with expectation make different mistakes;
their average is worth more than another architecture. A member without a network is the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from foveal.audit.channels import odd_channels
from foveal.audit.duplicates import lookalikes
from foveal.audit.leaks import conflicts, telltales
from foveal.grades import APPROACHES, CutName, cuts_of, grade_count, graded, plain_grades
from foveal.manifest import Facts, Manifest
from foveal.members.network import Network
from foveal.members.ridge import Learns
from foveal.members.training import Training
from foveal.models.backbone import Backbone
from foveal.options import (
    FEATURES_SIZE,
    VIEWS,
    CacheGb,
    Clip,
    Count,
    Degrees,
    DropPath,
    Ema,
    FeaturesSize,
    FoldCount,
    Layout,
    MemberNames,
    NotNegative,
    Optimiser,
    Pooling,
    Positive,
    Precision,
    Seed,
    Share,
    Size,
    Views,
    WarmUp,
    Weights,
    classical_of,
    mix_of,
    networks,
    optim_of,
    pictures_of,
    shape_of,
    small_backbone,
    small_epochs,
)
from foveal.ship.panels.grade import GRADE_PANELS
from foveal.simulate.retina import simulate_retina
from foveal.split.folds import Folds, by_grade
from foveal.survey import Surveyed, measure, survey
from foveal.targets.ordinal import Ordinal
from foveal.task import Family, Recipe
from foveal.train.sampling import Balanced
from foveal.transforms.augment import Augment, Prepare


def aptos(
    facts: Facts,
    /,
    *,
    size: Size = 380,
    backbone: str = "tf_efficientnet_b4",
    weights: Weights = "imagenet",
    epochs: Count = 15,
    batch: Count = 16,
    folds: FoldCount = 5,
    seed: Seed = 0,
    grades: Count | None = None,
    near_duplicates: bool = False,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    views: Views = "centre",
    crop_border: bool = True,
    local_contrast: NotNegative = 0.0,
    cutout: Share = 0.0,
    mixup: Share = 0.5,
    cutmix: Share = 0.0,
    pooling: Pooling = "own",
    drop_path: DropPath = 0.2,
    dropout: Share = 0.3,
    balance: Share = 0.3,
    precision: Precision = "auto",
    layout: Layout = "auto",
    cuts: CutName = "closed_form",
    cache_gb: CacheGb = 16.0,
) -> Recipe:
    """Retina photographs, grade 0 to 4: three approaches at 224 pixels and at `size`.

    Made for the 3,662 photographs of APTOS 2019 and one large GPU. The published ensemble of these
    six networks reached a quadratic kappa of .927 on that competition's hidden photographs; this
    recipe has not been run on them here.

    Args:
        facts: What `init` measured.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network.
        epochs: Passes over the training pictures.
        batch: Pictures a step.
        grades: How many there are; the largest one in the table + 1 if left out.
        near_duplicates: Whether pictures that look nearly the same share a fold.
        lr: Peak learning rate; .0005 if left out, for sgd .05 from scratch and .01 for trained
            weights.
        views: Ways to look at a picture when scoring: centre, flips, ten_crop or eight.
        crop_border: Whether dark borders are cut off before a picture is resized.
        local_contrast: Weight of the picture minus its blur; 4 is usual, 0 leaves it out.
        cutout: Probability of a hidden square.
        mixup: Share of batches whose pictures are blended.
        cutmix: Share of the other batches whose pictures show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the last layer.
        balance: 0 shows grades as often as they occur, 1 equally often.
        cuts: closed_form, exact, bagged_exact, halves or fifths.
    """
    training = Training(
        size=shape_of(size, aspect=1.0),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone, weights, drop_path),
        epochs=epochs,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=5e-4, decay=0.02),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        views=VIEWS[views],
        mix=mix_of(mixup, cutmix),
        sampler=Balanced(balance),
        precision=precision,
        layout=layout,
        augment=Augment(
            flip_vertical=0.5,
            rotate_degrees=180.0,
            scale=(0.9, 1.15),
            shear_degrees=5.0,
            shift=0.03,
            brightness=0.4,
            contrast=0.2,
            colour=0.05,
            gamma=0.2,
            cutout=cutout,
        ),
    )
    available: list[Network] = []
    for side in dict.fromkeys((224, size)):
        height, width = shape_of(side, aspect=1.0)
        prepare = Prepare(
            height=height, width=width, crop_border=crop_border, local_contrast=local_contrast
        )
        members_of_size = networks(
            APPROACHES,
            pictures_of(facts, prepare),
            replace(training, size=(height, width)),
            pooling=pooling,
            dropout=dropout,
            suffix=f"-{side}",
        )
        available += members_of_size
    count = grade_count(facts, grades)
    return graded(
        count,
        (*classical_of(facts, Learns(), crop_border=crop_border), *available),
        members=members,
        folds=Folds(folds, seed, by_grade, near_duplicates),
        decode=cuts_of(cuts, count, seed),
        seed=seed,
        panels=GRADE_PANELS,
        cache_gb=cache_gb,
    )


def small(
    facts: Facts,
    /,
    *,
    size: Size = 112,
    backbone: str | None = None,
    weights: Weights = "none",
    epochs: Count | None = None,
    batch: Count = 32,
    folds: FoldCount = 5,
    seed: Seed = 0,
    grades: Count | None = None,
    near_duplicates: bool = False,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    views: Views | None = None,
    crop_border: bool = True,
    rotate: Degrees = 15.0,
    flip: Share = 0.5,
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0,
    cutout: Share = 0.0,
    mixup: Share = 0.0,
    cutmix: Share = 0.0,
    pooling: Pooling = "own",
    drop_path: DropPath = 0.0,
    dropout: Share = 0.2,
    balance: Share = 0.3,
    trees: Count = 300,
    words: Count = 256,
    features_size: FeaturesSize = FEATURES_SIZE,
    precision: Precision = "auto",
    layout: Layout = "channels_last",
    cuts: CutName = "closed_form",
    cache_gb: CacheGb = 8.0,
) -> Recipe:
    """Any graded pictures on a CPU: three approaches with a small network from scratch.

    `epochs` and `backbone` follow from the number of pictures where not given, so that `run` is to
    take at most 30 minutes on 2 busy cores for 2,000 pictures and 10 for 500.

    Args:
        facts: What `init` measured.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network; by the number of pictures if left out.
        epochs: Passes over the training pictures; by their number if left out.
        batch: Pictures a step.
        grades: How many there are; the largest one in the table + 1 if left out.
        near_duplicates: Whether pictures that look nearly the same share a fold.
        lr: Peak learning rate; .003 from scratch, .0005 for trained weights if left out (for
            sgd .05 and .01).
        views: Ways to look at a picture when scoring: centre, flips, ten_crop or eight; if left out
            flips, or centre where flip is 0.
        crop_border: Whether dark borders are cut off before a picture is resized.
        rotate: Largest turn either way, in degrees.
        flip: Probability of a mirror image, each way; with 0 the member `patches` tells mirror
            images apart too.
        elastic: Largest bend, as a share of the side.
        cutout: Probability of a hidden square.
        mixup: Share of batches whose pictures are blended.
        cutmix: Share of the other batches whose pictures show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the last layer.
        balance: 0 shows grades as often as they occur, 1 equally often.
        trees: Of the forests of members without a network.
        words: Of the dictionary of patches.
        cuts: closed_form, exact, bagged_exact, halves or fifths.
    """
    aspect = facts.aspect if crop_border else facts.width / facts.height
    height, width = shape_of(size, aspect)
    training = Training(
        size=(height, width),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone or small_backbone(facts.cases), weights, drop_path),
        epochs=epochs or small_epochs(facts.cases),
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=3e-3, decay=0.05),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        views=VIEWS[views or ("flips" if flip else "centre")],
        mix=mix_of(mixup, cutmix),
        sampler=Balanced(balance),
        precision=precision,
        layout=layout,
        augment=Augment(
            flip_horizontal=flip,
            flip_vertical=flip,
            rotate_degrees=rotate,
            scale=(0.9, 1.2),
            shear_degrees=4.0,
            shift=0.04,
            elastic=elastic,
            brightness=0.3,
            contrast=0.15,
            colour=0.05 if facts.channels > 1 else 0.0,
            cutout=cutout,
        ),
    )
    classical = classical_of(
        facts,
        Learns(),
        trees=trees,
        words=words,
        features_size=features_size,
        mirrored=flip > 0,
        crop_border=crop_border,
    )
    pictures = pictures_of(facts, Prepare(height=height, width=width, crop_border=crop_border))
    approaches = networks(APPROACHES, pictures, training, pooling=pooling, dropout=dropout)
    count = grade_count(facts, grades)
    return graded(
        count,
        (*classical, *approaches),
        members=members,
        folds=Folds(folds, seed, by_grade, near_duplicates),
        decode=cuts_of(cuts, count, seed),
        seed=seed,
        panels=GRADE_PANELS,
        cache_gb=cache_gb,
    )


# --- what `init` measures -----------------------------------------------------------------------


def facts(manifest: Manifest, found: Sequence[Surveyed]) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every case, and the facts of them all."""
    return measure(manifest, found, target=Ordinal.measure(manifest))


def suspicions(manifest: Manifest) -> list[str]:
    """Does something else tell the grade? Are pictures equal, alike, odd in a channel?"""
    truth = plain_grades(manifest)
    words = "pictures are equal byte for byte to another with another grade (kept, in one fold)"
    return [
        *telltales(manifest, truth),
        *conflicts(manifest, truth.target, words),
        *lookalikes(manifest),
        *odd_channels(manifest),
    ]


FAMILY = Family(
    survey=survey,
    facts=facts,
    audit=suspicions,
    simulate=simulate_retina,
    demo=("small", {"epochs": 8, "size": 96, "trees": 100}),
)
