"""Which rule for cuts is the best default? Every rule fitted on n cases, judged on fresh ones.

The rules: rounding (halves), equal parts (fifths), the rivals' Nelder-Mead from the halves, closed
form, exact and bagged exact. The scores: out-of-fold ridge predictions of three real sets, whole
groups drawn for the fit, and a simulated regression that shrinks. Rows that would leave fewer than
n fresh cases are skipped. Standard errors are over draws; all draws of a real set share its cases.

Goals: the default, closed form, never loses to halves by more than a standard error, and below 600
cases no rule beats it by more than one of the paired difference. Minutes, mostly for the features
of 3,669 pictures, which `--cache` keeps (empty it when the features change)::

    python bench/closed_form.py [--data ../shared/data] [--cache DIR]
"""

from __future__ import annotations

import argparse
import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foveal.decide import BaggedExactCuts, ClosedFormCuts, ExactCuts, FixedCuts
from foveal.decide.calibrate import expected
from foveal.decide.thresholds import Cuts
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
RULES = ("halves", "fifths", "Nelder-Mead", "closed form", "exact", "bagged exact")
DEFAULT, SMALL = RULES.index("closed form"), 600

Scored = tuple[np.ndarray, Truth]
"""The scores of some cases and their truth."""


def kappa(cuts: Cuts, scored: Scored) -> float:
    tally = quadratic_kappa.tally(cuts.grade(scored[0]), scored[1])
    return float(quadratic_kappa.value(tally.sum(axis=0)))


def nelder_mead(known: Predictions, truth: Truth, grades: int) -> Cuts:
    """The rivals' search, from the halves."""
    scored = expected(known), truth
    start = np.arange(1, grades) - 0.5
    found = minimize(lambda c: -kappa(Cuts(tuple(np.sort(c))), scored), start, method="nelder-mead")
    return Cuts(tuple(np.sort(found.x)))


def fitted(scored: Scored, grades: int) -> list[Cuts]:
    """The cuts of every rule."""
    scores, truth = scored
    known = Predictions.of([str(k) for k in range(len(scores))], scores[:, None], columns=("e",))
    return [
        FixedCuts.halves(grades).fit(known, truth),
        FixedCuts.fifths(grades).fit(known, truth),
        nelder_mead(known, truth, grades),
        ClosedFormCuts(grades).fit(known, truth),
        ExactCuts(grades).fit(known, truth),
        BaggedExactCuts(grades).fit(known, truth),
    ]


def scored(scores: np.ndarray, y: np.ndarray, group: np.ndarray) -> Scored:
    return scores, Truth(target=y, weight=np.ones(len(y)), group=group, fold=np.zeros_like(y))


def parted(whole: Scored, fit: np.ndarray) -> tuple[Scored, Scored]:
    scores, truth = whole
    return (scores[fit], truth.take(fit)), (scores[~fit], truth.take(~fit))


def draw_simulated(noise: float, n: int, rng: np.random.Generator) -> tuple[Scored, Scored]:
    """Grades as skewed as those of APTOS, scores that shrink towards zero."""
    y = rng.choice(len(SHARES), n + FRESH, p=SHARES)
    case = np.arange(len(y))
    return parted(scored(SHRINK * (y + rng.normal(0, noise, len(y))), y, case), case < n)


def draw_groups(whole: Scored, n: int, rng: np.random.Generator) -> tuple[Scored, Scored]:
    """Whole groups at random until n cases are reached; the rest is fresh."""
    counts = np.bincount(whole[1].group)
    order = rng.permutation(len(counts))
    taken = order[: np.searchsorted(np.cumsum(counts[order]), n) + 1]
    return parted(whole, np.isin(whole[1].group, taken))


def features(folder: Path, rows: list[dict[str, str]], cache: Path | None) -> np.ndarray:
    kept = cache / f"{folder.name}.npy" if cache else None
    if kept and kept.exists():
        return np.load(kept)
    prepare, describe = Prepare(height=256, width=256), PictureFeatures()

    def described(row: dict[str, str]) -> np.ndarray:
        image = decode(str(folder / "images" / row["image"]))
        return describe(prepare(np.moveaxis(image, 2, 0)))

    with ThreadPoolExecutor(2) as pool:
        x = np.stack(list(pool.map(described, rows)))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, x)
    return x


def real(folder: Path, target: str, group: str | None, cache: Path | None) -> Scored:
    """Out-of-fold ridge predictions from picture features."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    x = features(folder, rows, cache)
    y = np.array([int(row[target]) for row in rows])
    whole = np.unique([row[group or "image"] for row in rows], return_inverse=True)[1]
    fold = balanced_folds(whole, y[:, None], folds=5)
    scores = np.zeros(len(y))
    for k in range(5):
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
        scores[fold == k] = ridge.fit(x[fold != k], y[fold != k]).predict(x[fold == k])
    return scored(scores, y, whole)


def mean_and_error(difference: np.ndarray) -> tuple[float, float]:
    """In thousandths."""
    return 1e3 * difference.mean(), 1e3 * difference.std(ddof=1) / np.sqrt(len(difference))


def judge(name: str, draw: partial, grades: int, lost: list[str], beaten: list[str]) -> None:
    """Print a row for every n and note where the default fails."""
    for n, repeats in REPEATS.items():
        rng = np.random.default_rng([SEED, n])
        parts = [draw(n, rng) for _ in range(repeats)]
        if any(len(fresh[0]) < n for _, fresh in parts):
            print(f"{name:<14} {n:>5} skipped: fewer than {n} fresh cases would be left")
            continue
        table = np.array([[kappa(c, fresh) for c in fitted(fit, grades)] for fit, fresh in parts])
        gains = [mean_and_error(column - table[:, 0]) for column in table.T[1:]]
        cells = [f"{mean:>+7.1f} ±{error:>4.1f}" for mean, error in gains]
        print(f"{name:<14} {n:>5} {table[:, 0].mean():>7.4f}", *cells, flush=True)
        best = int(table.mean(axis=0).argmax())
        for rival, failures in ((0, lost), (best, beaten if n < SMALL else [])):
            mean, error = mean_and_error(table[:, DEFAULT] - table[:, rival])
            if mean < -error:
                failures.append(f"  {name}, n={n}: {mean:+.1f} ± {error:.1f} to {RULES[rival]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    lost, beaten = [], []
    print("kappa of halves on fresh cases; others: thousandths above halves ± standard error")
    print(f"{'set':<14} {'n':>5} {'halves':>7}", *(f"{rule:>13}" for rule in RULES[1:]))
    for noise in NOISE:
        judge(f"simulated {noise:g}", partial(draw_simulated, noise), len(SHARES), lost, beaten)
    for name, (target, group) in SETS.items():
        if not (options.data / name / "labels.csv").exists():
            print(f"{name:<14} skipped: {options.data / name} is not there (see --data)")
            continue
        whole = real(options.data / name, target, group, options.cache)
        judge(name, partial(draw_groups, whole), int(whole[1].target.max()) + 1, lost, beaten)
    print(f"\n{'NOT MET' if lost else 'met':<8} closed form never loses to halves", *lost, sep="\n")
    print(f"{'NOT MET' if beaten else 'met':<8} no rule beats it below {SMALL}", *beaten, sep="\n")
    return 1 if lost or beaten else 0


if __name__ == "__main__":
    sys.exit(main())
