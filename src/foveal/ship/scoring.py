"""Score an answer against the truth, the metric alone.

Tables are joined by id; folders of masks by file name, or by the ids of a table of their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from foveal.ship.masks import mask_name
from foveal.table import read_table
from foveal.targets.labels import FLAGS

MOST_GRADES = 1e6
"""A larger number is no grade."""

METRICS = ("quadratic_kappa", "macro_f1", "map_at_5", "f_beta", "dice")


class Scored(NamedTuple):
    """A score, its 95 % interval over cases, how many there were, and how many had no truth.

    `doubt` says what else may have been meant.
    """

    value: float
    interval: tuple[float, float]
    cases: int
    without_truth: int = 0
    doubt: str = ""


def score(
    metric: str,
    answer: Path,
    truth: Path,
    *,
    id_column: str = "",
    targets: Sequence[str] = (),
    beta: float = 0.5,
    one_each: bool = False,
) -> Scored:
    """Score an answer.

    Args:
        metric: One of `METRICS`.
        answer: A table, or a folder of masks.
        truth: The same with what is true; for masks also a table of their paths.
        id_column: The answer's first column if empty; of a table of masks its own first.
        targets: The answer's second column if empty (macro_f1: all but the first; masks: `mask`).
        beta: Of `f_beta`.
        one_each: Whether a cell is one label, spaces and all (macro_f1).

    Raises:
        UsageError: The metric is unknown.
        DataError: The two do not fit.
    """
    if metric not in METRICS:
        raise UsageError(f'no metric "{metric}"{nearest(metric, METRICS)}')
    if metric in ("f_beta", "dice"):
        judge = FBeta(1.0, "dice") if metric == "dice" else FBeta(beta)
        return _masks(judge, answer, _true_masks(judge, answer, truth, id_column, targets))
    if metric != "macro_f1" and len(targets) > 1:
        raise UsageError(f"{metric} scores one column, not {len(targets)}; cure: one in --target")
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
    ids, columns = true[id_column], targets if metric == "macro_f1" else targets[:1]
    at = _aligned(given[id_column], ids, answer, truth)
    mine = _Cells(answer, columns, ids, [[given[c][k] for c in columns] for k in at])
    right = _Cells(truth, columns, ids, [[true[c][k] for c in columns] for k in range(len(ids))])
    is_classes = one_each and metric == "macro_f1" and len(columns) == 1
    read = _classes if is_classes else _READERS[metric]
    without_truth = len(given[id_column]) - len(ids)
    doubt = _doubt_of_words(right) if read is _labels else ""
    doubt = _doubt_of_names(mine, right) if read is _names else doubt
    return _judged(*read(mine, right))._replace(without_truth=without_truth, doubt=doubt)


def _doubt_of_names(mine: _Cells, right: _Cells) -> str:
    """Whether most true names are in no answer, as where one table has 7 and the other 7.0."""
    given = {name for row in mine.rows for name in row[0].split()}
    true = {row[0] for row in right.rows}
    if len(missing := sorted(true - given)) <= len(true) / 2:
        return ""
    return (
        f"{len(missing)} of {len(true)} true names are in no answer, such as {missing[0]}; "
        f"answers name {', '.join(sorted(given)[:3])}"
    )


def _doubt_of_words(right: _Cells) -> str:
    """Whether cells that were read as words look like names of one class, with spaces in them.

    Lists of labels differ more than their words do.
    """
    cells = [row[0].split() for row in right.rows]
    words = {word for cell in cells for word in cell}
    is_class = len(right.columns) == 1 and all(cells) and max(map(len, cells)) > 1
    if is_class and len({" ".join(cell) for cell in cells}) < len(words):
        return "every word was counted as a label; --one-each counts whole cells as classes"
    return ""


def _aligned(given: Sequence[str], true: Sequence[str], answer: Path, truth: Path) -> list[int]:
    """The answer's row of every case of the truth."""
    place = {name: k for k, name in enumerate(given)}
    for names, path in ((given, answer), (true, truth)):
        if len(set(names)) != len(names):
            raise DataError(f"an id occurs twice in {path}")
    missing = [name for name in true if name not in place]
    if missing or not true:
        raise DataError(
            f"{answer} has no row for {len(missing)} of {len(true)} cases of {truth}", missing
        )
    return [place[name] for name in true]


class _Cells(NamedTuple):
    """What is scored of a table, a row a case of the truth."""

    path: Path
    columns: Sequence[str]
    ids: Sequence[str]
    rows: Sequence[Sequence[str]]

    def cells_but(self, is_fine: Callable[[str], bool]) -> list[str]:
        """The cells that are not as they must be, in words."""
        return [
            f'{self.path}, id "{name}": {column} is "{cell}"'
            for name, row in zip(self.ids, self.rows, strict=True)
            for column, cell in zip(self.columns, row, strict=True)
            if not is_fine(cell)
        ]


Read = tuple[Metric, np.ndarray, np.ndarray]
"""A metric, and what it compares: what was given, and what is true."""


