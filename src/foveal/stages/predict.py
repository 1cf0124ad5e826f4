"""Answers for new cases: first the prior one, then better ones as members finish."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal import launch
from foveal.combine.blend import mean
from foveal.errors import DataError, Stopped, StudyError, UsageError, nearest
from foveal.manifest import Manifest, Source, load, read_table
from foveal.predict.deadline import Deadline
from foveal.predictions import Predictions
from foveal.stages.address import resolve
from foveal.stages.combine import is_combined
from foveal.stages.open import open_study
from foveal.stages.train import load_state, marks, resources_of, slots_of
from foveal.study import (
    Study,
    publish,
    read_json,
    revive,
)
from foveal.task import Asked, Context, Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How an answer came about."""

    row: str
    members: tuple[str, ...]
    all_members: tuple[str, ...]
    unreadable: dict[str, str]


def predict(
    study: Study,
    *,
    table: str | Path,
    images: str,
    out: str | Path,
    scores: bool = False,
    answer: str = "",
    deadline: Deadline | None = None,
    context: Context = Context(),
) -> Answered:
    """Answer for every row of a table.

    The prior answer is written first, before anything heavy is loaded; with a deadline each
    finished member rewrites the answer.

    Args:
        study: With a leaderboard.
        table: CSV or Parquet with the study's id column and those that lead to the files.
        images: Pattern over the table's columns.
        out: The answer's file.
        scores: Whether expected grades and probabilities are written too.
        answer: A row of the leaderboard; the chosen one if empty.
        deadline: When to stop working.
        context: Who is told, what may be used.

    Raises:
        StudyError: The study has no leaderboard, or it is older than its members.
        ManifestError: The table cannot be used.
    """
    answers = _answers(study)
    row = answer or answers["chosen"]
    if row not in answers["rows"]:
        raise UsageError(f'no row "{row}" in the leaderboard{nearest(row, answers["rows"])}')
    source = _source(study, table, images)
    manifest = load(source)
    asked = Asked(
        ids=manifest.ids,
        id_column=source.id,
        target_columns=study.settings().source.target,
        scores=scores,
    )
    form = revive(answers["answer"])
    path = Path(out).absolute()
    given = Given(prior=answers["prior"])
    form.write(path, asked, given)
    steps = answers["rows"][row]
    members = tuple(steps[-1]["members"])
    finished: dict[str, Predictions] = {}
    reached: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as scratch:

        def hear(number: int, event: Mapping[str, Any]) -> None:
            nonlocal reached
            if "scored" not in event:
                return
            finished[members[number]] = Predictions.open(Path(event["scored"]))
            context.progress("scoring", len(finished) / len(members), members[number])
            ready = [s for s in steps if set(s["members"]) <= set(finished)]
            if ready and (deadline is not None or len(finished) == len(members)):
                form.write(path, asked, _given(ready[-1], finished, answers["prior"]))
                reached = tuple(ready[-1]["members"])

        try:
            _score_all(study, source, members, answers, Path(scratch), deadline, context, hear)
        except Stopped:
            if deadline is None or not deadline.passed():
                raise
    missing = [n for n in manifest.ids if finished and n not in _ids(finished)]
    return Answered(
        row=row,
        members=reached,
        all_members=members,
        unreadable=_reasons(study.settings().recipe, manifest, missing),
    )


def _answers(study: Study) -> dict[str, Any]:
    """What every row of the leaderboard needs to answer."""
    if not is_combined(study.require()):
        raise StudyError(f"{study.folder} has no leaderboard yet; cure: foveal run {study.folder}")
    return read_json(study.combine_folder / "answers.json")


def _source(study: Study, table: str | Path, images: str) -> Source:
    """Where new cases are, in the study's terms; its site column is used where it is there."""
    source = Source(table=str(table), images=images, id=study.manifest().id_column).absolute()
    site = study.settings().source.site
    has_site = bool(site) and site in read_table(Path(source.table))
    return replace(source, site=site) if has_site else source


def _score_all(
    study: Study,
    source: Source,
    members: Sequence[str],
    answers: Mapping[str, Any],
    scratch: Path,
    deadline: Deadline | None,
    context: Context,
    hear: Callable[[int, Mapping[str, Any]], None],
) -> None:
    slots = slots_of(context)
    calls = [
        {
            "study": str(study.folder),
            "member": name,
            "trained": answers["jobs"][name],
            "source": dataclasses.asdict(replace(source, target=())),
            "scratch": str(scratch),
            "threads": max(1, launch.cores() // max(len(slots), 1)),
        }
        for name in members
    ]
    launch.side_by_side(
        score_job,
        calls,
        slots=slots,
        log=scratch / "log.txt",
        should_stop=lambda: context.should_stop() or (deadline is not None and deadline.passed()),
        on_event=hear,
        grace_seconds=0.0 if deadline is not None else launch.GRACE_SECONDS,
    )


def _ids(finished: Mapping[str, Predictions]) -> set[str]:
    return set.intersection(*(set(p.ids) for p in finished.values()))


def _given(
    step: Mapping[str, Any], finished: Mapping[str, Predictions], prior: Mapping[str, Any]
) -> Given:
    parts = [finished[m] for m in step["members"]]
    common = _ids(dict(zip(step["members"], parts, strict=True)))
    ids = [name for name in parts[0].ids if name in common]
    if not ids:
        return Given(prior=prior)
    joined = revive(step["blend"])([p.take(ids) for p in parts])
    return Given(
        ids=tuple(ids),
        labels=revive(step["decode"])(joined),
        predictions=joined,
        probabilities=revive(step["probabilities"]),
        prior=prior,
    )


def _reasons(recipe: str, manifest: Manifest, ids: Sequence[str]) -> dict[str, str]:
    """Why cases could not be read."""
    if not ids:
        return {}
    family, _ = resolve(recipe)
    place = {name: k for k, name in enumerate(manifest.ids)}
    reasons = {}
    for name in ids:
        try:
            family.survey(manifest.case(place[name]))
            reasons[name] = f"{manifest.paths[place[name]][0]}: other channels than the study's"
        except DataError as error:
            reasons[name] = str(error)
    return reasons


def score_job(
    channel: launch.Channel,
    *,
    study: str,
    member: str,
    trained: Sequence[str],
    source: Mapping[str, Any],
    scratch: str,
    device: str,
    threads: int,
) -> None:
    """Score new cases with all fold models of a member. Runs in a process of its own."""
    opened = open_study(Study(Path(study)))
    (chosen,) = [m for m in opened.recipe.members if m.name == member]
    if marks(opened.study, member, len(trained)) != list(trained):
        raise StudyError(
            f"{member} was trained anew since the leaderboard was made; "
            f"cure: foveal combine {study}"
        )
    manifest = load(Source(**source))
    states = [load_state(opened.study.job_folder(member, k)) for k in range(len(trained))]
    resources = resources_of(opened, device=device, threads=threads, stop=channel.should_stop)
    resources = replace(resources, cache=Path(scratch) / "cache")
    rows = np.arange(len(manifest))
    scores = mean(chosen.score(states, manifest.cases(), rows, resources))
    folder = Path(scratch) / member
    publish(folder, scores.files(), {})
    channel.report({"scored": str(folder)})
