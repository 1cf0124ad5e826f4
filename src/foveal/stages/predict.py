"""Answers for new cases: first the prior one, then better ones as members finish."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal import launch
from foveal.combine.blend import mean
from foveal.digests import revive
from foveal.errors import (
    DiskFullError,
    FovealError,
    ManifestError,
    Stopped,
    StudyError,
    UsageError,
    nearest,
)
from foveal.files import read_json
from foveal.machine import cores, one_thread
from foveal.manifest import Manifest, load
from foveal.predict.deadline import Deadline
from foveal.predictions import Predictions
from foveal.stages.address import import_own
from foveal.stages.combine import digest_of_description, has_leaderboard, require_combined
from foveal.stages.place import keep_what_is_read, require_place, scratch_beside
from foveal.stages.progress import PREPARING
from foveal.stages.split import open_split
from foveal.stages.train import is_trained, load_state, marks, resources_of, slots_of, why_not
from foveal.study import Study, is_whole, publish
from foveal.table import CHANNEL, NO_PATH, NOWHERE, Source, answer_with_prior, read_table
from foveal.task import Answer, Asked, Context, Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How an answer came about.

    Attributes:
        row: Of the leaderboard.
        members: Whose answer it is.
        all_members: Of the row; a deadline may leave some out.
        unreadable: Why cases were not scored, by id.
        cases: How many were asked for.
    """

    row: str
    members: tuple[str, ...]
    all_members: tuple[str, ...]
    unreadable: dict[str, str]
    cases: int


def predict(
    study: Study,
    *,
    table: str | Path,
    out: str | Path,
    images: str = "",
    scores: bool = False,
    answer: str = "",
    deadline: Deadline | None = None,
    context: Context = Context(),
) -> Answered:
    """Answer for every row of a table.

    With a deadline the prior answer is written first, before anything heavy is loaded, and each
    finished member rewrites it; without one the answer is written once, when all are done.

    Args:
        study: With a leaderboard.
        table: CSV or Parquet with the study's id column and those that lead to the files.
        out: The answer's file or folder; what a link leads to is written.
        images: Pattern over the table's columns; none where the study's columns are paths.
        scores: Whether scores and probabilities are written too.
        answer: A row of the leaderboard; the chosen one if empty.
        deadline: When to stop working.
        context: Who is told, what may be used.

    Raises:
        StudyError: The study has no leaderboard, or it is older than its members.
        ManifestError: The table cannot be used.
        UsageError: The answer would replace what is read, or there is no place for it.
    """
    answers = _answers(study)
    row = answer or answers["chosen"]
    if row not in answers["rows"]:
        raise UsageError(f'no row "{row}" in the leaderboard{nearest(row, answers["rows"])}')
    source = _source(study, table, images)
    manifest = load(source, answer_with_prior)
    asked = Asked(
        ids=manifest.ids,
        cases=tuple(manifest.cases()),
        id_column=source.id,
        target_columns=study.settings().source.target,
        scores=scores,
    )
    import_own(study.settings().recipe)
    form = revive(answers["answer"])
    path = Path(os.path.realpath(out))  # what a link leads to is written, and the link stays
    writes = form.files(path, asked)
    named = form.files(Path(out), asked)  # a link may be a picture's name, wherever it leads
    keep_what_is_read([*writes, *named], study, Path(table), asked.cases)
    require_place(Path(out), writes)
    growing = _Growing(
        path=path,
        form=form,
        asked=asked,
        prior=answers["prior"],
        steps=_steps(answers["rows"], row),
        deadline=deadline,
        progress=context.progress,
        warn=context.warn,
    )
    for name in growing.members:
        _require_unchanged(study, name, answers["jobs"][name])
    if context.device == "cuda":
        slots_of(context)  # which takes a while, and refuses where there is none
    with scratch_beside(writes[0].parent) as scratch, one_thread():
        if answers.get("described") == digest_of_description(study.settings()):
            growing.begin()  # else jobs look whether the leaderboard is of what is described now
        _say_strangers(study, manifest, context)
        try:
            _score_all(study, source, growing, answers, scratch, context)
        except Stopped:
            if deadline is None or not deadline.passed(growing.write_seconds):
                raise Stopped("stopped; scores are not kept, the same call begins anew") from None
            growing.begin()
    if growing.failed and not growing.reached:
        raise growing.failed[0]
    if growing.doubts:
        told = [f'id "{name}": {why}' for name, why in growing.doubts.items()]
        context.warn(f"{len(told)} answers are doubtful", told)
    answered = {name: growing.finished[name] for name in growing.reached}
    scored = _ids(answered) if answered else {*manifest.ids}
    growing.left_out |= {
        case.id: NO_PATH for case in asked.cases if any(p.endswith(NOWHERE) for p in case.paths)
    }
    missing = [name for name in manifest.ids if name not in scored]
    return Answered(
        row=row,
        members=growing.reached,
        all_members=growing.members,
        unreadable={name: growing.left_out.get(name, "it was not scored") for name in missing},
        cases=len(manifest),
    )


