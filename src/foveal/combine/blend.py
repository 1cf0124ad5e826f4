"""Ways to make one set of scores from several.

Approaches to an order (regression, cumulative, classification) score on scales of their own, so
each is first put on the scale of the truth by a line fitted out of fold. What is left is a choice
of weights: equal, fitted, or one vote a member after its own cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from foveal.decide.calibrate import Affine, Line, expected
from foveal.decide.thresholds import ClosedFormCuts, Cuts
from foveal.errors import ShapeError
from foveal.manifest import Truth
from foveal.predictions import Predictions


@runtime_checkable
class FittedBlend(Protocol):
    """Makes one set of predictions from aligned ones."""

    def __call__(self, parts: Sequence[Predictions]) -> Predictions:
        """Blend parts that hold the same cases in the same order."""
        ...


@runtime_checkable
class Blend(Protocol):
    """A way to blend that may have to be fitted on out-of-fold scores first."""

    @property
    def name(self) -> str:
        """What the leaderboard calls it."""
        ...

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> FittedBlend:
        """Fit on out-of-fold predictions of the same cases."""
        ...


def mean(parts: Sequence[Predictions], power: float = 1.0) -> Predictions:
    """The mean over those parts that have a value, block by block.

    This is how a member answers for new cases: the mean of its fold models. Seconds add up, as one
    part is scored after the other; peak bytes are those of the part that takes the most.

    Args:
        parts: Of the same cases and columns.
        power: The mean of values to this power, for values of 0 or more; below 1 it asks all parts
            to agree, above 1 the surest part has most to say.

    Raises:
        ShapeError: The parts hold other cases, columns or shapes than each other.
    """
    first = aligned(parts)
    if len(parts) == 1:
        return first
    if not first.columns:
        total = np.zeros(len(first.values))
        for part in parts:
            total += _raised(part.values, power)
        return _with_values(parts, _raised(total / len(parts), 1 / power).astype(np.float32))
    out, width = np.empty(len(first.values), dtype=np.float32), len(first.columns)
    for rows in first.walk():
        total = np.zeros((rows.stop - rows.start, width))
        count = np.zeros(total.shape, dtype=np.int32)
        for part in parts:
            block = part.matrix(rows)
            total += np.where(block.present, _raised(block.values, power), 0)
            count += block.present
        total /= np.maximum(count, 1, out=count)
        out[rows.start * width : rows.stop * width] = _raised(total, 1 / power).reshape(-1)
    return blended(parts, out)


def blended(parts: Sequence[Predictions], values: Float[np.ndarray, " value"]) -> Predictions:
    """Blended values of everything that at least one part knows."""
    return replace(_with_values(parts, values), known=_known_to_any(parts))


def _known_to_any(parts: Sequence[Predictions]) -> dict[int, tuple[str, ...]]:
    """The columns that at least one part has for each fold; a fold of which one has all is none."""
    folds = set.intersection(*(set(part.known) for part in parts))
    union = {fold: set().union(*(part.known[fold] for part in parts)) for fold in sorted(folds)}
    return {f: tuple(n for n in parts[0].columns if n in names) for f, names in union.items()}


def _raised(values: np.ndarray, power: float) -> np.ndarray:
    return values if power == 1 else np.asarray(values, dtype=np.float64) ** power


@dataclass(frozen=True, slots=True)
class PowerMean:
    """The mean of scores between 0 and 1, raised to a power before and back after; nothing to fit.

    Attributes:
        name: On the leaderboard.
        power: 1 for the plain mean.
    """

    name: str = "mean"
    power: float = 1.0

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> PowerMean:
        """Itself."""
        return self

    def __call__(self, parts: Sequence[Predictions]) -> Predictions:
        """Blend aligned parts, each value over those parts that have it."""
        return mean(parts, self.power)


@dataclass(frozen=True, slots=True)
class WeightedLines:
    """A weighted sum of lines, one a part."""

    lines: tuple[Line, ...]
    weights: tuple[float, ...]

    def __call__(self, parts: Sequence[Predictions]) -> Predictions:
        """Blend aligned parts."""
        scores = _calibrated(parts, self.lines) @ np.asarray(self.weights)
        return _with_values(parts, scores.astype(np.float32))


@dataclass(frozen=True, slots=True)
class CalibratedMean:
    """The mean of the parts, each first on the scale of the truth."""

    name: str = "mean"
    calibrate: Affine = Affine()

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> WeightedLines:
        """Fit a line a part."""
        lines = tuple(self.calibrate.fit(expected(p), truth) for p in parts)
        return WeightedLines(lines, (1 / len(parts),) * len(parts))


@dataclass(frozen=True, slots=True)
class NonNegative:
    """Non-negative least squares on the calibrated scale, shrunk towards equal weights.

    Attributes:
        shrink: Strength of the pull towards equal weights, in units of the residual variance that
            the mean leaves; 0 trusts the data alone.

    Reference:
        Breiman, Stacked Regressions, 1996.
    """

    name: str = "weighted"
    shrink: float = 20.0
    calibrate: Affine = Affine()

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> WeightedLines:
        """Fit a line and a weight a part."""
        from scipy.optimize import nnls

        lines = tuple(self.calibrate.fit(expected(p), truth) for p in parts)
        scores = _calibrated(parts, lines)
        root = np.sqrt(truth.weight)[:, None]
        equal = np.full(len(parts), 1 / len(parts))
        residual = truth.target - scores @ equal
        pull = np.sqrt(self.shrink * np.average(residual**2, weights=truth.weight))
        rows = np.concatenate([root * scores, pull * np.eye(len(parts))])
        goal = np.concatenate([root[:, 0] * truth.target, pull * equal])
        return WeightedLines(lines, tuple(nnls(rows, goal)[0].tolist()))


@dataclass(frozen=True, slots=True)
class Vote:
    """The mean of the grades that each part gives by cuts of its own."""

    cuts: tuple[Cuts, ...]

    def __call__(self, parts: Sequence[Predictions]) -> Predictions:
        """Blend aligned parts."""
        aligned(parts)
        labels = [cuts(p) for cuts, p in zip(self.cuts, parts, strict=True)]
        return _with_values(parts, np.stack(labels).mean(axis=0).astype(np.float32))


@dataclass(frozen=True, slots=True)
class LabelAverage:
    """Each part decides by its own closed-form cuts; the grades are averaged."""

    grades: int
    name: str = "label average"

    def fit(self, parts: Sequence[Predictions], truth: Truth) -> Vote:
        """Fit cuts a part."""
        decoder = ClosedFormCuts(self.grades)
        return Vote(tuple(decoder.fit(p, truth) for p in parts))


def aligned(parts: Sequence[Predictions]) -> Predictions:
    """The first of some parts, all of the same cases and columns.

    Raises:
        ShapeError: They hold others than each other.
    """
    first = parts[0]
    form = first.ids, first.columns, first.shapes
    if any((p.ids, p.columns, p.shapes) != form for p in parts):
        raise ShapeError(
            "predictions to be blended hold other cases, columns or shapes than each other"
        )
    return first


def _calibrated(
    parts: Sequence[Predictions], lines: Sequence[Line]
) -> Float[np.ndarray, "case member"]:
    aligned(parts)
    return np.stack([line(expected(p)) for line, p in zip(lines, parts, strict=True)], axis=1)


def _with_values(parts: Sequence[Predictions], values: np.ndarray) -> Predictions:
    return replace(
        parts[0],
        values=values,
        known={},
        seconds=np.sum([p.seconds for p in parts], axis=0),
        peak_bytes=np.max([p.peak_bytes for p in parts], axis=0),
    )
