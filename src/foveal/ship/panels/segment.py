"""Sections of the report of a segmentation."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float
from markupsafe import Markup

from foveal.decide.sweep import Histograms
from foveal.lattice import Planes, part_of, planes_of
from foveal.manifest import Case
from foveal.predictions import Predictions, join
from foveal.read.slices import find_slices
from foveal.ship.panels.study import (
    Section,
    cost,
    curves,
    folds,
    leaderboard,
    number,
    oof,
    table,
    what_was_run,
)
from foveal.split.record import NONE, Split
from foveal.study import Study, read_json, revive

SHOWN = 6
"""Units that are shown."""

SIDE = 260
"""Longest side of a picture, in pixels."""

HIT, EXTRA, MISSED = (92, 150, 60), (214, 84, 40), (60, 110, 200)
"""Colours of what was found rightly, found wrongly, and not found: red, green, blue."""


def parts(study: Study) -> Section:
    """How good each unit's mask is."""
    rows = [
        [r["id"], r["fold"], *(f"{float(r[k]):,.0f}" for k in ("true", "given", "hit"))]
        + [number(float(r[k])) for k in ("f_0.5", "dice")]
        for r in oof(study)
    ]
    scores, truth = _chosen(study)[1], _truth(study)
    lead = (
        "Chosen row, out of fold, in pixels. Average precision of all cells together: "
        f"{number(average_precision(scores, truth))}."
    )
    header = ["", "fold", "true", "given", "hit", "F0.5", "Dice"]
    return Section("Masks", lead, table(header, rows))


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


def pictures(study: Study) -> Section:
    """Slice, scores and errors of some units, the worst first."""
    cases, scores, labels = _chosen(study)
    truth = _truth(study)
    rows = {r["id"]: float(r["f_0.5"]) for r in oof(study)}
    order = sorted(range(len(cases)), key=lambda k: rows[cases[k].id])[:SHOWN]
    planes = [np.asarray(p) for _, p in scores.arrays()]
    lines = []
    for k in order:
        share = truth.positive[k] / np.maximum(truth.area[k], 1)
        cards = (
            _card(_middle(cases[k]), f"{cases[k].id}, the middle slice"),
            _card(np.round(planes[k] * 255).astype(np.uint8), "scores"),
            _card(_errors(labels[k], share >= 0.5), f"F0.5 {number(rows[cases[k].id])}"),
        )
        lines.append(Markup('<div class="triple">{}</div>').format(Markup("").join(cards)))
    lead = (
        "The worst units of the chosen row, out of fold. Right: found rightly (green), found but "
        "not there (red), missed (blue)."
    )
    return Section("Pictures", lead, Markup("").join(lines))


MASK_PANELS = (what_was_run, leaderboard, parts, pictures, folds, curves, cost)
"""The report of a segmentation."""


def _chosen(study: Study) -> tuple[list[Case], Predictions, Sequence[Bool[np.ndarray, "_ _"]]]:
    """All judged units, the chosen row's out-of-fold scores of them, and its masks."""
    manifest, answers = study.manifest(), read_json(study.combine_folder / "answers.json")
    made = Split.from_csv(study.folds_file.read_text(encoding="utf-8"), manifest.ids)
    assert made is not None
    units = made.units(manifest)
    cases = [units.case(k) for k in np.flatnonzero(made.fold != NONE).tolist()]
    step = answers["rows"][answers["chosen"]][-1]
    of_members = []
    for member in step["members"]:
        folders = [study.job_folder(member, k) for k in range(made.folds)]
        whole = join([Predictions.open(folder, prefix="oof-") for folder in folders])
        of_members.append(whole.take([case.id for case in cases]))
    scores = revive(step["blend"])(of_members)
    return cases, scores, revive(step["decode"])(scores)


def _truth(study: Study) -> Planes:
    manifest, answers = study.manifest(), read_json(study.combine_folder / "answers.json")
    made = Split.from_csv(study.folds_file.read_text(encoding="utf-8"), manifest.ids)
    assert made is not None
    units = made.units(manifest)
    rows = np.flatnonzero(made.fold != NONE)
    masks = units.target[rows, 0].tolist()
    cases = [units.case(k) for k in rows.tolist()]
    return planes_of(cases, masks, int(answers["answer"]["lattice"]))


def _middle(case: Case) -> np.ndarray:
    """The middle slice of a unit, as 8 bit from its darkest to its brightest."""
    stack = find_slices(case.paths[0])
    plane = part_of(stack.read(len(stack) // 2), case.window).astype(np.float32)
    low, high = np.quantile(plane, [0.005, 0.995])
    return np.clip((plane - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)


def _errors(given: Bool[np.ndarray, "_ _"], true: Bool[np.ndarray, "_ _"]) -> np.ndarray:
    picture = np.full((*given.shape, 3), 238, dtype=np.uint8)
    for colour, where in ((HIT, given & true), (EXTRA, given & ~true), (MISSED, ~given & true)):
        picture[where] = colour[::-1]
    return picture


def _card(picture: Float[np.ndarray, "..."] | np.ndarray, words: str) -> Markup:
    scale = SIDE / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    data = cv2.imencode(".png", cv2.resize(picture, size, interpolation=how))[1].tobytes()
    address = "data:image/png;base64," + base64.b64encode(data).decode()
    return Markup(
        '<figure class="card"><img src="{}" alt=""><figcaption>{}</figcaption></figure>'
    ).format(address, words)
