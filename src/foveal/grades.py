"""What recipes that end in an ordinal grade have in common: approaches, cuts, blends, the answer.

Regression, cumulative classification and classification with expectation make different mistakes;
their average is worth more than another architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative
from foveal.decide.calibrate import GradeProbabilities
from foveal.decide.decoder import Decoder
from foveal.decide.sites import CutRule
from foveal.decide.thresholds import BaggedExactCuts, ClosedFormCuts, ExactCuts, FixedCuts
from foveal.losses import ordinal
from foveal.manifest import Facts, Manifest, Truth
from foveal.metrics.kappa import quadratic_kappa
from foveal.models.heads import Classes, Scalar, Steps
from foveal.options import FLOOR, wanted
from foveal.ship.answer import GradeTable
from foveal.split.record import Split
from foveal.targets.ordinal import Ordinal
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

CutName = Literal["closed_form", "exact", "bagged_exact", "halves", "fifths"]


def grade_count(facts: Facts, grades: int | None) -> int:
    """How many grades there are: as said, or as many as the table suggests."""
    return max(grades or facts.target["grades"], 2)


def cuts_of(name: CutName, grades: int, seed: int) -> CutRule:
    """The rule of that name."""
    return {
        "closed_form": ClosedFormCuts(grades),
        "exact": ExactCuts(grades),
        "bagged_exact": BaggedExactCuts(grades, seed=seed),
        "halves": FixedCuts.halves(grades),
        "fifths": FixedCuts.fifths(grades),
    }[name]


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
