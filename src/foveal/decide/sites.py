"""Cuts for each site where sites mean different things by a grade, and only where that helps.

One clinic reads more strictly than another, or its scanner shifts the scores: the same score then
means another grade there. A line for every site, shrunk towards one for all as far as the site has
few groups, puts its scores on the scale of the truth before they are cut. Whether that is worth it
is asked on folds left out; where it does not clearly help, all sites keep the same cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.decide.calibrate import PRIOR_GROUPS, Affine, Line, expected, groups_seen
from foveal.decide.thresholds import Cuts
from foveal.manifest import Truth
from foveal.metrics.interval import paired_error, resampled
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions


@runtime_checkable
class CutRule(Protocol):
    """A rule from scores to cuts."""

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """Fit on out-of-fold scores."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCuts:
    """A fitted rule.

    Attributes:
        cuts: For a site without a line of its own, one never seen, or none told.
        sites: Those that have a line.
        lines: From score to the scale of the truth, one a site.
        of_lines: Cuts on that scale.
    """

    cuts: Cuts
    sites: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    of_lines: Cuts | None = None

    def __call__(
        self, predictions: Predictions, site: Shaped[np.ndarray, " case"] | None = None
    ) -> Int[np.ndarray, " case"]:
        """The grade of every case."""
        grades = self.cuts(predictions)
        if site is None or self.of_lines is None:
            return grades
        scores = expected(predictions)
        for name, line in zip(self.sites, self.lines, strict=True):
            here = site == name
            grades[here] = self.of_lines.grade(line(scores[here]))
        return grades


@dataclass(frozen=True, slots=True)
class PerSite:
    """Cuts for all sites alike, or for each where folds left out say that it helps.

    Attributes:
        decode: Fits cuts.
    """

    decode: CutRule

    def fit(self, predictions: Predictions, truth: Truth) -> SiteCuts:
        """Fit on out-of-fold scores."""
        pooled = self.decode.fit(predictions, truth)
        if truth.site is None or len(np.unique(truth.site[truth.site != ""])) < 2:
            return SiteCuts(cuts=pooled)
        if not self._helps(predictions, truth):
            return SiteCuts(cuts=pooled)
        return self._own(predictions, truth, pooled)

    def _own(self, predictions: Predictions, truth: Truth, pooled: Cuts) -> SiteCuts:
        """A line for every site, and cuts on the scale that they share, beside those for all."""
        scores = expected(predictions)
        names, lines = site_lines(scores, truth)
        common = Affine().fit(scores, truth)
        scaled = common(scores)
        for name, line in zip(names, lines, strict=True):
            here = truth.site == name
            scaled[here] = line(scores[here])
        on_scale = Predictions.of(
            predictions.ids, scaled[:, None].astype(np.float32), columns=predictions.columns
        )
        return SiteCuts(
            cuts=pooled,
            sites=names,
            lines=lines,
            of_lines=self.decode.fit(on_scale, truth),
        )

    def _helps(self, predictions: Predictions, truth: Truth) -> bool:
        """Whether cuts of sites beat common ones by more than a standard error, cross-fitted."""
        part_of = _parts(truth)
        parts = np.unique(part_of)
        if not all(truth.weight[part_of != part].any() for part in parts):
            return False
        labels = np.zeros((2, len(part_of)), dtype=np.int64)
        for out_part in parts:
            rest, out = np.flatnonzero(part_of != out_part), np.flatnonzero(part_of == out_part)
            seen, unseen = (predictions.take([predictions.ids[r] for r in k]) for k in (rest, out))
            known = truth.take(rest)
            pooled = self.decode.fit(seen, known)
            labels[0, out] = pooled(unseen)
            labels[1, out] = self._own(seen, known, pooled)(unseen, truth.take(out).site)
        common, own = (quadratic_kappa.tally(one, truth) for one in labels)
        gain = quadratic_kappa.value(own.sum(axis=0)) - quadratic_kappa.value(common.sum(axis=0))
        drawn = (resampled(tally, truth.group) for tally in (own, common))
        error = paired_error(quadratic_kappa, *drawn)
        return bool(gain > error)


def _parts(truth: Truth) -> Int[np.ndarray, " case"]:
    """The fold of every case; halves of the groups where all cases are of one fold."""
    if len(np.unique(truth.fold)) > 1:
        return truth.fold
    return np.unique(truth.group, return_inverse=True)[1] % 2


def site_lines(
    scores: Float[np.ndarray, " case"], truth: Truth
) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """The line from score to truth of every site, shrunk towards that of all sites.

    A site of few groups, counted as if a number of groups more had said what all sites say, keeps
    most of the common line.
    """
    common, names, lines = Affine().fit(scores, truth), [], []
    for name in np.unique(truth.site[truth.site != ""]).tolist() if truth.site is not None else []:
        here = np.flatnonzero(truth.site == name)
        part = truth.take(here)
        if not part.weight.sum() > 0:
            continue
        groups = groups_seen(part)
        share = groups / (groups + PRIOR_GROUPS)
        own = Affine().fit(scores[here], part)
        names.append(name)
        lines.append(
            Line(
                intercept=share * own.intercept + (1 - share) * common.intercept,
                slope=share * own.slope + (1 - share) * common.slope,
            )
        )
    return tuple(names), tuple(lines)
