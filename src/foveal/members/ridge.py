"""Ridge regression, its penalty chosen by grouped folds of the training cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from foveal.split.folds import balanced_folds

ALPHAS = tuple(10.0**k for k in np.arange(1.0, 5.01, 0.5))
"""Penalties to choose from, for standardised features."""

USUAL_ALPHA = 1e3
"""Where nothing can be left out to choose by."""

INNER_FOLDS = 4

CLIP = 4.0
"""Standard deviations beyond which a feature says no more: one odd picture, at training or later,
then cannot carry a whole regression away."""


def spread(
    x: Float[np.ndarray, "case feature"], w: Float[np.ndarray, " case"]
) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    """Mean and standard deviation of every feature; 1 for one that as good as never changes."""
    centre = np.average(x, axis=0, weights=w)
    scale = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=w))
    return centre, np.where(scale > 1e-6, scale, 1.0)


def standardised(
    x: Float[np.ndarray, "case feature"],
    centre: Float[np.ndarray, " feature"],
    scale: Float[np.ndarray, " feature"],
) -> Float[np.ndarray, "case feature"]:
    """Features in standard deviations from their mean, cut off at `CLIP`."""
    return np.clip((x - centre) / scale, -CLIP, CLIP)


def expected_grade(target: Float[np.ndarray, "case grade"]) -> Float[np.ndarray, "case 1"]:
    """The mean of every distribution over grades: one number to learn."""
    return (target @ np.arange(target.shape[1], dtype=np.float64))[:, None]


def every_column(target: Float[np.ndarray, "case column"]) -> Float[np.ndarray, "case column"]:
    """The target itself: a number to learn for every class or label."""
    return target.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learns:
    """What members without a network learn.

    Attributes:
        goal: From the training target to numbers.
        columns: Names of the scores, one a number.
        limits: Least and largest score.
    """

    goal: Callable[[np.ndarray], np.ndarray] = expected_grade
    columns: tuple[str, ...] = ("expected",)
    limits: tuple[float, float] = (float("-inf"), float("inf"))


def ridge(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    alpha: Float[np.ndarray, " column"],
) -> tuple[Float[np.ndarray, "feature column"], Float[np.ndarray, " column"]]:
    """Slopes and intercepts of weighted ridge regression, in whichever space is smaller.

    Args:
        x: Features.
        y: What is to be told from them, column by column.
        w: How much every case counts.
        alpha: The penalty of every column.
    """
    a, b, mean_x, mean_y = _centred(x, y, w)
    is_wide = a.shape[0] < a.shape[1]
    gram = a @ a.T if is_wide else a.T @ a
    slope = np.empty((x.shape[1], y.shape[1]))
    for one in np.unique(alpha):
        columns = np.flatnonzero(alpha == one)
        right = b[:, columns] if is_wide else a.T @ b[:, columns]
        solved = np.linalg.solve(gram + one * np.eye(len(gram)), right)
        slope[:, columns] = a.T @ solved if is_wide else solved
    return slope, mean_y - mean_x @ slope


def ridge_path(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    out: Float[np.ndarray, "new feature"],
) -> Float[np.ndarray, "alpha new column"]:
    """What ridge regression of every penalty in `ALPHAS` says of new cases, at the price of one."""
    a, b, mean_x, mean_y = _centred(x, y, w)
    is_wide = a.shape[0] < a.shape[1]
    values, vectors = np.linalg.eigh(a @ a.T if is_wide else a.T @ a)
    turned = vectors.T @ (b if is_wide else a.T @ b)
    reach = (out - mean_x) @ (a.T @ vectors if is_wide else vectors)
    return np.stack([reach @ (turned / (values + k)[:, None]) + mean_y for k in ALPHAS])


def inner_folds(
    y: Float[np.ndarray, "case column"], group: Int[np.ndarray, " case"], seed: int
) -> Int[np.ndarray, " case"] | None:
    """Grouped folds of training cases to choose settings by; None for a single group."""
    group = np.unique(group, return_inverse=True)[1]
    folds = min(INNER_FOLDS, int(group.max()) + 1)
    if folds < 2:
        return None
    return balanced_folds(group, np.round(y).astype(np.int64), folds=folds, seed=seed)


def cross_fitted(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, "case column"],
    w: Float[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, "case column"]]:
    """Each column's penalty of the least error on cases left out, and what they say of them."""
    said = np.zeros((len(ALPHAS), *y.shape))
    for k in np.unique(fold):
        inside, out = fold != k, fold == k
        said[:, out] = ridge_path(x[inside], y[inside], w[inside], x[out])
    best = np.array([w @ (one - y) ** 2 for one in said]).argmin(axis=0)
    return np.array(ALPHAS)[best], said[best, :, np.arange(y.shape[1])].T


def _centred(
    x: np.ndarray, y: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weighted and centred cases, and the means that were taken away."""
    w = w / w.mean()
    mean_x, mean_y = (np.average(values, axis=0, weights=w) for values in (x, y))
    root = np.sqrt(w)[:, None]
    return root * (x - mean_x), root * (y - mean_y), mean_x, mean_y
