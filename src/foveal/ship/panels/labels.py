"""Sections of the report of a study with several labels a case."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from markupsafe import Markup

from foveal.manifest import Truth
from foveal.metrics.interval import interval, resampled
from foveal.metrics.overlap import MacroF1
from foveal.ship.charts import intervals
from foveal.ship.numbers import number
from foveal.ship.panels.study import (
    Section,
    card,
    cards,
    chosen_step,
    cost,
    counted,
    curves,
    folds,
    groups_of,
    leaderboard,
    table,
    thumbnail,
    what_was_run,
)
from foveal.study import Study

SHOWN = 12
"""Pictures whose labels are farthest off."""

SCORE = "score:"

TOGETHER = 32
"""Labels whose intervals are drawn at once; all of hundreds would take too much memory."""


def by_label(study: Study) -> Section:
    """How well each label is told, and where it is cut."""
    cuts = chosen_step(study)["decode"].get("cuts", ())
    rows = counted(study)
    names = [key.removeprefix(SCORE) for key in rows[0] if key.startswith(SCORE)]
    true, given = (_marked([row[key] for row in rows], names) for key in ("truth", "label"))
    score = np.array([[float(row[SCORE + name]) for name in names] for row in rows])
    weight = np.array([float(row["weight"]) for row in rows])
    hit, there, told = (weight @ has for has in (true & given, true, given))
    with np.errstate(invalid="ignore"):  # nan where nobody was given, or has, the label
        precision, recall = hit / told, hit / there
    group = groups_of(study, [row["id"] for row in rows])
    f1 = _f1(true, given, weight, group)
    order = np.argsort(-there, kind="stable").tolist()
    lines = [
        [
            names[k],
            f"{true[:, k].sum():,}",
            f"{given[:, k].sum():,}",
            number(f1[k][1]),
            number(float(precision[k])),
            number(float(recall[k])),
            number(_average_precision(score[:, k], true[:, k], weight)),
            *(number(cut) for cut in cuts[k : k + 1]),
        ]
        for k in order
    ]
    chart = intervals([(names[k], *f1[k], "") for k in order], x="F1")
    header = ["label", "have it", "given", "F1", "precision", "recall", "average precision"]
    header += ["cut"] if cuts else []
    lead = "Chosen row, out of fold, the most frequent label first, with intervals over groups."
    lead += " Cuts are those that answer." if cuts else ""
    return Section("Labels", lead, chart + table(header, lines))


def _own(cell: str, names: Collection[str]) -> set[str]:
    """The labels that a cell names: the whole of it where it is one, as a class with spaces is."""
    return {cell} if cell in names else set(cell.split())


def _marked(cells: Sequence[str], names: Sequence[str]) -> Bool[np.ndarray, "row label"]:
    """Which labels every cell names."""
    place = {name: k for k, name in enumerate(names)}
    marked = np.zeros((len(cells), len(names)), dtype=bool)
    for row, cell in zip(marked, cells, strict=True):
        row[[place[name] for name in _own(cell, place)]] = True
    return marked


def _f1(
    true: Bool[np.ndarray, "case label"],
    given: Bool[np.ndarray, "case label"],
    weight: Float[np.ndarray, " case"],
    group: Int[np.ndarray, " case"],
) -> list[tuple[float, float, float]]:
    """Lower end, value and upper end of every label's F1; nan where nobody has or was given it."""
    metric, fold = MacroF1(), np.zeros(len(true), np.int64)
    found = []
    for first in range(0, true.shape[1], TOGETHER):
        own = slice(first, first + TOGETHER)
        truth = Truth(target=true[:, own], weight=weight, group=group, fold=fold)
        tally = metric.tally(given[:, own], truth)
        drawn, sums = resampled(tally, group), tally.sum(axis=0)
        for k in range(0, len(sums), 3):  # three counts a label
            label = slice(k, k + 3)
            low, high = interval(metric, replace(drawn, totals=drawn.totals[:, label]))
            found.append((low, float(metric.value(sums[label])), high))
    return found


def _average_precision(score: np.ndarray, true: np.ndarray, weight: np.ndarray) -> float:
    """The mean precision at every case that has the label; nan where none has."""
    from sklearn.metrics import average_precision_score

    if not (weight @ true) > 0:
        return math.nan
    return float(average_precision_score(true, score, sample_weight=weight))


def worst_cases(study: Study) -> Section:
    """Pictures with the most wrong labels, those most surely wrong first."""
    manifest = study.manifest()
    place = {name: k for k, name in enumerate(manifest.ids)}

    def trouble(row: dict[str, str]) -> float:
        scores = {k.removeprefix(SCORE): float(v) for k, v in row.items() if k.startswith(SCORE)}
        true = _own(row["truth"], scores)
        return sum((1 - s if name in true else s) ** 2 for name, s in scores.items())

    shown = []
    for row in sorted(counted(study), key=trouble, reverse=True)[:SHOWN]:
        words = Markup("<b>{}</b><br>true {}<br>given {}").format(
            row["id"], row["truth"] or "nothing", row["label"] or "nothing"
        )
        shown.append(card(thumbnail(*manifest.paths[place[row["id"]]]), words))
    lead = "Scores farthest from the labels, out of fold: look for missing labels and rare kinds."
    return Section("Worst cases", lead, cards(shown))


LABEL_PANELS = (what_was_run, leaderboard, by_label, worst_cases, folds, curves, cost)
"""The report of a study with several labels a case."""
