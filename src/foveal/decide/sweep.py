"""The best threshold of a mask: exact, from two histograms and the few bins that matter.

F-beta of everything above a threshold needs three numbers: the positives above it, the area above
it, and all positives. Histograms of both give them at every edge between bins, and they add, so
volumes, parts and folds may be counted apart. Between two edges F-beta cannot pass what it would be
if the positives of the bin came first; only bins where that beats the best edge are opened::

    best = best_threshold([(scores, positive, area)], beta=0.5)
    best.threshold, best.value

A cell counts with its area and with how much of it is positive, so that a coarse lattice is judged
on the pixels behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from foveal.errors import TargetError
from foveal.metrics.overlap import f_beta

BINS = 1 << 16

CHUNK = 1 << 19
"""Cells that are looked at together: memory does not grow with their number, and what is made of
them stays in the processor's cache."""

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores from 0 to 1, positive area and area of some cells, each " cell"; pixels may say both as
bool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A cell is foreground where its score is at least the threshold."""

    threshold: float
    value: float


@dataclass(frozen=True, slots=True)
class Histograms:
    """Positive area and area by score; those of several volumes add up."""

    positive: Float[np.ndarray, " bin"]
    area: Float[np.ndarray, " bin"]

    @classmethod
    def of(cls, volumes: Iterable[Cells]) -> Histograms:
        """Count the cells of volumes, one after the other.

        Raises:
            TargetError: A score is below 0, above 1 or nan.
        """
        hit, given = np.zeros(BINS + 1), np.zeros(BINS + 1)
        room = np.empty(CHUNK, dtype=np.intp)
        for scores, positive, area in _chunks(volumes):
            some = _counted(bin_of(scores, room[: len(scores)]), positive, area)
            hit += some[0]
            given += some[1]
        return cls(hit, given)

    def __add__(self, other: Histograms) -> Histograms:
        return Histograms(self.positive + other.positive, self.area + other.area)

    def above(self) -> tuple[Float[np.ndarray, " edge"], Float[np.ndarray, " edge"]]:
        """Positive area and area at or above the lower edge of every bin, and 0 above the last."""
        falling = (np.cumsum(h[::-1])[::-1] for h in (self.positive, self.area))
        positive, area = (np.append(h, 0.0) for h in falling)
        return positive, area


def bin_of(
    scores: Float[np.ndarray, " cell"], out: Int[np.ndarray, " cell"] | None = None
) -> Int[np.ndarray, " cell"]:
    """The bin of every score; a higher score never has a lower bin, and 1 has one of its own."""
    place = np.empty(len(scores), dtype=np.intp) if out is None else out
    return np.multiply(scores, np.float32(BINS), out=place, casting="unsafe")


def _counted(
    place: Int[np.ndarray, " cell"], positive: np.ndarray, area: np.ndarray
) -> tuple[Shaped[np.ndarray, " bin"], Shaped[np.ndarray, " bin"]]:
    """Positive area and area in every bin; whole pixels are counted, not added up.

    Args:
        place: Bins; used up.
        positive: Area of each cell, or whether it is positive.
        area: Likewise; nothing is positive outside.
    """
    if positive.dtype == area.dtype == bool:
        if not area.all():
            place, positive = place[area], positive[area]
        place += positive * (BINS + 1)  # one pass for both: positives have bins of their own
        rest, hit = np.bincount(place, minlength=2 * (BINS + 1)).reshape(2, -1)
        return hit, rest + hit
    hit, whole = (np.bincount(place, weights=w, minlength=BINS + 1) for w in (positive, area))
    return hit, whole


def best_threshold(volumes: Sequence[Cells], *, beta: float = 0.5) -> Best:
    """The threshold with the highest F-beta over all cells of all volumes together.

    Args:
        volumes: Cells of each; looked at twice.
        beta: Below 1 favours precision.

    Raises:
        TargetError: No cell is positive, so every threshold is as good; or a score is no share.

    Reference:
        Van Rijsbergen, Information Retrieval, 1979 (F-beta).
    """
    counted = Histograms.of(volumes)
    true = float(counted.positive.sum())
    if not true > 0:
        raise TargetError("no positive pixel in any volume, so no threshold can be fitted")
    hit, given = counted.above()
    edges = f_beta(hit, given, true, beta)
    top = int(edges.argmax())
    best = Best(threshold=top / BINS, value=float(edges[top]))
    most = f_beta(hit[1:] + counted.positive, given[1:] + counted.positive, true, beta)
    is_open = most > best.value
    inside = [_inside(volume, is_open) for volume in _chunks(volumes)]
    scores, positive, area = (np.concatenate(part) for part in zip(*inside, strict=True))
    if not len(scores):
        return best
    order = np.argsort(-scores, kind="stable")
    scores, place = scores[order], bin_of(scores[order])
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    sums = [_since(values[order], starts) for values in (positive, area)]
    values = f_beta(hit[place + 1] + sums[0], given[place + 1] + sums[1], true, beta)
    values[:-1][scores[:-1] == scores[1:]] = -1.0  # equal scores are given together
    k = int(values.argmax())
    return (
        Best(threshold=float(scores[k]), value=float(values[k])) if values[k] > best.value else best
    )


def _since(
    values: Shaped[np.ndarray, " cell"], starts: Int[np.ndarray, " run"]
) -> Float[np.ndarray, " cell"]:
    """Running sums that begin again at every start."""
    total = np.cumsum(values, dtype=np.float64)
    before = np.append(0.0, total)[starts]
    return total - np.repeat(before, np.diff(np.append(starts, len(values))))


def _inside(cells: Cells, is_open: Bool[np.ndarray, " bin"]) -> Cells:
    """The cells of open bins; most others are told by the range of those alone."""
    scores, positive, area = cells
    low, high = np.flatnonzero(is_open)[[0, -1]] if is_open.any() else (1, 0)
    near = np.flatnonzero((scores >= low / BINS) & (scores < (high + 1) / BINS))
    kept = near[is_open[bin_of(scores[near])]]
    return scores[kept], positive[kept], area[kept]


def _chunks(volumes: Iterable[Cells]) -> Iterator[Cells]:
    for scores, positive, area in volumes:
        for start in range(0, len(scores), CHUNK):
            part = slice(start, start + CHUNK)
            some = np.asarray(scores[part], dtype=np.result_type(scores, np.float32))
            if not (some.min() >= 0 and some.max() <= 1):  # nan is neither
                raise TargetError("a threshold needs scores from 0 to 1, and some are none")
            yield some, positive[part], area[part]
