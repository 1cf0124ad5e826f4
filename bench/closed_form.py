"""Which rule for cuts is the best default? Every rule fitted on n cases, judged on fresh ones.

Judged are rounding (halves), equal parts (fifths), Nelder-Mead from the halves as the rivals do it,
closed-form, exact and bagged exact cuts. The scores are out-of-fold ridge predictions on three real
sets, whole groups drawn for the fit, and simulated regressions that shrink towards zero. A row is
skipped where fewer than n fresh cases would be left. The standard errors are over draws; on a real
set all draws share its cases, so they say nothing about other sets.

Goals: the default, closed-form cuts, never loses to halves by more than a standard error, and below
600 cases no rule beats it by more than a standard error of the paired difference. Minutes, most of
them for the features of 3,669 pictures, which `--cache` keeps (empty it when the features change)::

    python bench/closed_form.py [--data ../shared/data] [--cache DIR]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foveal.decide import BaggedExactCuts, ClosedFormCuts, ExactCuts, FixedCuts
from foveal.decide.thresholds import Cuts, expected
from foveal.manifest import Truth
from foveal.metrics import quadratic_kappa
from foveal.models import PictureFeatures
from foveal.predictions import Predictions
from foveal.read.image import decode
from foveal.split import balanced_folds
from foveal.transforms import Prepare

SEED = 0
REPEATS = {100: 100, 300: 100, 600: 100, 1000: 100, 2000: 100, 5000: 40}
FRESH = 20_000
SHARES = (0.49, 0.10, 0.27, 0.05, 0.09)
NOISE, SHRINK = (0.8, 1.2), 0.6
SETS = {
    "idrid_grade": ("grade", None),
    "coffee_leaf": ("severity", "block"),
    "elpv_cells": ("grade", "block"),
}
"""Target and group column."""
DEFAULT, SMALL = "closed form", 600

Scored = tuple[np.ndarray, Truth]
"""The scores of some cases and their truth."""
Draw = Callable[[int, np.random.Generator], tuple[Scored, Scored] | None]
"""From n to a part to fit on and a fresh part, if there are enough cases."""


class NelderMead:
    """The rivals' search, from the halves."""

    def __init__(self, grades: int) -> None:
        self.start = np.arange(1, grades) - 0.5

    def fit(self, predictions: Predictions, truth: Truth) -> Cuts:
        """Fit on out-of-fold scores."""
        scored = expected(predictions), truth
        found = minimize(
            lambda cuts: -kappa(Cuts(np.sort(cuts)), scored), self.start, method="nelder-mead"
        )
        return Cuts(tuple(np.sort(found.x).tolist()))


def rules(grades: int) -> dict[str, object]:
    return {
        "halves": FixedCuts.halves(grades),
        "fifths": FixedCuts.fifths(grades),
        "Nelder-Mead": NelderMead(grades),
        DEFAULT: ClosedFormCuts(grades),
        "exact": ExactCuts(grades),
        "bagged exact": BaggedExactCuts(grades),
    }


def kappa(cuts: Cuts, scored: Scored) -> float:
    scores, truth = scored
    return float(
        quadratic_kappa.value(quadratic_kappa.tally(cuts.grade(scores), truth).sum(axis=0))
    )


def plain_truth(y: np.ndarray, group: np.ndarray) -> Truth:
    return Truth(target=y, weight=np.ones(len(y)), group=group, fold=np.zeros(len(y), np.int64))


def simulated(noise: float, n: int, rng: np.random.Generator) -> tuple[Scored, Scored]:
    """Scores of a regression that shrinks, with grades as skewed as those of APTOS."""
    y = rng.choice(len(SHARES), n + FRESH, p=SHARES)
    scores = SHRINK * (y + rng.normal(0, noise, len(y)))
    truth = plain_truth(y, np.arange(len(y)))
    fit, fresh = np.arange(n), np.arange(n, len(y))
    return (scores[fit], truth.take(fit)), (scores[fresh], truth.take(fresh))


def parted(scored: Scored, n: int, rng: np.random.Generator) -> tuple[Scored, Scored] | None:
    """Whole groups at random until n cases are reached; the rest is fresh."""
    scores, truth = scored
    counts = np.bincount(truth.group)
    order = rng.permutation(len(counts))
    taken = order[: np.searchsorted(np.cumsum(counts[order]), n) + 1]
    fit = np.isin(truth.group, taken)
    if (~fit).sum() < n:
        return None
    return (scores[fit], truth.take(fit)), (scores[~fit], truth.take(~fit))