def _say_strangers(study: Study, manifest: Manifest, context: Context) -> None:
    """Say which cases are of no site that the study knows: they get what all sites share."""
    known, column = study.settings().facts.sites, study.settings().source.site
    sites = manifest.roles.get("site", np.full(len(manifest), "")).tolist()
    strange = sorted({*sites} - {*known, ""})
    if known and (absent := sites.count("")):
        context.warn(f'{absent} cases say no "{column}" and get what all sites share', [])
    if strange:
        context.warn(f"{len(strange)} sites that the study never saw get what all share", strange)


@dataclass(slots=True, kw_only=True)
class _Growing:
    """An answer that is written again as members finish.

    Attributes:
        path: Of the answer.
        form: Writes it.
        asked: What is to be answered.
        prior: The answer where nothing is known.
        steps: The row that answers, before it what fewer of its members can say, fewest first.
        deadline: Until which each better step is written; without one the last alone is.
        progress: Who is told how far it is.
        warn: Told which members cannot answer.
        has_begun: Whether anything was written.
        write_seconds: That the longest write took.
        failed: Why members cannot answer.
        finished: Scores of the members that are done.
        shares: Of the cases, that each member has scored.
        reached: The members whose answer is written.
        left_out: Why cases were not scored.
        doubts: Why what is said of other cases may be wrong.
    """

    path: Path
    form: Answer
    asked: Asked
    prior: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    deadline: Deadline | None
    progress: Callable[[str, float, str], None]
    warn: Callable[[str, Sequence[str]], None]
    has_begun: bool = False
    write_seconds: float = 0.0
    failed: list[FovealError] = field(default_factory=list)
    finished: dict[str, Predictions] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    reached: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """All that the row needs."""
        return tuple(self.steps[-1]["members"])

    def begin(self) -> None:
        """With a deadline write the prior answer, unless it was."""
        if self.deadline is not None and not self.has_begun:
            self.write(Given(prior=self.prior))

    def write(self, given: Given) -> None:
        """Write an answer and remember how long it took."""
        started = time.monotonic()
        self.form.write(self.path, self.asked, given)
        self.has_begun = True
        self.write_seconds = max(self.write_seconds, time.monotonic() - started)

    def hear(self, number: int, event: Mapping[str, Any]) -> None:
        """Take the scores of a member, and write the best answer that can be given with them."""
        self.left_out |= event.get("left_out", {})
        self.doubts |= event.get("doubts", {})
        if "sound" in event:
            self.begin()
        if "prepared" in event:
            self.progress(PREPARING, event["prepared"], "")
        if "looked_at" in event:
            self.tell(number, event["looked_at"])
        if "scored" not in event:
            return
        self.finished[self.members[number]] = Predictions.open(Path(event["scored"]))
        self.tell(number, 1.0, self.members[number])
        ready = [s for s in self.steps if set(s["members"]) <= set(self.finished)]
        if ready and self._is_to_be_written():
            self.write(_given(ready[-1], self.finished, self.asked, self.prior))
            self.reached = tuple(ready[-1]["members"])

    def tell(self, number: int, share: float, words: str = "") -> None:
        """Pass on how much a member has scored."""
        self.shares[number] = share
        self.progress("scoring", sum(self.shares.values()) / len(self.members), words)

    def _is_to_be_written(self) -> bool:
        """Whether there is time for a step, or it is the last."""
        if self.deadline is None:
            return len(self.finished) == len(self.members)
        return self.deadline.has_time_for(2 * self.write_seconds)  # more is in it than in the prior

    def spares(self, number: int, error: FovealError) -> bool:
        """Whether the others go on: under a deadline, unless the study itself is at fault."""
        is_of_all = isinstance(error, (StudyError, UsageError, Stopped))
        if self.deadline is None or (is_of_all and not isinstance(error, DiskFullError)):
            return False
        self.failed.append(error)
        self.warn(f"{self.members[number]} cannot answer: {error}", [])
        return True


