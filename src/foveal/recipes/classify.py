"""Pictures to one class each: labels of which every picture has exactly one.

A family of its own in one file: target, folds, members, answer and report are those of labels; the
loss is a softmax over them, and one class answers.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from foveal.combine.blend import PowerMean
from foveal.decide.classes import ClassProbabilities, EvenClasses, Likeliest
from foveal.labels import every_label, suspicions
from foveal.labels import facts as facts_of_labels
from foveal.losses import classify
from foveal.manifest import Facts
from foveal.members.training import Training
from foveal.metrics.overlap import MacroF1
from foveal.models.backbone import Backbone
from foveal.models.heads import Classes
from foveal.options import (
    FEATURES_SIZE,
    FLOOR,
    CacheGb,
    Count,
    Degrees,
    FeaturesSize,
    FoldCount,
    MemberNames,
    Positive,
    Seed,
    Share,
    Size,
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
from foveal.split.folds import Folds, by_name
from foveal.survey import survey
from foveal.targets.labels import Labels
from foveal.task import Approach, Family, Recipe
from foveal.train.sampling import Balanced
from foveal.transforms.augment import Augment, Prepare
from foveal.transforms.views import centre, flips

DECIDE = {"even": EvenClasses, "likeliest": Likeliest}

SOFTMAX = Approach(
    name="network",
    outputs=Classes(),
    loss=classify.class_entropy,
    score=classify.class_probability,
)


def small(
    facts: Facts,
    /,
    *,
    channels: str = "",
    size: Size = 112,
    backbone: str | None = None,
    weights: Weights = "none",
    epochs: Count | None = None,
    batch: Count = 32,
    folds: FoldCount = 5,
    near_duplicates: bool = False,
    seed: Seed = 0,
    members: MemberNames = "",
    lr: Positive | None = None,
    rotate: Degrees = 15.0,
    flip: Share = 0.5,
    mixup: Share = 0.0,
    cutmix: Share = 0.0,
    dropout: Share = 0.2,
    balance: Share = 0.3,
    trees: Count = 300,
    words: Count = 256,
    features_size: FeaturesSize = FEATURES_SIZE,
    decide: Literal["even", "likeliest"] = "even",
    cache_gb: CacheGb = 8.0,
) -> Recipe:
    """Any pictures of named classes on a CPU: a small network from scratch, and two without.

    Args:
        facts: What `init` measured.
        channels: Names with commas between them; what {channel} in --images stands for.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network; by the number of pictures if left out.
        epochs: Passes over the training pictures; by their number if left out.
        batch: Pictures a step.
        near_duplicates: Whether pictures that look nearly the same share a fold.
        lr: Peak learning rate; .003 from scratch, .0005 for trained weights if left out.
        rotate: Largest turn either way, in degrees.
        flip: Probability of a mirror image, each way; with 0 the member `patches` tells mirror
            images apart too.
        mixup: Share of batches whose pictures are blended.
        cutmix: Share of the other batches whose pictures show a part of each other.
        dropout: Share of features dropped before the last layer.
        balance: 0 shows classes as often as they occur, 1 equally often.
        trees: Of the forests of members without a network.
        words: Of the dictionary of patches.
        decide: even (rare classes as often as macro F1 wants them) or likeliest (right most often).
    """
    names = tuple(facts.target["labels"])
    height, width = shape_of(size, facts.width / facts.height)
    (network,) = networks(
        (SOFTMAX,),
        pictures_of(facts, Prepare(height=height, width=width, crop_border=False)),
        Training(
            size=(height, width),
            mean=facts.mean,
            std=facts.std,
            bits=facts.bits,
            backbone=Backbone(backbone or small_backbone(facts.cases), weights),
            epochs=epochs or small_epochs(facts.cases),
            batch=batch,
            optim=optim_of("adamw", lr, weights, scratch=3e-3, decay=0.05),
            views=flips if flip else centre,
            mix=mix_of(mixup, cutmix),
            sampler=Balanced(balance),
            layout="channels_last",
            augment=Augment(
                flip_horizontal=flip,
                flip_vertical=flip,
                rotate_degrees=rotate,
                scale=(0.9, 1.2),
                shift=0.04,
                brightness=0.3,
                contrast=0.15,
            ),
        ),
        pooling="own",
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
    return Recipe(
        target=Labels(names, one_each=True),
        metric=MacroF1(),
        folds=Folds(folds, seed, by_name, near_duplicates),
        members=wanted((*classical, network), members),
        floor=FLOOR,
        blends=(PowerMean(),),
        decode=DECIDE[decide](),
        probabilities=ClassProbabilities(),
        answer=LabelTable(names, at_least_one=True, words="words" in facts.target),
        panels=LABEL_PANELS,
        seed=seed,
        cache_gb=cache_gb,
    )


FAMILY = Family(
    survey=survey,
    facts=partial(facts_of_labels, one_each=True),
    audit=suspicions,
    simulate=partial(simulate_cells, most=1),
    demo=("small", {"channels": "red,green,blue,yellow", "size": 96, "trees": 100}),
)