def real(folder: Path, target: str, group: str | None, cache: Path | None) -> Scored:
    """Out-of-fold ridge predictions from picture features."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = cache / f"{folder.name}.npy" if cache else None
    if kept and kept.exists():
        x = np.load(kept)
    else:
        prepare, features = Prepare(height=256, width=256), PictureFeatures()

        def described(row: dict[str, str]) -> np.ndarray:
            image = decode(str(folder / "images" / row["image"]))
            return features(prepare(np.moveaxis(image, 2, 0)))

        with ThreadPoolExecutor(2) as pool:
            x = np.stack(list(pool.map(described, rows)))
        if kept:
            np.save(kept, x)
    y = np.array([int(row[target]) for row in rows])
    names = [row[group] if group else row["image"] for row in rows]
    whole = np.unique(names, return_inverse=True)[1]
    fold = balanced_folds(whole, y[:, None], folds=5)
    scores = np.zeros(len(y))
    for k in range(5):
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
        scores[fold == k] = ridge.fit(x[fold != k], y[fold != k]).predict(x[fold == k])
    return scores, plain_truth(y, whole)


def reached(draw: Draw, grades: int, n: int) -> np.ndarray | None:
    """Kappa on the fresh cases, (draw, rule)."""
    rng = np.random.default_rng([SEED, n])
    table = []
    for _ in range(REPEATS[n]):
        if (parts := draw(n, rng)) is None:
            return None
        (scores, truth), fresh = parts
        known = Predictions.of(
            [str(k) for k in range(len(scores))], scores[:, None], columns=("e",)
        )
        table.append([kappa(rule.fit(known, truth), fresh) for rule in rules(grades).values()])
    return np.array(table)


def sources(data: Path, cache: Path | None) -> Iterator[tuple[str, int, Draw]]:
    """Name, grades and draws of every set."""
    for noise in NOISE:
        yield f"simulated {noise:g}", len(SHARES), partial(simulated, noise)
    for name, (target, group) in SETS.items():
        if not (data / name / "labels.csv").exists():
            print(f"{name}: skipped, {data / name / 'labels.csv'} does not exist (see --data)")
            continue
        scored = real(data / name, target, group, cache)
        yield name, int(scored[1].target.max()) + 1, partial(parted, scored)


def mean_and_error(difference: np.ndarray) -> tuple[float, float]:
    return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    names = list(rules(2))
    default = names.index(DEFAULT)
    losses, beaten = [], []
    print("kappa of halves on fresh cases; others: thousandths above halves ± standard error")
    print(f"{'set':<14} {'n':>5} {'halves':>7}", *(f"{name:>13}" for name in names[1:]))
    for source, grades, draw in sources(options.data, options.cache):
        for n in REPEATS:
            if (table := reached(draw, grades, n)) is None:
                print(f"{source:<14} {n:>5} skipped: fewer than {n} fresh cases would be left")
                continue
            gains = [mean_and_error(1000 * (column - table[:, 0])) for column in table.T]
            cells = (f"{mean:>+7.1f} ±{error:>4.1f}" for mean, error in gains[1:])
            print(f"{source:<14} {n:>5} {table[:, 0].mean():>7.4f}", *cells, flush=True)
            mean, error = gains[default]
            if mean < -error:
                losses.append(f"{source}, n={n}: {mean:+.1f} ± {error:.1f}")
            best = int(np.argmax(table.mean(axis=0)))
            mean, error = mean_and_error(1000 * (table[:, default] - table[:, best]))
            if n < SMALL and mean < -error:
                beaten.append(f"{source}, n={n}: {mean:+.1f} ± {error:.1f} against {names[best]}")
    print(
        f"\n{'NOT MET' if losses else 'met':<8} {DEFAULT} never loses to halves",
        *losses,
        sep="\n  ",
    )
    print(
        f"{'NOT MET' if beaten else 'met':<8} no rule beats it below {SMALL}", *beaten, sep="\n  "
    )
    return 1 if losses or beaten else 0


if __name__ == "__main__":
    sys.exit(main())
