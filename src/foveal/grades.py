"""What recipes that end in an ordinal grade have in common: approaches, cuts, blends, the answer.

Regression, cumulative classification and classification with expectation make different mistakes;
their average is worth more than another architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative
from foveal.combine.leaderboard import Decoder
from foveal.decide.calibrate import GradeProbabilities
from foveal.decide.thresholds import BaggedExactCuts, ClosedFormCuts, ExactCuts, FixedCuts
from foveal.losses import ordinal
from foveal.manifest import Facts, Manifest, Truth
from foveal.members.network import Network
from foveal.members.pictures import Prepared
from foveal.members.training import Training
from foveal.metrics.kappa import quadratic_kappa
from foveal.models.heads import Classes, Head, Scalar, Steps
from foveal.options import FLOOR, POOLINGS, Pooling, wanted
from foveal.ship.answer import GradeTable
from foveal.split.record import Split
from foveal.targets import Ordinal
from foveal.task import Approach, Member, Recipe

REGRESSION = Approach(
    name="regression", outputs=Scalar(), loss=ordinal.squared_error, score=ordinal.identity
)
CUMULATIVE = Approach(
    name="cumulative", outputs=Steps(), loss=ordinal.cumulative_bce, score=ordinal.passed_steps
)
EXPECTATION = Approach(
    name="expectation", outputs=Classes(), loss=ordinal.ExpectedGrade(), score=ordinal.expectation
)
APPROACHES = (REGRESSION, CUMULATIVE, EXPECTATION)

CUTS = {
    "closed_form": ClosedFormCuts,
    "exact": ExactCuts,
    "bagged_exact": BaggedExactCuts,
    "halves": FixedCuts.halves,
    "fifths": FixedCuts.fifths,
}
CutRule = Literal["closed_form", "exact", "bagged_exact", "halves", "fifths"]

FoldCount = Annotated[int, Field(ge=2)] | Literal["site"]


def networks(
    pictures: Prepared,
    training: Training,
    *,
    pooling: Pooling,
    dropout: float,
    suffix: str = "",
    bag: int | None = None,
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
            bag=bag,
        )
        for approach in APPROACHES
    ]


def grade_count(facts: Facts, grades: int | None) -> int:
    """How many grades there are: as said, or as many as the table suggests."""
    return max(grades or facts.target["grades"], 2)


def graded(
    count: int,
    available: Sequence[Member],
    *,
    members: str,
    folds: Callable[[Manifest], Split],
    decode: Decoder,
    seed: int,
    panels: tuple[Callable, ...],
    cache_gb: float,
) -> Recipe:
    """A recipe of so many grades."""
    return Recipe(
        target=Ordinal(count),
        metric=quadratic_kappa,
        folds=folds,
        members=wanted(available, members),
        floor=FLOOR,
        blends=(CalibratedMean(), LabelAverage(count), NonNegative()),
        decode=decode,
        probabilities=GradeProbabilities(count),
        answer=GradeTable(count),
        panels=panels,
        seed=seed,
        cache_gb=cache_gb,
    )


def plain_grades(manifest: Manifest) -> Truth:
    """The grade of every case, before there are folds and groups."""
    target, n = Ordinal(Ordinal.measure(manifest)["grades"]), len(manifest)
    return Truth(
        target=target.encode(manifest),
        weight=manifest.weight,
        group=np.arange(n),
        fold=np.zeros(n, dtype=np.int64),
    )