def _steps(rows: Mapping[str, Sequence[Mapping[str, Any]]], row: str) -> list[Mapping[str, Any]]:
    """What a row and others can say with some of its members, whichever finish first.

    Of as many members the row of the higher score comes later, and so is written in place of the
    other; what has no score, a row's own first members, comes before them.
    """
    own = rows[row]
    every = {*own[-1]["members"]}
    others = [steps[-1] for steps in rows.values() if {*steps[-1]["members"]} < every]

    def worth(step: Mapping[str, Any]) -> tuple[int, float]:
        score = step.get("score")
        return len(step["members"]), -math.inf if score is None else score

    return sorted([*own[:-1], *others, own[-1]], key=worth)


def _answers(study: Study) -> dict[str, Any]:
    """What every row of the leaderboard needs to answer."""
    if not has_leaderboard(study.require()):
        raise StudyError(f"{study.folder} has no leaderboard yet; cure: {study.call('run')}")
    return read_json(study.answers_file)


def _source(study: Study, table: str | Path, images: str) -> Source:
    """Where new cases are, in the study's terms; its site column is used where it is there."""
    old, has = study.settings().source, read_table(Path(table))
    id_column = study.manifest().id_column
    if has and id_column not in has:
        raise ManifestError(
            f'{table} has no column "{id_column}", by which the study names its cases'
            f"{nearest(id_column, has)}"
        )
    if old.images and not images:
        raise UsageError("this study needs --images, such as --images 'new/{image}'")
    if images and not old.images:
        raise UsageError(f"this study takes no --images: {', '.join(old.files)} are paths")
    if CHANNEL in old.images and CHANNEL not in images:
        raise UsageError(f"this study has a file a channel; cure: {CHANNEL} in --images")
    return Source(
        table=str(table),
        images=images,
        files=tuple(
            name
            for name in old.files
            if name not in old.target and (name in has or name not in old.optional)
        ),
        optional=old.optional,
        channels=old.channels,
        id=id_column,
        site=old.site if old.site in has else "",
    ).absolute()


