"""Photographs to names: who is it, or someone new?

A network learns to put pictures of an individual close together; a query is compared with a gallery
of all of them. Folds imitate the task with queries of known and of hidden individuals, on which the
place of "someone new" in an answer is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from foveal.audit.leaks import conflicts
from foveal.combine.blend import PowerMean
from foveal.combine.evidence import ConditionalLogit
from foveal.decide.retrieve import NewCut, NewProbability
from foveal.errors import UsageError
from foveal.losses.margin import ArcFace, CosFace
from foveal.manifest import Facts, Manifest
from foveal.members.eigenpictures import Eigenpictures
from foveal.members.embedder import Embedder
from foveal.members.local import LocalFeatures
from foveal.members.pictures import Stored
from foveal.members.training import Training
from foveal.metrics.ranking import MapAtK
from foveal.models.backbone import Backbone
from foveal.models.heads import Embedding
from foveal.models.keypoints import Keypoints
from foveal.options import (
    FLOOR,
    POOLINGS,
    VIEWS,
    CacheGb,
    Clip,
    Count,
    Degrees,
    DropPath,
    Ema,
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
    WarmUp,
    Weights,
    optim_of,
    pictures_of,
    reader_of,
    shape_of,
    wanted,
)
from foveal.ship.answer import IdentityTable
from foveal.ship.panels.identity import IDENTITY_PANELS
from foveal.simulate.flukes import simulate_flukes
from foveal.split.identities import QueryFolds
from foveal.split.record import numbered
from foveal.survey import Surveyed, measure, survey
from foveal.targets.identity import Identity
from foveal.task import Family, Member, Recipe
from foveal.train.sampling import PerIndividual
from foveal.transforms.augment import Augment, Prepare

POWERS = (PowerMean(), PowerMean("root mean", 0.5), PowerMean("power mean", 4.0))
"""Ways to join members, the plain mean first."""

WORK = 3.8e8
"""Pixels that all epochs of a training of `small` may look at."""

KEYPOINTS, FEWEST, MOST = 120_000, 32, 200
"""Of all pictures together, and of one: a query is compared with all of them."""

UPRIGHT = (True, False)
"""Ways to describe keypoints: as the picture stands, and along their own directions."""

Folds = Annotated[int, Field(ge=2)]
Name = Annotated[str, Field(min_length=1)]
BetweenShare = Annotated[float, Field(gt=0, lt=1)]


def small(
    facts: Facts,
    /,
    *,
    new: Name | None = None,
    new_share: BetweenShare | None = None,
    queries_per_identity: Count = 1,
    k: Count = 5,
    size: Size | None = None,
    backbone: str = "test_resnet",
    weights: Weights = "none",
    epochs: Count | None = None,
    batch: Count = 32,
    folds: Folds = 5,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 1.0,
    ema: Ema = 0.99,
    clip: Clip = 1.0,
    margin: Positive = 0.3,
    scale: Positive = 10.0,
    centres: Count = 1,
    embedding: Count = 256,
    pooling: Pooling = "gem",
    dropout: Share = 0.0,
    drop_path: DropPath = 0.0,
    mirrored: bool = False,
    least: Count = 1,
    together: Count = 1,
    nearest: Share = 0.5,
    rotate: Degrees = 15.0,
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0,
    cutout: Share = 0.0,
    components: Count = 96,
    floor_size: Size = 32,
    keypoints: Count | None = None,
    keypoint_size: Size | None = None,
    keypoint_places: NotNegative = 0.5,
    precision: Precision = "auto",
    layout: Layout = "channels_last",
    cache_gb: CacheGb = 8.0,
) -> Recipe:
    """Any pictures of individuals on a CPU: two margins with a small network from scratch.

    `epochs` follows from the number of pictures and their size where not given, so that `run` is to
    take at most 30 minutes on 2 busy cores.

    Args:
        facts: What `init` measured.
        new: The name that means "somebody unknown"; left out, everybody is known.
        new_share: The share of queries that you expect to be new; the answers depend on it.
        queries_per_identity: Most queries of an individual in a fold.
        k: Names in an answer.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network.
        epochs: Passes over the training pictures; by their number and size if left out.
        batch: Pictures a step.
        folds: How many.
        lr: Peak learning rate; .01 from scratch, .0005 for trained weights if left out (for
            sgd .05 and .01).
        margin: Between individuals, in radians (arcface); two thirds of it for cosines (cosface).
        scale: Of cosines in the loss.
        centres: Of each individual in the loss.
        embedding: Numbers that describe a picture.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the embedding.
        mirrored: Whether a mirror image is somebody else, and learned as such.
        least: Individuals with fewer pictures are shown as if they had so many.
        together: Pictures of an individual that follow each other in a batch.
        nearest: 0 compares with the mean of an individual's pictures, 1 with the best of them.
        rotate: Largest turn either way, in degrees.
        elastic: Largest bend, as a share of the side.
        cutout: Probability of a hidden square.
        components: Of the floor member.
        floor_size: Side of a square with as many pixels, of what the floor member compares.
        keypoints: Of a picture, the strongest; by the number of pictures if left out.
        keypoint_size: The same of pictures that keypoints are found in; if left out twice
            their own size, 256 at most.
        keypoint_places: How much it counts where keypoints lie; 0 where pictures are much shifted.
    """
    if new is None and new_share is not None:
        raise UsageError("new_share= acts with new= alone; cure: new=VALUE too, or neither")
    shape = shape_of(size or _own_side(facts), facts.width / facts.height)
    training = Training(
        size=shape,
        backbone=Backbone(backbone, weights, drop_path),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        augment=Augment(
            flip_horizontal=0.0,
            rotate_degrees=rotate,
            scale=(0.85, 1.15),
            shear_degrees=10.0,
            shift=0.05,
            elastic=elastic,
            brightness=0.4,
            contrast=0.2,
            cutout=cutout,
        ),
        sampler=PerIndividual(least, together),
        views=VIEWS["centre"],
        epochs=epochs or _epochs((1 + mirrored) * facts.cases * shape[0] * shape[1]),
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=1e-2, decay=0.05),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        precision=precision,
        layout=layout,
    )
    networks = _networks(
        facts,
        training,
        Embedding(embedding, POOLINGS[pooling], dropout),
        margin=margin,
        scale=scale,
        centres=centres,
        mirrored=mirrored,
        nearest=nearest,
    )
    return _recipe(
        facts,
        (
            _floor(facts, components, floor_size, nearest),
            _local(facts, keypoints, keypoint_size, keypoint_places),
            *networks,
        ),
        members=members,
        target=Identity(new, new_share),
        split=QueryFolds(new, folds, new_share, queries_per_identity, seed),
        k=k,
        seed=seed,
        cache_gb=cache_gb,
    )


def humpback(
    facts: Facts,
    /,
    *,
    new: Name | None = "new_whale",
    new_share: BetweenShare | None = 0.28,
    queries_per_identity: Count = 1,
    k: Count = 5,
    size: Size = "256x512",
    backbone: str = "resnet50",
    weights: Weights = "imagenet",
    epochs: Count = 40,
    batch: Count = 64,
    folds: Folds = 5,
    seed: Seed = 0,
    members: MemberNames = "",
    optimiser: Optimiser = "adamw",
    lr: Positive | None = None,
    warm_up: WarmUp = 3.0,
    ema: Ema = 0.999,
    clip: Clip = 1.0,
    margin: Positive = 0.5,
    scale: Positive = 45.0,
    centres: Count = 2,
    embedding: Count = 512,
    pooling: Pooling = "gem",
    dropout: Share = 0.2,
    drop_path: DropPath = 0.0,
    mirrored: bool = True,
    least: Count = 4,
    together: Count = 4,
    nearest: Share = 0.5,
    rotate: Degrees = 20.0,
    components: Count = 128,
    floor_size: Size = 32,
    keypoints: Count | None = None,
    keypoint_size: Size | None = None,
    keypoint_places: NotNegative = 0.5,
    precision: Precision = "auto",
    layout: Layout = "auto",
    cache_gb: CacheGb = 16.0,
) -> Recipe:
    """Flukes of humpback whales, 5,004 of them and new ones: ArcFace and CosFace at 256 x 512.

    Made for the 25,361 photographs of the 2018-19 competition and one large GPU, where 28 % of the
    queries were new; the best published systems reached a MAP@5 of .97 on its hidden photographs,
    with boxes around the flukes. This recipe has not been run on them here.

    Args:
        facts: What `init` measured.
        new: The name that means "somebody unknown".
        new_share: The share of queries that you expect to be new; the answers depend on it.
        queries_per_identity: Most queries of an individual in a fold.
        k: Names in an answer.
        size: Side in pixels of a square with as many pixels, or HEIGHTxWIDTH.
        backbone: A timm network.
        epochs: Passes over the training pictures and, where mirrored, their mirror images.
        batch: Pictures a step.
        folds: How many.
        lr: Peak learning rate; .0005 if left out, for sgd .05 from scratch and .01 for trained
            weights.
        margin: Between individuals, in radians (arcface); two thirds of it for cosines (cosface).
        scale: Of cosines in the loss.
        centres: Of each individual in the loss.
        embedding: Numbers that describe a picture.
        pooling: own (the backbone's), average_max, gem or attention.
        dropout: Share of features dropped before the embedding.
        mirrored: Whether a mirror image is somebody else, and learned as such.
        least: Individuals with fewer pictures are shown as if they had so many.
        together: Pictures of an individual that follow each other in a batch.
        nearest: 0 compares with the mean of an individual's pictures, 1 with the best of them.
        rotate: Largest turn either way, in degrees.
        components: Of the floor member.
        floor_size: Side of a square with as many pixels, of what the floor member compares.
        keypoints: Of a picture, the strongest; by the number of pictures if left out.
        keypoint_size: The same of pictures that keypoints are found in; if left out twice
            their own size, 256 at most.
        keypoint_places: How much it counts where keypoints lie; 0 where pictures are much shifted.
    """
    training = Training(
        size=shape_of(size, facts.width / facts.height),
        backbone=Backbone(backbone, weights, drop_path),
        mean=facts.mean,
        std=facts.std,
        bits=facts.bits,
        augment=Augment(
            flip_horizontal=0.0,
            rotate_degrees=rotate,
            scale=(0.8, 1.1),
            shear_degrees=10.0,
            shift=0.05,
            brightness=0.8,
            contrast=0.3,
            cutout=0.2,
        ),
        sampler=PerIndividual(least, together),
        views=VIEWS["centre"],
        epochs=epochs,
        batch=batch,
        optim=optim_of(optimiser, lr, weights, scratch=5e-4, decay=0.05),
        warm_up=warm_up,
        ema=ema,
        clip=clip,
        precision=precision,
        layout=layout,
    )
    networks = _networks(
        facts,
        training,
        Embedding(embedding, POOLINGS[pooling], dropout),
        margin=margin,
        scale=scale,
        centres=centres,
        mirrored=mirrored,
        nearest=nearest,
    )
    return _recipe(
        facts,
        (
            _floor(facts, components, floor_size, nearest),
            _local(facts, keypoints, keypoint_size, keypoint_places),
            *networks,
        ),
        members=members,
        target=Identity(new, new_share),
        split=QueryFolds(new, folds, new_share, queries_per_identity, seed),
        k=k,
        seed=seed,
        cache_gb=cache_gb,
    )


def _networks(
    facts: Facts,
    training: Training,
    head: Embedding,
    *,
    margin: float,
    scale: float,
    centres: int,
    mirrored: bool,
    nearest: float,
) -> list[Embedder]:
    """A network of each margin."""
    height, width = training.size
    prepare = Prepare(height=height, width=width, crop_border=False)
    losses = {
        "arcface": ArcFace(margin, scale, centres),
        "cosface": CosFace(margin * 2 / 3, scale, centres),
    }
    return [
        Embedder(
            name=name,
            pictures=pictures_of(facts, prepare),
            head=head,
            loss=loss,
            training=training,
            mirrored=mirrored,
            nearest=nearest,
        )
        for name, loss in losses.items()
    ]


def _own_side(facts: Facts) -> int:
    """The pictures' own size where they are small, to 16 pixels."""
    return 16 * max(2, min(7, round(math.sqrt(facts.height * facts.width) / 16)))


def _epochs(pixels: int) -> int:
    """Epochs of `small` by the pixels of all pictures, from the time that a run may take."""
    return min(max(round(WORK / pixels), 8), 80)


def _floor(facts: Facts, components: int, size: int | str, nearest: float) -> Eigenpictures:
    height, width = shape_of(size, facts.width / facts.height)
    return Eigenpictures(
        name=FLOOR,
        pictures=pictures_of(facts, Prepare(height=height, width=width, crop_border=False)),
        components=components,
        nearest=nearest,
    )


def _local(
    facts: Facts, keypoints: int | None, size: int | str | None, places: float
) -> LocalFeatures:
    own = min(256, 2 * round(math.sqrt(facts.height * facts.width)))
    height, width = shape_of(size or max(own, 64), facts.width / facts.height)
    count = keypoints or min(max(KEYPOINTS // facts.cases, FEWEST), MOST)
    prepare = Prepare(height=height, width=width, crop_border=False)
    read, parts = reader_of(facts, prepare), (Keypoints(count=count, upright=u) for u in UPRIGHT)
    ways = tuple(Stored("keypoints", read, (prepare, part)) for part in parts)
    return LocalFeatures(ways=ways, places=places)


def _recipe(
    facts: Facts,
    available: Sequence[Member],
    *,
    members: str,
    target: Identity,
    split: QueryFolds,
    k: int,
    seed: int,
    cache_gb: float,
) -> Recipe:
    return Recipe(
        target=target,
        metric=MapAtK(k),
        folds=split,
        members=wanted(available, members),
        floor=FLOOR,
        blends=(*POWERS, ConditionalLogit(new=target.new)),
        decode=NewCut(k, target.new),
        probabilities=NewProbability(target.new),
        answer=IdentityTable(k, target.new, target.new_share),
        panels=IDENTITY_PANELS,
        seed=seed,
        cache_gb=cache_gb,
    )


# --- what `init` measures -----------------------------------------------------------------------


def facts(manifest: Manifest, found: Sequence[Surveyed]) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every case, and the facts of them all."""
    return measure(manifest, found, target=Identity.measure(manifest))


def suspicions(manifest: Manifest) -> list[str]:
    """Do equal pictures have different names?"""
    words = "pictures are equal byte for byte to another of another name (kept, never query and "
    return conflicts(manifest, numbered(manifest.target[:, 0]), words + "gallery at once)")


FAMILY = Family(
    survey=survey,
    facts=facts,
    audit=suspicions,
    simulate=simulate_flukes,
    demo=("small", {"new": "new_whale", "epochs": 40, "size": 64}),
)
