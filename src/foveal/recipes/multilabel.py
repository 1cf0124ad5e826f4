"""Pictures to any number of labels: every label a question of its own, rare ones steadied.

Cross-entropy, focal loss and a soft macro F1 make different mistakes; all end in the probability of
every label. Cuts are exact, and pulled towards steadier ones where few pictures have the label.
Channels are as many as the pictures have, one file each or all in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from foveal.combine.blend import PowerMean
from foveal.decide.labels import CommonCut, LabelProbabilities, OwnCuts, SharedOut, ShrunkCuts
from foveal.errors import UsageError
from foveal.labels import every_label, suspicions
from foveal.labels import facts as facts_of_labels
from foveal.losses import classify
from foveal.manifest import Facts
from foveal.members.training import Training
from foveal.metrics.overlap import MacroF1
from foveal.models.backbone import Backbone, Inflation
from foveal.models.heads import Labels
from foveal.options import (
    FEATURES_SIZE,
    FLOOR,
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
    wanted,
)
from foveal.ship.labels import LabelTable
from foveal.ship.panels.labels import LABEL_PANELS
from foveal.simulate.cells import simulate_cells
from foveal.split.folds import Folds, by_label
from foveal.survey import survey
from foveal.targets.labels import Labels as LabelTarget
from foveal.task import Approach, Family, Member, Recipe
from foveal.train.sampling import Mixture, Uniform
from foveal.transforms.augment import Augment, Prepare

ENTROPY = Approach(
    name="entropy", outputs=Labels(), loss=classify.label_bce, score=classify.probability
)
FOCAL = Approach(name="focal", outputs=Labels(), loss=classify.Focal(), score=classify.probability)
SOFT_F1 = Approach(
    name="soft_f1", outputs=Labels(), loss=classify.SoftMacroF1(), score=classify.probability
)
APPROACHES = (ENTROPY, FOCAL, SOFT_F1)

CUTS = {"shrunk": ShrunkCuts, "own": OwnCuts, "common": CommonCut, "share": SharedOut}
CutName = Literal["shrunk", "own", "common", "share"]

Shares = Annotated[str, Field(pattern=r"^(\d*\.?\d+(,\d*\.?\d+){2})?$")]


def small(
    facts: Facts,
    /,
    *,
    channels: str = "",
    size: Size = 112,
    backbone: str | None = None,
    weights: Weights = "none",
    inflate: Inflation = "average",
    epochs: Count | None = None,
    cycles: Count = 1,
    snapshots: Count = 1,
    batch: Count = 32,
    folds: FoldCount = 5,
    near_duplicates: bool = False,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    views: Views | None = None,
    rotate: Degrees = 15.0,
    quarter_turns: bool = True,
    flip: Share = 0.5,
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0,
    cutout: Share = 0.0,
    mixup: Share = 0.0,
    cutmix: Share = 0.0,
    pooling: Pooling = "own",
    drop_path: DropPath = 0.0,
    dropout: Share = 0.2,
    mixture: Shares = "",
    trees: Count = 300,
    words: Count = 256,
    features_size: FeaturesSize = FEATURES_SIZE,
    precision: Precision = "auto",
    layout: Layout = "channels_last",
    cuts: CutName = "shrunk",
    at_least_one: bool = False,
    cache_gb: CacheGb = 8.0,
) -> Recipe:
    """Any pictures with labels on a CPU: three losses with a small network from scratch.

    `epochs` and `backbone` follow from the number of pictures where not given, so that `run` is to
    take at most 30 minutes on 2 busy cores for 500 pictures and 75 for 3,000.

    Args:
        facts: What `init` measured.
        channels: Names with commas between them; what {channel} in --images stands for.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network; by the number of pictures if left out.
        inflate: What weights for three channels are for further ones: average, copy or zeros.
        epochs: Passes over the training pictures; by their number if left out.
        cycles: How often the learning rate falls to 0 in them, at most once an epoch.
        snapshots: Cycles whose ends score together, the last ones; not more than there are.
        batch: Pictures a step.
        near_duplicates: Whether pictures that look nearly the same share a fold.
        lr: Peak learning rate; .003 from scratch, .0005 for trained weights if left out (for
            sgd .05 and .01).
        views: Ways to look at a picture when scoring: centre, flips, ten_crop or eight; if left out
            flips, or centre where flip is 0.
        rotate: Largest turn either way, in degrees.
        quarter_turns: Whether pictures are turned by 0 to 3 quarters too.
        flip: Probability of a mirror image, each way; with 0 the member `patches` tells mirror
            images apart too.
        elastic: Largest bend, as a share of the side.
        cutout: Probability of a hidden square.
        mixup: Share of batches whose pictures are blended.
        cutmix: Share of the other batches whose pictures show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the last layer.
        mixture: Shares of pictures with rare, middling and common labels in every batch, such as
            .5,.3,.2; as they occur if left out.
        trees: Of the forests of members without a network.
        words: Of the dictionary of patches.
        cuts: shrunk, own (of every label), common (to all) or share (as often as it occurs).
        at_least_one: Whether a picture that reaches no cut gets the nearest label.
    """
    names = tuple(facts.target["labels"])
    height, width = shape_of(size, facts.width / facts.height)
    training = Training(
        size=(height, width),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone or small_backbone(facts.cases), weights, drop_path, inflate),
        epochs=epochs or small_epochs(facts.cases),
        cycles=cycles,
        snapshots=snapshots,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=3e-3, decay=0.05),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        views=VIEWS[views or ("flips" if flip else "centre")],
        mix=mix_of(mixup, cutmix),
        sampler=_mixture(mixture) or Uniform(),
        precision=precision,
        layout=layout,
        augment=Augment(
            flip_horizontal=flip,
            flip_vertical=flip,
            rotate_degrees=rotate,
            quarter_turns=quarter_turns,
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
    available = networks(
        APPROACHES,
        pictures_of(facts, Prepare(height=height, width=width, crop_border=False)),
        training,
        pooling=pooling,
        dropout=dropout,
        columns=names,
    )
    classical = classical_of(
        facts,
        every_label(names),
        trees=trees,
        words=words,
        features_size=features_size,
        mirrored=flip > 0,
        crop_border=False,
    )
    return _recipe(
        facts,
        (*classical, *available),
        members=members,
        drawn=_mixture(mixture),
        folds=Folds(folds, seed, by_label, near_duplicates),
        decode=CUTS[cuts](at_least_one),
        seed=seed,
        cache_gb=cache_gb,
    )


def hpa(
    facts: Facts,
    /,
    *,
    channels: str = "red,green,blue,yellow",
    size: Size = 512,
    backbone: str = "seresnext50_32x4d",
    weights: Weights = "imagenet",
    inflate: Inflation = "average",
    epochs: Count = 80,
    cycles: Count = 4,
    snapshots: Count = 4,
    batch: Count = 32,
    folds: FoldCount = 5,
    near_duplicates: bool = True,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "sgd",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 5.0,
    views: Views = "eight",
    rotate: Degrees = 0.0,
    cutout: Share = 0.3,
    mixup: Share = 0.0,
    cutmix: Share = 0.0,
    pooling: Pooling = "average_max",
    drop_path: DropPath = 0.0,
    dropout: Share = 0.5,
    mixture: Shares = ".5,.3,.2",
    precision: Precision = "auto",
    layout: Layout = "auto",
    cuts: CutName = "shrunk",
    at_least_one: bool = True,
    cache_gb: CacheGb = 64.0,
) -> Recipe:
    """Proteins in cells, 28 places in four channels: SE-ResNeXt-50 with four snapshots a fold.

    Made for the 31,072 pictures of the Human Protein Atlas competition of 2018 and one large GPU;
    there such networks, four snapshots of five folds and longer ones together, reached a macro F1
    of .549 on the hidden pictures. This recipe has not been run on them here.

    Args:
        facts: What `init` measured.
        channels: Names with commas between them; what {channel} in --images stands for.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network.
        inflate: What weights for three channels are for further ones: average, copy or zeros.
        epochs: Passes over the training pictures.
        cycles: How often the learning rate falls to 0 in them, at most once an epoch.
        snapshots: Cycles whose ends score together, the last ones; not more than there are.
        batch: Pictures a step.
        near_duplicates: Whether pictures that look nearly the same share a fold.
        lr: Peak learning rate; .1 for sgd and .0005 for adamw if left out.
        views: Ways to look at a picture when scoring: centre, flips, ten_crop or eight.
        rotate: Largest turn either way beside quarters, in degrees.
        cutout: Probability of a hidden square.
        mixup: Share of batches whose pictures are blended.
        cutmix: Share of the other batches whose pictures show a part of each other.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the last layer.
        mixture: Shares of pictures with rare, middling and common labels in every batch.
        cuts: shrunk, own (of every label), common (to all) or share (as often as it occurs).
        at_least_one: Whether a picture that reaches no cut gets the nearest label.
    """
    names = tuple(facts.target["labels"])
    height, width = shape_of(size, facts.width / facts.height)
    training = Training(
        size=(height, width),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        backbone=Backbone(backbone, weights, drop_path, inflate),
        epochs=epochs,
        cycles=cycles,
        snapshots=snapshots,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=5e-4, decay=0.05, sgd=(0.1, 0.1)),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        views=VIEWS[views],
        mix=mix_of(mixup, cutmix),
        sampler=_mixture(mixture) or Uniform(),
        precision=precision,
        layout=layout,
        augment=Augment(
            flip_vertical=0.5,
            rotate_degrees=rotate,
            quarter_turns=True,
            scale=(0.8, 1.2),
            brightness=0.2,
            contrast=0.2,
            colour=0.1,
            cutout=cutout,
        ),
    )
    available = networks(
        (ENTROPY, FOCAL),
        pictures_of(facts, Prepare(height=height, width=width, crop_border=False)),
        training,
        pooling=pooling,
        dropout=dropout,
        columns=names,
    )
    classical = classical_of(facts, every_label(names), crop_border=False)
    return _recipe(
        facts,
        (*classical, *available),
        members=members,
        drawn=_mixture(mixture),
        folds=Folds(folds, seed, by_label, near_duplicates),
        decode=CUTS[cuts](at_least_one),
        seed=seed,
        cache_gb=cache_gb,
    )


def _mixture(shares: str) -> Mixture | None:
    """The composition of a batch, where one is asked for."""
    if not shares:
        return None
    rare, middling, common = map(float, shares.split(","))
    if not rare + middling + common > 0:
        raise UsageError(f"mixture={shares}: no kind of pictures has a share")
    return Mixture((rare, middling, common))


def _recipe(
    facts: Facts,
    available: Sequence[Member],
    *,
    members: str,
    drawn: Mixture | None,
    folds: Folds,
    decode: ShrunkCuts | OwnCuts | CommonCut | SharedOut,
    seed: int,
    cache_gb: float,
) -> Recipe:
    names = tuple(facts.target["labels"])
    return Recipe(
        target=LabelTarget(names, drawn=drawn),
        metric=MacroF1(),
        folds=folds,
        members=wanted(available, members),
        floor=FLOOR,
        blends=(PowerMean(),),
        decode=decode,
        probabilities=LabelProbabilities(),
        answer=LabelTable(names, decode.at_least_one, words="words" in facts.target),
        panels=LABEL_PANELS,
        seed=seed,
        cache_gb=cache_gb,
    )


FAMILY = Family(
    survey=survey,
    facts=facts_of_labels,
    audit=suspicions,
    simulate=simulate_cells,
    demo=(
        "small",
        {"channels": "red,green,blue,yellow", "size": 96, "trees": 100, "epochs": 10, "folds": 4},
    ),
)