def _score_all(
    study: Study,
    source: Source,
    growing: _Growing,
    answers: Mapping[str, Any],
    scratch: Path,
    context: Context,
) -> None:
    slots = slots_of(context)
    devices = answers.get("devices", {})  # none before they were written; the jobs will refuse it
    calls = [
        {
            "study": str(study.folder),
            "member": name,
            "trained": answers["jobs"][name],
            "source": dataclasses.asdict(replace(source, target=())),
            "scratch": str(scratch),
            "threads": max(1, cores() // max(len(slots), 1)),
        }
        for name in growing.members
    ]

    def is_late() -> bool:
        return growing.deadline is not None and growing.deadline.passed(growing.write_seconds)

    with _log(study) as log:
        launch.side_by_side(
            score_job,
            calls,
            slots=slots,
            log=log,
            should_stop=lambda: context.should_stop() or is_late(),
            on_event=growing.hear,
            kinds=[devices.get(name, "") for name in growing.members],
            grace_seconds=launch.GRACE_SECONDS if growing.deadline is None else 0.0,
            spares=growing.spares,
        )


@contextmanager
def _log(study: Study) -> Iterator[Path]:
    """Where tracebacks go: a study may lie where nobody may write, then a folder that errors name.

    Without an error it is gone afterwards.
    """
    if os.access(study.folder, os.W_OK):
        yield study.log_file
        return
    folder = Path(tempfile.mkdtemp(prefix="foveal-"))
    yield folder / "log.txt"
    shutil.rmtree(folder)


def _ids(finished: Mapping[str, Predictions]) -> set[str]:
    return set.intersection(*(set(p.ids) for p in finished.values()))


def _given(
    step: Mapping[str, Any],
    finished: Mapping[str, Predictions],
    asked: Asked,
    prior: Mapping[str, Any],
) -> Given:
    parts = [finished[m] for m in step["members"]]
    common = _ids(dict(zip(step["members"], parts, strict=True)))
    ids = [name for name in parts[0].ids if name in common]
    if not ids:
        return Given(prior=prior)
    joined = revive(step["blend"])([p.take(ids) for p in parts])
    return Given(
        ids=tuple(ids),
        labels=revive(step["decode"])(joined, _sites(asked, ids)),
        predictions=joined,
        probabilities=revive(step["probabilities"]),
        prior=prior,
    )


def _sites(asked: Asked, ids: Sequence[str]) -> np.ndarray | None:
    """Where cases are from; an empty text for one that does not say, None where none does."""
    of = {case.id: case.site or "" for case in asked.cases}
    sites = np.array([of[name] for name in ids], dtype=np.str_)
    return sites if (sites != "").any() else None


def _require_unchanged(study: Study, member: str, trained: Sequence[str]) -> None:
    """Raise where fold models are not those that the leaderboard was made of."""
    folders = [study.job_folder(member, k) for k in range(len(trained))]
    if not all(map(is_whole, folders)):
        raise StudyError(
            f"{member}: files are missing or damaged; cure: {study.call('run')}",
            [str(folder) for folder in folders if not is_whole(folder)],
        )
    if marks(study, member, len(trained)) != list(trained):
        raise StudyError(
            f"{member} was trained anew since the leaderboard was made; "
            f"cure: {study.call('combine')}"
        )


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
    opened, made = open_split(Study(Path(study)))
    _require_unchanged(opened.study, member, trained)
    chosen = next((m for m in opened.recipe.members if m.name == member), None)
    if chosen is None or not is_trained(opened, made, chosen):
        why = "it is no member any more" if chosen is None else why_not(opened, made, chosen)
        cures = f"{opened.study.call('run')}, or {opened.study.settings_file} as it was"
        raise StudyError(f"{member} was trained with something else ({why}); cure: {cures}")
    require_combined(opened, made)
    channel.report({"sound": True})
    states = [load_state(opened.study.job_folder(member, k)) for k in range(len(trained))]
    _require_unchanged(opened.study, member, trained)  # nor while they were read
    manifest = load(Source(**source), answer_with_prior)
    resources = resources_of(opened, channel, device=device, threads=threads)
    left_out: dict[str, str] = {}
    doubts: dict[str, str] = {}
    resources = replace(
        resources,
        cache=Path(scratch) / "cache",
        once=True,
        left_out=lambda case, why: left_out.update({case.id: why}),
        doubt=lambda case, why: doubts.update({case.id: why}),
    )
    rows = np.arange(len(manifest))
    score = partial(chosen.score, states, manifest.cases(), rows)
    try:
        found = score(resources)
    except DiskFullError:  # then pictures are read whenever they are looked at
        found = score(replace(resources, cache_bytes=0))
    folder = Path(scratch) / member
    scores = mean(found)
    left_out |= dict.fromkeys(scores.not_numbers(), f"the scores of {member} are no numbers")
    publish(folder, scores.take([n for n in scores.ids if n not in left_out]).files(), {})
    channel.report({"scored": str(folder), "left_out": left_out, "doubts": doubts})
