"""Leaderboard, cuts and the row that answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.combine.leaderboard import Entry, Leaderboard, fits, leave_one_fold_out, rank
from foveal.digests import describe, digest
from foveal.errors import StudyError
from foveal.files import csv_text, read_json
from foveal.manifest import Truth
from foveal.predictions import Predictions
from foveal.settings import Settings
from foveal.split.record import Split
from foveal.stages.open import Opened, held, say_why
from foveal.stages.progress import Steps
from foveal.stages.split import SPLIT_FORMAT, open_split, truth_of
from foveal.stages.train import TRAIN_FORMAT, is_trained, marks, out_of_fold, place, why_not
from foveal.study import DONE, NOTES, Study, changed, is_done, publish
from foveal.task import Context, Recipe

COMBINE_FORMAT = 11


def combine(study: Study, context: Context = Context()) -> Leaderboard | None:
    """Judge members and ensembles, choose one, and fit every row on all out-of-fold scores.

    Returns:
        The leaderboard, or None where it was made before.

    Raises:
        StudyError: A member is not trained yet.
        Stopped: The signal came.
    """
    with held(study, context, "combine") as context:
        opened, made = open_split(study)
        recipe = opened.recipe
        pending = [
            f"{m.name} fold {k}"
            for m in recipe.members
            for k in range(made.folds)
            if not is_done(*place(opened, made, m, k))
        ]
        if pending:
            raise StudyError(
                f"{len(pending)} trainings are not done; cure: {study.call('train')}", pending
            )
        depends = _combine_depends(opened, made)
        if is_done(study.combine_folder, depends):
            return None
        say_why("combine", study.combine_folder, depends, context)
        truth = truth_of(opened, made)
        predictions = {m.name: out_of_fold(opened, m.name, made) for m in recipe.members}
        _say_devices(opened, made, context)
        listed = entries(recipe)
        step = Steps("judging", fits(listed, truth) + len(listed), context)
        board = rank(
            listed,
            predictions,
            truth,
            metric=recipe.metric,
            floor=recipe.floor,
            ask=step,
        )
        fitted = {}
        for row in board.rows:
            step()
            steps = _fit_steps(row.entry, predictions, truth, recipe)
            fitted[row.entry.name] = [*steps[:-1], {**steps[-1], "score": _finite(row.score)}]
        chosen = board.rows[board.chosen]
        answers = {
            "chosen": chosen.entry.name,
            "described": digest_of_description(opened.settings),
            "answer": describe(recipe.answer),
            "prior": recipe.answer.prior(opened.target, opened.manifest.weight),
            "jobs": {m.name: marks(study, m.name, made.folds) for m in recipe.members},
            "devices": {m.name: m.device for m in recipe.members},
            "rows": fitted,
        }
        files = {
            study.leaderboard_file.name: json.dumps(
                _board_json(board, recipe.metric.name), indent=1, allow_nan=False
            ).encode(),
            study.leaderboard_file.with_suffix(".csv").name: _board_csv(board).encode(),
            study.out_of_fold_file.name: _oof_csv(recipe, truth, board, predictions).encode(),
            study.answers_file.name: json.dumps(answers).encode(),
        }
        publish(study.combine_folder, files, depends)
        return board


def _say_devices(opened: Opened, made: Split, context: Context) -> None:
    """Say where trainings of a member computed on other kinds of device, which changes bits."""
    for member in opened.recipe.members:
        folders = [opened.study.job_folder(member.name, k) for k in range(made.folds)]
        kinds = sorted({str(read_json(f / NOTES).get("device", "")) for f in folders} - {""})
        if len(kinds) > 1:
            context.warn(
                f"{member.name} was trained on {' and '.join(kinds)}: a study made anew would "
                "answer a little otherwise; cure: delete its folder under members/, and foveal run",
                [],
            )


def _combine_depends(opened: Opened, made: Split) -> dict[str, object]:
    """What decisions depend on; tables, weights and folds stand in the marks of the members."""
    recipe = opened.recipe
    return {
        "format": COMBINE_FORMAT,
        "decode": recipe.decode,
        "blends": recipe.blends,
        "metric": recipe.metric,
        "probabilities": recipe.probabilities,
        "answer": recipe.answer,
        "floor": recipe.floor,
        "target": recipe.target,
        "members": [(m.name, marks(opened.study, m.name, made.folds)) for m in recipe.members],
    }


def entries(recipe: Recipe) -> list[Entry]:
    """The rows of the leaderboard: every member, all of a kind, and all, each blended."""
    every = tuple(m.name for m in recipe.members)
    kinds: dict[str, tuple[str, ...]] = {}
    for member in recipe.members:
        kinds[member.kind] = (*kinds.get(member.kind, ()), member.name)
    joined = {kind: names for kind, names in kinds.items() if 1 < len(names) < len(every)}
    if len(every) > 1:
        joined["all"] = every
    alone = recipe.blends[0]
    rows = [
        Entry(name=m.name, members=(m.name,), blend=alone, decode=recipe.decode)
        for m in recipe.members
    ]
    for blend in recipe.blends:
        for label, members in joined.items():
            name = f"{blend.name} of {label}"
            rows.append(Entry(name=name, members=members, blend=blend, decode=recipe.decode))
    return rows


def _fit_steps(
    entry: Entry, predictions: dict[str, Predictions], truth: Truth, recipe: Recipe
) -> list[dict[str, Any]]:
    """The row fitted on its first member, its first two, ... all: what a deadline may leave."""
    steps = []
    for k in range(1, len(entry.members) + 1):
        part = replace(entry, members=entry.members[:k])
        blend, decode = part.fit(predictions, truth)
        joined = blend([predictions[m] for m in part.members])
        steps.append(
            {
                "members": list(part.members),
                "blend": describe(blend),
                "decode": describe(decode),
                "probabilities": describe(recipe.probabilities.fit(joined, truth)),
            }
        )
    return steps


def _board_json(board: Leaderboard, metric: str) -> dict[str, Any]:
    """The leaderboard; null where there is no score or interval, for JSON has no nan."""
    nested = board.nested_interval
    return {
        "metric": metric,
        "chosen": board.rows[board.chosen].entry.name,
        "nested": None if board.nested is None else _finite(board.nested),
        "nested_interval": None if nested is None else list(map(_finite, nested)),
        "rows": [
            {
                "name": row.entry.name,
                "members": row.entry.members,
                "score": _finite(row.score),
                "interval": list(map(_finite, row.interval)),
                "folds": {str(k): _finite(v) for k, v in row.folds.items()},
                "sites": {site: _finite(v) for site, v in row.sites.items()},
                "seconds": row.seconds,
                "below_floor": row.below_floor,
            }
            for row in board.rows
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _board_csv(board: Leaderboard) -> str:
    first = board.rows[0]
    parts = [f"fold {k}" for k in first.folds] + [f"site {s}" for s in first.sites]
    cost = "seconds_per_case_and_fold_model"
    names = ("row", "members", "score", "low", "high", *parts, cost, "chosen", "mark")
    table: list[Sequence[object]] = [names]
    for k, row in enumerate(board.rows):
        scores = [*row.folds.values(), *row.sites.values()]
        table.append(
            [
                row.entry.name,
                "+".join(row.entry.members),
                *(f"{v:.4f}" for v in (row.score, *row.interval, *scores)),
                f"{row.seconds:.4f}",
                "chosen" if k == board.chosen else "",
                "below the floor" if row.below_floor else "",
            ]
        )
    return csv_text(table)


def _oof_csv(
    recipe: Recipe, truth: Truth, board: Leaderboard, predictions: dict[str, Predictions]
) -> str:
    """Every case with its fold and what the answer's form tells of it, by the chosen row.

    Scores are as much out of fold as labels are: by a blend that was fitted on the other folds.
    """
    chosen = board.rows[board.chosen].entry
    names: tuple[str, ...] = ()
    lines: dict[int, tuple[object, ...]] = {}
    for part in leave_one_fold_out({m: predictions[m] for m in chosen.members}, truth):
        scores, labels = part.decided(chosen)
        of = truth.take(part.judged)
        told = recipe.answer.out_of_fold(labels, scores, of)
        names = ("id", "fold", *told)
        cells = zip(scores.ids, of.fold.tolist(), *told.values(), strict=True)
        lines |= dict(zip(part.judged.tolist(), cells, strict=True))
    return csv_text([names, *(lines[r] for r in sorted(lines))])


def digest_of_description(settings: Settings) -> str:
    """Of all that a person may edit; where it is the same, a leaderboard need not be looked at."""
    place = Path(settings.recipe.rpartition(":")[0])
    is_own = place.suffix == ".py" and place.is_file()
    return digest(
        (SPLIT_FORMAT, TRAIN_FORMAT, COMBINE_FORMAT),
        settings.recipe,
        hashlib.sha256(place.read_bytes()).hexdigest() if is_own else "",
        dict(settings.options),
        settings.facts,
        settings.checked,
    )


def has_leaderboard(study: Study) -> bool:
    """Whether a leaderboard was made, of whatever options."""
    return (study.combine_folder / DONE).is_file()


def require_combined(opened: Opened, made: Split) -> None:
    """Go on where the leaderboard is of the study as it is described now.

    Raises:
        StudyError: There is none, or it is older than the study's options or members.
    """
    folder = opened.study.folder
    if not has_leaderboard(opened.study):
        raise StudyError(f"{folder} has no leaderboard yet; cure: {opened.study.call('run')}")
    depends = _combine_depends(opened, made)
    for member in opened.recipe.members:
        if not is_trained(opened, made, member):
            why = why_not(opened, made, member)
            raise StudyError(
                f"the leaderboard of {folder} is of other trainings ({member.name}: {why}); "
                f"cure: {opened.study.call('run')}"
            )
    if not is_done(opened.study.combine_folder, depends):
        why = ", ".join(changed(opened.study.combine_folder, depends)) or "its files"
        raise StudyError(
            f"the leaderboard of {folder} is older than its options (changed: {why}); "
            f"cure: {opened.study.call('run')}"
        )
