"""Audit and folds: what is known before anything is trained."""

from __future__ import annotations

import json

from foveal.errors import StudyError
from foveal.files import read_json
from foveal.manifest import Truth
from foveal.split.record import NONE, Split
from foveal.stages.open import Opened, held, open_study, say_why
from foveal.study import Study, is_done, publish
from foveal.task import Context

SPLIT_FORMAT = 6


def audit(study: Study, context: Context = Context()) -> list[str]:
    """What is suspicious about the data, in plain words."""
    opened = open_study(study)
    return opened.family.audit(opened.manifest)


def split(study: Study, context: Context = Context()) -> None:
    """Assign every case to a fold."""
    with held(study, context, "split") as context:
        opened = open_study(study)
        depends = _split_depends(opened)
        if is_done(study.split_folder, depends):
            return
        say_why("split", study.split_folder, depends, context)
        made = opened.recipe.folds(opened.manifest).require_weight(opened.manifest.weight)
        notes = {"imbalance": made.imbalance, "counted": made.counted, "notes": made.notes}
        files = {
            study.folds_file.name: made.to_csv(opened.manifest.ids).encode(),
            study.split_notes_file.name: json.dumps(notes).encode(),
        }
        publish(study.split_folder, files, depends)
        for note in made.notes:
            context.say(note)


def _split_depends(opened: Opened) -> dict[str, object]:
    return {"format": SPLIT_FORMAT, "folds": opened.recipe.folds, "cases": opened.cases}


def open_split(study: Study) -> tuple[Opened, Split]:
    """A study with a row a unit, as `split` cut its cases, and the folds of the units."""
    opened = open_study(study)
    made = split_of(opened)
    return opened.of(made.units(opened.manifest)), made


def split_of(opened: Opened) -> Split:
    """The folds that `split` wrote.

    Raises:
        StudyError: There are none, or they are of other cases or options.
    """
    study = opened.study
    if not is_done(study.split_folder, _split_depends(opened)):
        raise StudyError(
            f"{study.folder} has no folds as {study.settings_file.name} asks for them; cure: "
            f"{study.call('run')}"
        )
    notes = read_json(study.split_notes_file)
    made = Split.from_csv(
        study.folds_file.read_bytes().decode(),
        opened.manifest.ids,
        imbalance=notes["imbalance"],
        counted=notes["counted"],
    )
    if made is None:
        raise StudyError(f"{study.folds_file} lists other cases; cure: delete it and split again")
    return made


def truth_of(opened: Opened, made: Split) -> Truth:
    """What decisions are fitted and judged on: the truth of the cases that a fold judges."""
    whole = opened.recipe.target.truth(opened.manifest, opened.target, made)
    return whole.take(made.fold != NONE)


def fold_table(study: Study) -> list[str]:
    """How many cases of every kind each fold judges, as lines of text."""
    return split_of(open_study(study)).lines()
