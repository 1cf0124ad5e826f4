"""Grouped, stratified folds: ours against scikit-learn's StratifiedGroupKFold and GroupKFold.

The imbalance is the share of cases that would have to change folds for every class x site cell to
be spread evenly. The rivals stratify by the same cells; shuffled, the best of ten seeds counts. The
sets: APTOS by picture size (17 sizes, one of them more than a fifth of all), the blocks of three
real sets, and 100,000 simulated cases in 100,000, 20,000 and 3,000 groups, which are also timed
(rivals unshuffled there, for patience).

Goals: no group in two folds, no empty fold, nowhere a higher imbalance than any rival, and less
than a second for 100,000 cases. About a minute or two::

    python bench/folds.py [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from foveal.split import balanced_folds, crossed, imbalance

FOLDS, SEEDS = 5, range(10)
MANY, SECONDS = 100_000, 1.0
REPEATS = 3
"""Of ours, whose shortest time counts; the rivals run once."""
SHARES = (0.49, 0.10, 0.27, 0.05, 0.09)
APTOS = """
    0 0 1 0 1 | 0 0 33 5 4 | 279 7 1 0 0 | 0 2 63 9 18 | 901 19 39 2 13 | 0 0 2 0 0
    10 0 0 2 2 | 0 13 28 1 19 | 0 1 22 3 2 | 351 0 0 0 0 | 31 234 233 60 80 | 0 0 0 1 0
    0 6 3 21 4 | 231 44 165 47 46 | 2 13 307 32 56 | 0 13 91 6 31 | 0 18 11 4 19
"""
"""Pictures of grade 0 to 4 for every picture size of APTOS 2019."""
REAL = {
    "coffee_leaf": ("block", ("severity",)),
    "elpv_cells": ("block", ("grade", "cell_type")),
    "chula_rbc": ("block", ("normal", "target")),
}
"""Group column, then what to spread: class and site."""


class Cases(NamedTuple):
    """The group of every case and what should be spread evenly."""

    group: np.ndarray
    strata: np.ndarray

    @property
    def cell(self) -> np.ndarray:
        """Class and site as one number."""
        return reduce(crossed, self.strata.T)


def aptos() -> Cases:
    table = np.array(APTOS.replace("|", " ").split(), dtype=np.int64).reshape(17, 5)
    size, grade = np.divmod(np.repeat(np.arange(table.size), table.reshape(-1)), table.shape[1])
    return Cases(size, grade[:, None])


def real(folder: Path, group: str, strata: tuple[str, ...]) -> Cases:
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))

    def numbered(column: str) -> np.ndarray:
        return np.unique([row[column] for row in rows], return_inverse=True)[1]

    return Cases(numbered(group), np.stack([numbered(column) for column in strata], axis=1))


def simulated(groups: int) -> Cases:
    """Groups of one site and one leading grade; as large as they come, none empty."""
    rng = np.random.default_rng(groups)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, MANY - groups)])
    leading = rng.choice(len(SHARES), groups, p=SHARES)[group]
    own = rng.choice(len(SHARES), MANY, p=SHARES)
    grade = np.where(rng.random(MANY) < 0.5, leading, own)
    return Cases(group, np.stack([grade, rng.integers(0, 4, groups)[group]], axis=1))


def ours(cases: Cases) -> np.ndarray:
    strata = np.column_stack([cases.strata, cases.cell])
    return balanced_folds(cases.group, strata, folds=FOLDS)


def theirs(splitter: GroupKFold | StratifiedGroupKFold, cases: Cases) -> np.ndarray:
    fold = np.empty(len(cases.group), dtype=np.int64)
    with warnings.catch_warnings(action="ignore"):  # of cells smaller than the number of folds
        for k, (_, held) in enumerate(splitter.split(cases.group, cases.cell, cases.group)):
            fold[held] = k
    return fold


def shuffled(cases: Cases) -> np.ndarray:
    """The most even of several seeds."""
    splitters = [StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed) for seed in SEEDS]
    return min((theirs(s, cases) for s in splitters), key=lambda fold: unevenness(fold, cases))


def stratified(cases: Cases) -> np.ndarray:
    return theirs(StratifiedGroupKFold(FOLDS), cases)


def grouped(cases: Cases) -> np.ndarray:
    return theirs(GroupKFold(FOLDS), cases)


def unevenness(fold: np.ndarray, cases: Cases) -> float:
    return imbalance(fold, [cases.cell])


def leaks(fold: np.ndarray, cases: Cases) -> int:
    """Groups in more than one fold."""
    pairs = np.unique(np.stack([cases.group, fold], axis=1), axis=0)
    return len(pairs) - len(np.unique(cases.group))


def row(name: str, cases: Cases, rivals: tuple[Callable, ...]) -> tuple[bool, float]:
    """Print a line; whether it meets the goals but for time, and our seconds."""
    seconds, folds = [], []
    for assign in (ours, *rivals):
        runs = []
        for _ in range(REPEATS if assign is ours else 1):
            start = time.perf_counter()
            fold = assign(cases)
            runs.append(time.perf_counter() - start)
        folds.append(fold)
        seconds.append(min(runs))
    uneven = [unevenness(fold, cases) for fold in folds]
    torn, empty = leaks(folds[0], cases), FOLDS - len(np.unique(folds[0]))
    cells = [
        f"{value:>11.5f} {s / seconds[0]:>6.1f}x" for value, s in zip(uneven, seconds, strict=True)
    ]
    print(f"{name:<16} {len(np.unique(cases.group)):>6} {torn:>5}", *cells, flush=True)
    return torn == 0 and empty == 0 and uneven[0] <= min(uneven) + 1e-12, seconds[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    print("imbalance, and time over ours")
    names = ("ours", "GroupKFold", "stratified", "shuffled, best")
    print(f"{'set':<16} {'groups':>6} {'leaks':>5}", *(f"{name:>19}" for name in names))
    rivals = (grouped, stratified, shuffled)
    failed = (
        []
        if row("aptos sizes", aptos(), rivals)[0]
        else ["aptos sizes: not the most even, or not whole"]
    )
    for name, (group, strata) in REAL.items():
        if not (data / name / "labels.csv").exists():
            print(f"{name:<16} skipped: {data / name} is not there (see --data)")
        elif not row(name, real(data / name, group, strata), rivals)[0]:
            failed.append(f"{name}: not the most even, or not whole")
    for groups in (MANY, 20_000, 3_000):
        name = f"{MANY:,} cases in {groups:,} groups"
        even, seconds = row(f"{MANY:,} cases", simulated(groups), (grouped, stratified))
        failed += [] if even else [f"{name}: not the most even, or not whole"]
        failed += [] if seconds < SECONDS else [f"{name}: {seconds:.1f} s"]
    print(f"\n{'NOT MET' if failed else 'met':<8} whole, most even, fast", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
