"""Score an answer against the truth, the metric alone.

Tables are joined by id; folders of masks by file name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foveal.errors import DataError, UsageError, nearest
from foveal.lattice import read_mask
from foveal.manifest import Truth
from foveal.metrics.interval import Metric, bootstrap
from foveal.metrics.kappa import quadratic_kappa
from foveal.metrics.overlap import FBeta, MacroF1
from foveal.metrics.ranking import MapAtK
from foveal.table import read_table
from foveal.targets import FLAGS

MOST_GRADES = 1e6
"""A larger number is no grade."""

METRICS = ("quadratic_kappa", "macro_f1", "map_at_5", "f_beta", "dice")


class Scored(NamedTuple):
    """A score, its 95 % interval over cases, and how many there were."""

    value: float
    interval: tuple[float, float]
    cases: int


def score(
    metric: str,
    answer: Path,
    truth: Path,
    *,
    id_column: str = "",
    targets: Sequence[str] = (),
    beta: float = 0.5,
) -> Scored:
    """Score an answer.

    Args:
        metric: One of `METRICS`.
        answer: A table, or a folder of masks.
        truth: The same with what is true.
        id_column: The answer's first column if empty.
        targets: The answer's second column if empty (macro_f1: all but the first).
        beta: Of `f_beta`.

    Raises:
        UsageError: The metric is unknown.
        DataError: The two do not fit.
    """
    if metric not in METRICS:
        raise UsageError(f'no metric "{metric}"{nearest(metric, METRICS)}')
    if metric in ("f_beta", "dice"):
        return _masks(FBeta(1.0, "dice") if metric == "dice" else FBeta(beta), answer, truth)
    given, true = read_table(answer), read_table(truth)
    names = list(given)
    if len(names) < 2:
        raise DataError(f"{answer} has no column to score")
    id_column = id_column or names[0]
    if not targets:
        rest = [n for n in names if n != id_column]
        targets = [n for n in rest if n in true] if metric == "macro_f1" else rest[:1]
    if not targets:
        raise DataError(f"{answer} and {truth} share no column to score")
    for column in (id_column, *targets):
        for table, path in ((given, answer), (true, truth)):
            if column not in table:
                raise DataError(f'no column "{column}" in {path}{nearest(column, table)}')
    rows = _aligned(given[id_column], true[id_column], answer, truth)
    mine = [[given[c][a] for c in targets] for a, _ in rows]
    right = [[true[c][b] for c in targets] for _, b in rows]
    return _judged(*_READERS[metric](mine, right, targets))


def _aligned(
    given: Sequence[str], true: Sequence[str], answer: Path, truth: Path
) -> list[tuple[int, int]]:
    place = {name: k for k, name in enumerate(given)}
    for names, path in ((given, answer), (true, truth)):
        if len(set(names)) != len(names):
            raise DataError(f"an id occurs twice in {path}")
    missing = [name for name in true if name not in place]
    if missing or not true:
        raise DataError(
            f"{answer} has no row for {len(missing)} of {len(true)} cases of {truth}", missing
        )
    return [(place[name], k) for k, name in enumerate(true)]


Rows = Sequence[Sequence[str]]


def _grades(
    mine: Rows, right: Rows, columns: Sequence[str]
) -> tuple[Metric, np.ndarray, np.ndarray]:
    try:
        labels, target = (np.array([float(r[0]) for r in rows]) for rows in (mine, right))
    except ValueError as error:
        raise DataError(f'column "{columns[0]}" holds no grade: {error}') from None
    both = np.concatenate([labels, target])
    if not (np.abs(both) <= MOST_GRADES).all():
        wrong = both[~(np.abs(both) <= MOST_GRADES)][0]
        raise DataError(f'column "{columns[0]}" holds no grade: {wrong:g}')
    return quadratic_kappa, labels.round().astype(np.int64), target.round().astype(np.int64)


def _labels(
    mine: Rows, right: Rows, columns: Sequence[str]
) -> tuple[Metric, np.ndarray, np.ndarray]:
    cells = {cell.strip() for r in (*mine, *right) for cell in r}
    if len(columns) > 1 or cells <= FLAGS.keys():
        try:
            given, true = (
                np.array([[float(v or 0) != 0 for v in r] for r in rows]) for rows in (mine, right)
            )
        except ValueError as error:
            raise DataError(f"labels are 0 or 1: {error}") from None
        return MacroF1(), given, true
    known = sorted({word for r in (*mine, *right) for word in r[0].split()})
    if not known:
        raise DataError(f'column "{columns[0]}" holds no label')
    given, true = (
        np.array([[word in row[0].split() for word in known] for row in rows])
        for rows in (mine, right)
    )
    return MacroF1(), given, true


def _names(
    mine: Rows, right: Rows, columns: Sequence[str]
) -> tuple[Metric, np.ndarray, np.ndarray]:
    metric = MapAtK()
    nobody = " "  # no name has white space, so that nobody is ever right
    guesses = [(r[0].split() + [nobody] * metric.k)[: metric.k] for r in mine]
    return metric, np.array(guesses), np.array([r[0] for r in right])


_READERS = {"quadratic_kappa": _grades, "macro_f1": _labels, "map_at_5": _names}


def _masks(metric: FBeta, answer: Path, truth: Path) -> Scored:
    files = sorted(truth.glob("*.png")) if truth.is_dir() else []
    if not files or not answer.is_dir():
        raise DataError(
            f"{metric.name} is scored on two folders of PNG masks: {answer} and {truth}"
        )
    tallies = []
    one = _truth(np.zeros(1, dtype=np.int64))
    for file in files:
        mine, right = read_mask(str(answer / file.name)), read_mask(str(file))
        if mine.shape != right.shape:
            raise DataError(f"{file.name}: {mine.shape} in the answer, {right.shape} in the truth")
        pair = Truth(target=right[None], weight=one.weight, group=one.group, fold=one.fold)
        tallies.append(metric.tally(mine[None], pair)[0])
    return _summed(metric, np.stack(tallies))


def _truth(target: np.ndarray) -> Truth:
    n = len(target)
    return Truth(
        target=target, weight=np.ones(n), group=np.arange(n), fold=np.zeros(n, dtype=np.int64)
    )


def _judged(metric: Metric, labels: np.ndarray, target: np.ndarray) -> Scored:
    return _summed(metric, metric.tally(labels, _truth(target)))


def _summed(metric: Metric, tally: np.ndarray) -> Scored:
    value = float(metric.value(tally.sum(axis=0)))
    return Scored(value, bootstrap(metric, tally, np.arange(len(tally))), len(tally))
