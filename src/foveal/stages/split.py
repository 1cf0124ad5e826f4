"""Audit and folds: what is known before anything is trained."""

from __future__ import annotations

import json

import numpy as np

from foveal.manifest import Truth
from foveal.split import groups
from foveal.stages.open import Opened, open_study, say_why
from foveal.study import (
    Study,
    csv_text,
    is_done,
    publish,
)
from foveal.task import Context

SPLIT_FORMAT = 1


def audit(study: Study, context: Context = Context()) -> list[str]:
    """What is suspicious about the data, in plain words."""
    opened = open_study(study)
    return opened.family.audit(opened.manifest)


def split(study: Study, context: Context = Context()) -> None:
    """Assign every case to a fold."""
    opened = open_study(study)
    depends = _split_depends(opened)
    if is_done(study.split_folder, depends):
        return
    say_why("split", study.split_folder, depends, context)
    made = opened.recipe.folds(opened.manifest)
    folds = csv_text([("id", "fold"), *zip(opened.manifest.ids, made.fold.tolist(), strict=True)])
    notes = {"imbalance": made.imbalance, "notes": made.notes}
    files = {"folds.csv": folds.encode(), "split.json": json.dumps(notes).encode()}
    publish(study.split_folder, files, depends)
    for note in made.notes:
        context.say(note)


def _split_depends(opened: Opened) -> dict[str, object]:
    return {"format": SPLIT_FORMAT, "folds": opened.recipe.folds, "cases": opened.cases}


def truth_of(opened: Opened) -> Truth:
    """What decisions are fitted and judged on."""
    manifest = opened.manifest
    return Truth(
        target=opened.target,
        weight=manifest.weight,
        group=groups(manifest)[0],
        fold=opened.study.folds(manifest.ids),
        site=manifest.roles.get("site"),
    )


def fold_table(study: Study) -> list[str]:
    """How many cases of every class each fold holds, as lines of text."""
    opened = open_study(study)
    folds = study.folds(opened.manifest.ids)
    classes = np.array([" ".join(row) for row in opened.manifest.target.tolist()])
    names = np.unique(classes).tolist()
    widths = [max(len(n), 5) for n in names]
    lines = [
        "fold  " + "  ".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True)) + "  cases"
    ]
    for k in range(int(folds.max()) + 1):
        inside = classes[folds == k]
        cells = [f"{int((inside == n).sum()):>{w}}" for n, w in zip(names, widths, strict=True)]
        lines.append(f"{k:>4}  " + "  ".join(cells) + f"  {len(inside):>5}")
    return lines
