"""What the options of all recipes have in common: their kinds, their words, and what those mean.

An option that means the same in every recipe is described here, by its type; the docstring of a
recipe describes the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from foveal.errors import UsageError
from foveal.manifest import Facts
from foveal.members.classical import Classical
from foveal.members.dictionary import Dictionary
from foveal.members.network import Network
from foveal.members.pictures import Prepared, Stored
from foveal.members.ridge import Learns
from foveal.members.training import Training
from foveal.models.features import PictureFeatures
from foveal.models.heads import Attention, AverageMax, GeM, Head
from foveal.models.patches import PatchDictionary
from foveal.read.image import Photograph
from foveal.task import Approach, Member
from foveal.train.optim import AdamW, Sgd
from foveal.transforms.augment import Prepare
from foveal.transforms.mix import Cutmix, FirstOf, Mixup
from foveal.transforms.views import centre, eight, flips, ten_crop

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0)]
Degrees = Annotated[float, Field(ge=0, le=180)]
FoldCount = Annotated[
    Annotated[int, Field(ge=2)] | Literal["site"],
    Field(description="How many, or `site` to leave one site out at a time."),
]
MemberNames = Annotated[str, Field(description="Names with commas between them; all if left out.")]
Seed = Annotated[int, Field(ge=0, description="Of everything that is random.")]
CacheGb = Annotated[
    float, Field(ge=0, description="Most disk that decoded pictures may take; changes no result.")
]

Weights = Annotated[str, Field(description="none, imagenet, a file or a folder.")]
DropPath = Annotated[
    float,
    Field(ge=0, le=1, description="Stochastic depth; refused by a backbone without it."),
]
WarmUp = Annotated[
    float,
    Field(ge=0, description="Epochs until the peak learning rate; a quarter of a cycle at most."),
]
Ema = Annotated[
    float,
    Field(ge=0, lt=1, description="Decay of the average of the weights, which is what answers."),
]
Clip = Annotated[float, Field(gt=0, description="Largest norm of the gradient.")]

LEAST_SIDE, MOST_SIDE = 32, 4096
"""Of a picture that a network sees, in pixels."""

Size = (
    Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] | Annotated[str, Field(pattern=r"^\d+x\d+$")]
)

VIEWS = {"centre": centre, "flips": flips, "ten_crop": ten_crop, "eight": eight}
Views = Literal["centre", "flips", "ten_crop", "eight"]

Optimiser = Annotated[Literal["adamw", "sgd"], Field(description="adamw or sgd.")]

POOLINGS = {"own": None, "average_max": AverageMax, "gem": GeM, "attention": Attention}
Pooling = Literal["own", "average_max", "gem", "attention"]

Precision = Annotated[
    Literal["auto", "32-true", "bf16-mixed"],
    Field(description="auto, 32-true or bf16-mixed."),
]
Layout = Annotated[
    Literal["auto", "contiguous", "channels_last"],
    Field(description="Of pictures in memory: auto, contiguous or channels_last."),
]

FLOOR = "floor"
"""The member that a network must pass."""

FeaturesSize = Annotated[
    int,
    Field(
        ge=64,
        le=2048,
        description="Side of the square, in pixels, that features are measured on; what is smaller "
        "than a pixel of it is not seen by the members without a network.",
    ),
]
FEATURES_SIZE = 256
"""The usual one."""

PATCHES_SIDE = 96
"""Side of the picture that is described by patches, in pixels; a square, whatever its shape was."""

SHALLOW = 600
"""Training pictures up to which depthwise networks learn more than plain ones: few steps."""

TUNING_RATE = 5e-4
"""Peak learning rate for trained weights, where nobody gives another."""

SGD_RATES, SGD_DECAY = (0.05, 0.01), 1e-4
"""The same of stochastic gradient descent, from scratch and for trained weights; its decay, which
goes through the gradient, is another thing than that of AdamW."""

EPOCHS = ((300, 24), (600, 20), (1200, 30), (2500, 20), (5000, 14), (math.inf, 9))
"""Most pictures, and the epochs of a small network: from the time that a run may take."""


def shape_of(size: int | str, aspect: float) -> tuple[int, int]:
    """Height and width: as given, a square of that side, or of as many pixels as it, to 16 pixels.

    Raises:
        UsageError: A side that was given is too short or too long.
    """
    if isinstance(size, str):
        height, width = map(int, size.split("x"))
        if not LEAST_SIDE <= min(height, width) <= max(height, width) <= MOST_SIDE:
            raise UsageError(
                f"a size of {size}: both sides must have {LEAST_SIDE} to {MOST_SIDE} pixels; "
                "cure: such as 256x512"
            )
        return height, width
    if aspect == 1:
        return size, size
    root = math.sqrt(min(max(aspect, 0.25), 4.0))
    height, width = (max(LEAST_SIDE, round(side / 16) * 16) for side in (size / root, size * root))
    return height, width


def pictures_of(facts: Facts, prepare: Prepare) -> Stored:
    """Prepared pictures of a study."""
    return Stored("pictures", reader_of(facts, prepare), (prepare,))


def reader_of(facts: Facts, prepare: Prepare) -> Photograph:
    """For pictures of that size, with room for a dark border of a third."""
    low, high = sorted((prepare.height, prepare.width))
    at_least = (low * 3 // 2, high * 3 // 2)
    return Photograph(
        channels=facts.channels,
        bits=facts.bits,
        at_least=at_least,
        spare_bits=facts.spare_bits,
    )


def wanted(members: Sequence[Member], names: str) -> tuple[Member, ...]:
    """The members with these names, with commas between them; all for none.

    Raises:
        UsageError: There is no such member.
    """
    known = {m.name: m for m in members}
    asked = [n.strip() for n in names.split(",") if n.strip()]
    for name in asked:
        if name not in known:
            raise UsageError(f'members={names}: no member "{name}"; there are: {", ".join(known)}')
    return tuple(m for m in members if not asked or m.name in asked)


def small_backbone(cases: int) -> str:
    """The backbone of a small network from scratch, by the number of pictures."""
    return "mobilenetv3_small_050" if cases <= SHALLOW else "test_byobnet"


def small_epochs(cases: int) -> int:
    """Its epochs, likewise."""
    return next(epochs for most, epochs in EPOCHS if cases <= most)


def optim_of(
    optimiser: Optimiser,
    lr: float | None,
    weights: str,
    *,
    scratch: float,
    decay: float,
    tuning: float = TUNING_RATE,
    sgd: tuple[float, float] = SGD_RATES,
) -> AdamW | Sgd:
    """An optimiser at a peak learning rate as given, or as suits it and where the weights are from.

    Args:
        optimiser: Its name.
        lr: The rate; None for the one that suits.
        weights: "none" from scratch; trained ones would not survive as high a rate.
        scratch: Rate of AdamW from scratch.
        decay: Weight decay of AdamW.
        tuning: Rate of AdamW for trained weights.
        sgd: Rates of stochastic gradient descent, from scratch and for trained weights.
    """
    is_trained = weights != "none"
    if optimiser == "sgd":
        return Sgd(lr or sgd[is_trained], weight_decay=SGD_DECAY)
    return AdamW(lr or (tuning if is_trained else scratch), weight_decay=decay)


def mix_of(mixup: float, cutmix: float) -> FirstOf | None:
    """Blends of the cases of a batch, each with a probability; None for neither."""
    parts = (Mixup(probability=mixup), Cutmix(probability=cutmix))
    used = tuple(part for part in parts if part.probability > 0)
    return FirstOf(used) if used else None


def networks(
    approaches: Sequence[Approach],
    pictures: Prepared,
    training: Training,
    *,
    pooling: Pooling,
    dropout: float,
    suffix: str = "",
    bag: int | None = None,
    columns: tuple[str, ...] = ("expected",),
) -> list[Network]:
    """A network of each approach that looks at the same pictures, or bags of so many tiles."""
    return [
        Network(
            name=approach.name + suffix,
            pictures=pictures,
            head=Head(approach.outputs, POOLINGS[pooling], dropout),
            loss=approach.loss,
            to_scores=approach.score,
            training=training,
            columns=columns,
            bag=bag,
        )
        for approach in approaches
    ]


def classical_of(
    facts: Facts,
    learns: Learns,
    *,
    trees: int = 300,
    words: int = 256,
    features_size: int = FEATURES_SIZE,
    mirrored: bool = True,
    crop_border: bool = True,
) -> tuple[Dictionary, Classical]:
    """The members that need no network: the floor, and before it one that does more than that.

    Both ask the same questions, so where they are tied it is the better informed one that counts.
    """
    square, patch = (
        Prepare(height=side, width=side, crop_border=crop_border)
        for side in (features_size, PATCHES_SIDE)
    )
    features = Stored("features", reader_of(facts, square), (square, PictureFeatures()))
    return (
        Dictionary(
            pictures=pictures_of(facts, patch),
            features=features,
            patches=PatchDictionary(words=words, mirrored=mirrored),
            trees=trees,
            learns=learns,
        ),
        Classical(name=FLOOR, features=features, trees=trees, learns=learns),
    )
