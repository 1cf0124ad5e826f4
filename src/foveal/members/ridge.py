"""Ridge regression, its penalty chosen by grouped folds of the training cases."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from foveal.split import balanced_folds

ALPHAS = tuple(10.0**k for k in np.arange(1.0, 5.01, 0.5))
"""Penalties to choose from, for standardised features."""

INNER_FOLDS = 4

CLIP = 4.0
"""Standard deviations beyond which a feature says no more: one odd picture, at training or later,
then cannot carry a whole regression away."""


def spread(
    x: Float[np.ndarray, "case feature"], w: Float[np.ndarray, " case"]
) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    """Mean and standard deviation of every feature; 1 for one that as good as never changes."""
    scale = x.std(axis=0, dtype=np.float64)
    return np.average(x, axis=0, weights=w), np.where(scale > 1e-6, scale, 1.0)


def standardised(
    x: Float[np.ndarray, "case feature"],
    centre: Float[np.ndarray, " feature"],
    scale: Float[np.ndarray, " feature"],
) -> Float[np.ndarray, "case feature"]:
    """Features in standard deviations from their mean, cut off at `CLIP`."""
    return np.clip((x - centre) / scale, -CLIP, CLIP)


def ridge(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, " case"],
    w: Float[np.ndarray, " case"],
    alpha: float,
) -> tuple[Float[np.ndarray, " feature"], float]:
    """Slope and intercept of weighted ridge regression, in whichever space is smaller."""
    a, b, mean_x, mean_y = _centred(x, y, w)
    if a.shape[0] < a.shape[1]:
        slope = a.T @ np.linalg.solve(a @ a.T + alpha * np.eye(len(a)), b)
    else:
        slope = np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ b)
    return slope, float(mean_y - mean_x @ slope)


def ridge_path(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, " case"],
    w: Float[np.ndarray, " case"],
    out: Float[np.ndarray, "new feature"],
) -> Float[np.ndarray, "alpha new"]:
    """What ridge regression of every penalty in `ALPHAS` says of new cases, at the price of one."""
    a, b, mean_x, mean_y = _centred(x, y, w)
    is_wide = a.shape[0] < a.shape[1]
    values, vectors = np.linalg.eigh(a @ a.T if is_wide else a.T @ a)
    turned = vectors.T @ (b if is_wide else a.T @ b)
    coefficients = turned[:, None] / (values[:, None] + np.array(ALPHAS))
    reach = (out - mean_x) @ (a.T @ vectors if is_wide else vectors)
    return (reach @ coefficients).T + mean_y


def inner_folds(
    y: Float[np.ndarray, " case"], group: Int[np.ndarray, " case"], seed: int
) -> Int[np.ndarray, " case"] | None:
    """Grouped folds of training cases to choose settings by; None for a single group."""
    group = np.unique(group, return_inverse=True)[1]
    folds = min(INNER_FOLDS, int(group.max()) + 1)
    if folds < 2:
        return None
    return balanced_folds(group, np.round(y).astype(np.int64)[:, None], folds=folds, seed=seed)


def cross_fitted(
    x: Float[np.ndarray, "case feature"],
    y: Float[np.ndarray, " case"],
    w: Float[np.ndarray, " case"],
    fold: Int[np.ndarray, " case"],
) -> tuple[float, Float[np.ndarray, " case"]]:
    """The penalty with the least error on cases left out, and what it says of them."""
    said = np.zeros((len(ALPHAS), len(y)))
    for k in np.unique(fold):
        inside, out = fold != k, fold == k
        said[:, out] = ridge_path(x[inside], y[inside], w[inside], x[out])
    best = int((w * (said - y) ** 2).sum(axis=1).argmin())
    return ALPHAS[best], said[best]


def _centred(
    x: np.ndarray, y: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Weighted and centred cases, and the means that were taken away."""
    w = w / w.mean()
    mean_x, mean_y = np.average(x, axis=0, weights=w), float(np.average(y, weights=w))
    root = np.sqrt(w)
    return root[:, None] * (x - mean_x), root * (y - mean_y), mean_x, mean_y
