"""Folds of several labels: imbalance and leaks, beside iterative stratification and GroupKFold.

Real tables (red blood cells, coffee leaves, each in blocks of neighbouring shots) and a simulated
one with 28 labels, as rare as those of the Human Protein Atlas, in samples of one to six pictures.
Iterative stratification knows no groups; with none to keep, it is compared on even terms too.
Imbalance is the share of labels that would have to change folds for each label to be spread evenly.

Goal: no leak, and a lower imbalance than GroupKFold with groups and than iterative stratification
without. A minute::

    .venv-rivals/bin/python bench/label_folds.py [--data ../shared/data] [--cases 31072]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from foveal.split import balanced_folds, imbalance
from foveal.split.record import NONE
from label_cuts import RATE

FOLDS = 5
REAL = {
    "chula_rbc": (
        *("normal", "macrocyte", "microcyte", "spherocyte", "target", "stomatocyte", "ovalocyte"),
        *("teardrop", "burr", "schistocyte", "hypochromia"),
    ),
    "coffee_leaf": ("miner", "rust", "phoma", "cercospora"),
}

Cases = tuple[np.ndarray, np.ndarray]
"""Labels "case label" and the group of every case."""


def real(folder: Path, names: tuple[str, ...]) -> Cases:
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    has = np.array([[row[name] == "1" for name in names] for row in rows])
    return has, np.unique([row["block"] for row in rows], return_inverse=True)[1].reshape(-1)


def simulated(cases: int) -> Cases:
    """Pictures of a sample share its labels but for a few."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(cases), rng.integers(1, 7, cases))[:cases]
    shared = rng.random((cases, len(RATE))) < RATE
    return shared[group] ^ (rng.random((cases, len(RATE))) < 0.02 * RATE), group


def ours(has: np.ndarray, group: np.ndarray) -> np.ndarray:
    return balanced_folds(group, np.where(has, 0, NONE), folds=FOLDS)


def grouped(has: np.ndarray, group: np.ndarray) -> np.ndarray:
    return held(GroupKFold(FOLDS).split(has, groups=group), len(has))


def iterative(has: np.ndarray, group: np.ndarray) -> np.ndarray:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    rival = MultilabelStratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return held(rival.split(has, has), len(has))


def held(pairs: object, cases: int) -> np.ndarray:
    fold = np.empty(cases, dtype=np.int64)
    for k, (_, out) in enumerate(pairs):
        fold[out] = k
    return fold


def main() -> int:
    """Fold every table in every way and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cases", type=int, default=31072)
    options = parser.parse_args()
    tables: dict[str, Cases] = {}
    for name, labels in REAL.items():
        if not (options.data / name).is_dir():
            print(f"{name} skipped: {options.data / name} is not there (see --data)")
            continue
        tables[name] = real(options.data / name, labels)
    tables["simulated"] = simulated(options.cases)
    ways: dict[str, Callable] = {"ours": ours, "GroupKFold": grouped}
    if find_spec("iterstrat") is not None:
        ways["iterative"] = iterative
    print(f"{'set':12}{'groups':>8}  " + "".join(f"{name:>26}" for name in ways))
    is_met = True
    for name, (has, group) in tables.items():
        for kept in (group, np.arange(len(group))):
            row, got = [], {}
            for way, fold_of in ways.items():
                started = time.process_time()
                fold = fold_of(has, kept)
                seconds = time.process_time() - started
                leaks = len(np.unique(np.stack([kept, fold]), axis=1).T) - len(np.unique(kept))
                got[way] = imbalance(fold, list(np.where(has, 0, NONE).T)), leaks
                row.append(f"{got[way][0]:9.4f} {leaks:6} leaks {seconds:4.1f} s")
            print(f"{name:12}{len(np.unique(kept)):>8}  " + " ".join(row), flush=True)
            fair = [value for way, (value, leaks) in got.items() if way != "ours" and not leaks]
            is_met &= got["ours"][1] == 0 and all(got["ours"][0] <= value for value in fair)
    print(f"{'MET' if is_met else 'NOT MET':8} no leak, and no fair rival is more even")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