def _grades(mine: _Cells, right: _Cells) -> Read:
    bad = [*mine.cells_but(_is_grade), *right.cells_but(_is_grade)]
    if bad:
        where = f'column "{mine.columns[0]}" holds no grade in {len(bad)} cells'
        raise DataError(f"{where}; grades are whole numbers", bad)
    given, true = (np.array([float(r[0]) for r in c.rows]).astype(np.int64) for c in (mine, right))
    return quadratic_kappa, given, true


def _is_grade(cell: str) -> bool:
    try:
        return abs(float(cell)) <= MOST_GRADES and float(cell).is_integer()
    except ValueError:
        return False


def _labels(mine: _Cells, right: _Cells) -> Read:
    """Columns of 0 and 1, or one of words; where all true words are 0 and 1, so are those given."""
    if len(mine.columns) > 1 or not right.cells_but(_is_flag):
        _require_flags([*mine.cells_but(_is_flag_or_empty), *right.cells_but(_is_flag_or_empty)])
        given, true = (
            np.array([[FLAGS.get(v.strip(), 0) > 0 for v in r] for r in c.rows])
            for c in (mine, right)
        )
        return MacroF1(), given, true
    sets = [[set(r[0].split()) for r in c.rows] for c in (mine, right)]
    told, said = (set().union(*own) for own in sets)
    if not told | said:
        raise DataError(f'column "{mine.columns[0]}" holds no label')
    if said and said <= FLAGS.keys():
        _require_flags(mine.cells_but(_is_flags))
    known = sorted(told | said)
    given, true = (np.array([[word in one for word in known] for one in own]) for own in sets)
    return MacroF1(), given, true


def _classes(mine: _Cells, right: _Cells) -> Read:
    """One column, of which a whole cell is a name."""
    told, said = ([r[0].strip() for r in c.rows] for c in (mine, right))
    known = sorted({*told, *said} - {""})
    if not known:
        raise DataError(f'column "{mine.columns[0]}" holds no label')
    given, true = (np.array([[cell == name for name in known] for cell in c]) for c in (told, said))
    return MacroF1(), given, true


def _require_flags(bad: Sequence[str]) -> None:
    if bad:
        raise DataError(f"{len(bad)} cells are neither 0 nor 1, as labels are here", bad)


def _is_flag(cell: str) -> bool:
    return cell.strip() in FLAGS


def _is_flag_or_empty(cell: str) -> bool:
    return not cell.strip() or _is_flag(cell)


def _is_flags(cell: str) -> bool:
    return set(cell.split()) <= FLAGS.keys()


def _names(mine: _Cells, right: _Cells) -> Read:
    metric = MapAtK()
    nobody = " "  # no name has white space, so that nobody is ever right
    guesses = [(r[0].split() + [nobody] * metric.k)[: metric.k] for r in mine.rows]
    return metric, np.array(guesses), np.array([r[0] for r in right.rows])


_READERS = {"quadratic_kappa": _grades, "macro_f1": _labels, "map_at_5": _names}


def _true_masks(
    metric: FBeta, answer: Path, truth: Path, id_column: str, targets: Sequence[str]
) -> dict[str, Path]:
    """Where the mask of every case lies, by the name that it has in an answer."""
    if truth.is_file() and truth.suffix.lower() != ".png":
        table = read_table(truth)
        id_column, target = id_column or next(iter(table)), targets[0] if targets else "mask"
        for column in (id_column, target):
            if column not in table:
                raise DataError(f'no column "{column}" in {truth}{nearest(column, table)}')
        pairs = zip(table[id_column], table[target], strict=True)
        found = {mask_name(name): truth.absolute().parent / path for name, path in pairs}
    else:
        found = {file.name: file for file in sorted(truth.glob("*.png"))}
    if not answer.exists():
        raise DataError(f"there is no folder {answer}; cure: the one that `foveal predict` wrote")
    if not found or not answer.is_dir():
        raise DataError(
            f"{metric.name} is scored on two folders of PNG masks, or a folder and a table of "
            f"masks: {answer} and {truth}"
        )
    return found


def _masks(metric: FBeta, answer: Path, truth: Mapping[str, Path]) -> Scored:
    answers = {file.name for file in answer.glob("*.png")}
    if missing := [name for name in truth if name not in answers]:
        raise DataError(f"{answer} has no mask for {len(missing)} of {len(truth)}", missing)
    tallies = []
    one = _truth(np.zeros(1, dtype=np.int64))
    for name, file in truth.items():
        mine, right = read_mask(str(answer / name)), read_mask(str(file))
        if mine.shape != right.shape:
            raise DataError(f"{name}: {mine.shape} in the answer, {right.shape} in the truth")
        pair = Truth(target=right[None], weight=one.weight, group=one.group, fold=one.fold)
        tallies.append(metric.tally(mine[None], pair)[0])
    return _summed(metric, np.stack(tallies))._replace(without_truth=len(answers) - len(truth))


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
