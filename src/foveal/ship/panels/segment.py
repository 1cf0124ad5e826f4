"""Sections of the report of a segmentation."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool
from markupsafe import Markup

from foveal.decide.sweep import Histograms
from foveal.digests import revive
from foveal.errors import DataError
from foveal.files import read_json
from foveal.lattice import Planes, part_of, planes_of
from foveal.manifest import Case
from foveal.metrics.overlap import CellFBeta
from foveal.predictions import Predictions, join
from foveal.read.slices import find_slices
from foveal.ship.numbers import metric_name, number
from foveal.ship.panels.study import (
    Section,
    card,
    cards,
    chosen_step,
    cost,
    curves,
    folds,
    leaderboard,
    oof,
    split_of,
    table,
    what_was_run,
)
from foveal.split.record import NONE
from foveal.study import SCORES, Study

SHOWN = 6
"""Units that are shown."""

SIDE = 260
"""Longest side of a picture, in pixels."""

HIT, EXTRA, MISSED = (92, 150, 60), (214, 84, 40), (60, 110, 200)
"""Colours of what was found rightly, found wrongly, and not found: red, green, blue."""


@dataclass(frozen=True, slots=True)
class _Units:
    """The units that folds judge, all that is known of each in the same order.

    Attributes:
        cases: Volumes, or parts of them.
        truth: Their masks, cell by cell.
        scores: What the chosen row scored out of fold.
        judge: What the study judges them by.
    """

    cases: list[Case]
    truth: Planes
    scores: Predictions
    judge: CellFBeta

    @property
    def judged_by(self) -> str:
        """The judge's name, for people."""
        return metric_name(self.judge.name)


def masks(study: Study) -> Section:
    """How good each unit's mask is, in numbers and in pictures of the worst."""
    units = _units(study)
    judged = {case.id for case in units.cases}
    rows = [row for row in oof(study) if row["id"] in judged]
    lead = (
        "Chosen row, out of fold, in pixels. Average precision of all cells together: "
        f"{number(average_precision(units.scores, units.truth))}."
    )
    header = ["", "fold", "true", "given", "hit", *dict.fromkeys((units.judged_by, "Dice"))]
    lines = [
        [r["id"], r["fold"], *(f"{float(r[k]):,.0f}" for k in ("true", "given", "hit"))]
        + [number(float(r[k] or "nan")) for k in dict.fromkeys((units.judge.name, "dice"))]
        for r in rows
    ]
    return Section("Masks", lead, table(header, lines) + _pictures(study, units, rows))


def average_precision(scores: Predictions, truth: Planes) -> float:
    """The area under precision over recall, from the histograms of the threshold's sweep."""
    planes = [np.asarray(p) for _, p in scores.arrays()]
    cells = [
        (p[p > 0], t[p > 0], a[p > 0])
        for p, t, a in zip(planes, truth.positive, truth.area, strict=True)
    ]
    hit, given = Histograms.of(cells).above()
    if not hit[0] > 0:
        return float("nan")
    precision = hit / np.maximum(given, 1e-300)
    return float(-(np.diff(hit / hit[0]) * precision[:-1]).sum())


MASK_PANELS = (what_was_run, leaderboard, masks, folds, curves, cost)
"""The report of a segmentation."""


def _units(study: Study) -> _Units:
    """Read scores and masks of all units that are judged, once."""
    made = split_of(study)
    units = made.units(study.manifest())
    rows = np.flatnonzero((made.fold != NONE) & (units.weight > 0))
    cases = [units.case(k) for k in rows.tolist()]
    answer = read_json(study.answers_file)["answer"]
    truth = planes_of(cases, units.target[rows, 0].tolist(), int(answer["lattice"]))
    step, parts = chosen_step(study), []
    for member in step["members"]:
        folders = [study.job_folder(member, k) for k in range(made.folds)]
        whole = join([Predictions.open(folder, prefix=SCORES) for folder in folders])
        parts.append(whole.take([case.id for case in cases]))
    judge = CellFBeta(float(answer["beta"]))
    return _Units(cases, truth, revive(step["blend"])(parts), judge)


def _pictures(study: Study, units: _Units, rows: Sequence[Mapping[str, str]]) -> Markup:
    """Slice, scores and errors of some units, the worst first."""
    f = {r["id"]: float(r[units.judge.name]) for r in rows if r[units.judge.name]}
    told = [k for k, case in enumerate(units.cases) if case.id in f]
    order = sorted(told, key=lambda k: f[units.cases[k].id])[:SHOWN]
    scores = units.scores.take([units.cases[k].id for k in order])
    given = revive(chosen_step(study)["decode"])(scores)
    lines = []
    for k, (name, plane), mask in zip(order, scores.arrays(), given, strict=True):
        share = units.truth.positive[k] / np.maximum(units.truth.area[k], 1)
        shown = (
            card(_middle(units.cases[k]), f"{name}, the middle slice"),
            card(_plain(np.round(np.asarray(plane) * 255).astype(np.uint8)), "scores"),
            card(_plain(_errors(mask, share >= 0.5)), f"{units.judged_by} {number(f[name])}"),
        )
        lines.append(cards(shown, "triple"))
    lead = (
        "The worst of them. Right, by the cut that answers, where the table is cross-fitted: found "
        "rightly (green), found but not there (red), missed (blue)."
    )
    return Markup("<h3>Pictures</h3><p>{}</p>{}").format(lead, Markup("").join(lines))


def _middle(case: Case) -> str:
    """The middle slice of a unit, from its darkest to its brightest; empty where it is gone."""
    try:
        stack = find_slices(case.paths[0])
        plane = part_of(stack.read(len(stack) // 2), case.window).astype(np.float32)
    except DataError:
        return ""
    low, high = np.quantile(plane, [0.005, 0.995])
    return _plain(np.clip((plane - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8))


def _errors(given: Bool[np.ndarray, "_ _"], true: Bool[np.ndarray, "_ _"]) -> np.ndarray:
    picture = np.full((*given.shape, 3), 238, dtype=np.uint8)
    for colour, where in ((HIT, given & true), (EXTRA, given & ~true), (MISSED, ~given & true)):
        picture[where] = colour[::-1]
    return picture


def _plain(picture: np.ndarray) -> str:
    """A picture whose cells stay squares, as data."""
    scale = SIDE / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    data = cv2.imencode(".png", cv2.resize(picture, size, interpolation=how))[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(data).decode()
