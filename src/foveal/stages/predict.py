"""Answers for new cases: first the prior one, then better ones as members finish."""

from __future__ import annotations

import dataclasses
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal import launch
from foveal.combine.blend import mean
from foveal.digests import revive
from foveal.errors import DiskFullError, ManifestError, Stopped, StudyError, UsageError, nearest
from foveal.files import disk_error, read_json
from foveal.machine import cores, one_thread
from foveal.manifest import Case, Manifest, load
from foveal.predict.deadline import Deadline
from foveal.predictions import Predictions
from foveal.stages.combine import has_leaderboard, require_combined
from foveal.stages.split import open_split
from foveal.stages.train import is_trained, load_state, marks, resources_of, slots_of, why_not
from foveal.study import Study, publish
from foveal.table import CHANNEL, NO_PATH, NOWHERE, Source, answer_with_prior, read_table
from foveal.task import Answer, Asked, Context, Given

STREAMS = ("/dev/std", "/dev/fd/", "/proc/")
"""How the names of open files begin, also of those that lead to a regular file by now."""

LONGEST_NAME = 230
"""Bytes of a file's name that every file system takes, with room for what is put around it while it
is written."""

SCRATCH = ".foveal-scratch-"
"""How the name of a folder begins that a killed call leaves behind, free to delete."""


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
    form = revive(answers["answer"])
    path = Path(os.path.realpath(out))  # what a link leads to is written, and the link stays
    writes = form.files(path, asked)
    named = form.files(Path(out), asked)  # a link may be a picture's name, wherever it leads
    _keep_what_is_read([*writes, *named], study, Path(table), asked.cases)
    _require_place(Path(out), writes)
    growing = _Growing(
        path=path,
        form=form,
        asked=asked,
        prior=answers["prior"],
        steps=_steps(answers["rows"], row),
        is_anytime=deadline is not None,
        progress=context.progress,
    )
    if growing.is_anytime:
        growing.write(Given(prior=growing.prior))
    _say_strangers(study, manifest, context)
    with _scratch(writes[0].parent) as scratch, one_thread():
        try:
            _score_all(study, source, growing, answers, scratch, deadline, context)
        except Stopped:
            if deadline is None or not deadline.passed():
                raise
    finished = growing.finished
    scored = _ids(finished) if finished else {*manifest.ids}
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


def _keep_what_is_read(
    writes: Sequence[Path], study: Study, table: Path, cases: Sequence[Case]
) -> None:
    """Refuse an answer that would replace a file which is read, or lie among the slices of one.

    That is the study's own table and files too. Of pictures only the text of their paths is looked
    at, and where their folders are: there may be many, far away.
    """
    source, known = study.settings().source, study.manifest()
    own = (table, Path(source.table), study.folder, study.settings_file, study.manifest_file)
    read = {path.resolve() for path in own}
    stages = {path.resolve() for path in study.stage_folders}
    targets = [k for k, name in enumerate(known.target_columns) if name in source.files]
    named = [known.target[:, k] for k in targets] + [known.roles.get("mask", np.zeros(0, np.str_))]
    files = {path for paths in known.paths for path in paths}.union(*(n.tolist() for n in named))
    places = _spelled({*files, *(path for case in cases for path in case.paths)} - {""})
    patterns = [place for place in places if glob.has_magic(place)]
    for path in writes:
        spelled = _spelled([str(path.absolute())])
        folders = {str(Path(here).parent) for here in spelled}
        is_among = folders & places or any(fnmatch(h, p) for p in patterns for h in spelled)
        is_own = path.resolve() in read or stages & {*path.resolve().parents}
        if is_own or spelled & places or is_among:
            raise UsageError(
                f"--out would write over what is read, or among it: {path}; cure: another place"
            )


def _spelled(paths: Iterable[str]) -> set[str]:
    """Absolute paths as they are written, and with the links of their folders followed."""
    parts = {os.path.normpath(path).rpartition("/") for path in paths}
    real = {folder: os.path.realpath(folder or "/") for folder, _, _ in parts}
    plain = {f"{folder}/{name}" for folder, _, name in parts}
    return plain | {f"{real[folder].rstrip('/')}/{name}" for folder, _, name in parts}


def _require_place(out: Path, writes: Sequence[Path]) -> None:
    """Refuse an answer that could not be written, before anything is scored.

    Raises:
        UsageError: Something else is where a file or a folder is wanted, or nobody may write there.
    """
    is_stream = os.path.normpath(out.absolute()).startswith(STREAMS)
    taken = [p for p in writes if os.path.lexists(p) and not p.is_file()]
    if is_stream or taken:
        raise UsageError(
            f"--out: {out if is_stream else taken[0]} is a folder, a device or a stream, where a "
            "file is wanted; cure: another name"
        )
    if too_long := [p.name for p in writes if len(os.fsencode(p.name)) > LONGEST_NAME]:
        raise UsageError(
            f"ids make names of files that are too long: {too_long[0]}; cure: shorter ids"
        )
    for folder in dict.fromkeys(_standing(p.parent) for p in writes):
        if not folder.is_dir():
            raise UsageError(f"--out: {folder} is no folder; cure: another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"--out: {folder} cannot be written; cure: another place")


def _standing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(p for p in (folder, *folder.parents) if os.path.lexists(p))


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """A folder for what scoring makes on the way, beside the answer and gone when all is done.

    The system's temporary folder is often memory, or small.
    """
    folder = _standing(beside)
    try:
        made = tempfile.TemporaryDirectory(
            prefix=SCRATCH,
            dir=folder,
            ignore_cleanup_errors=True,  # scores are still mapped
        )
    except OSError as error:
        raise disk_error(folder, error) from error
    with made as name:
        yield Path(name)


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
        is_anytime: Whether a step may be written before the last.
        progress: Who is told.
        finished: Scores of the members that are done.
        reached: The members whose answer is written.
        left_out: Why cases were not scored.
    """

    path: Path
    form: Answer
    asked: Asked
    prior: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    is_anytime: bool
    progress: Callable[[str, float, str], None]
    finished: dict[str, Predictions] = field(default_factory=dict)
    reached: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """All that the row needs."""
        return tuple(self.steps[-1]["members"])

    def write(self, given: Given) -> None:
        self.form.write(self.path, self.asked, given)

    def hear(self, number: int, event: Mapping[str, Any]) -> None:
        """Take the scores of a member, and write the best answer that can be given with them."""
        self.left_out |= event.get("left_out", {})
        if "scored" not in event:
            return
        self.finished[self.members[number]] = Predictions.open(Path(event["scored"]))
        self.progress("scoring", len(self.finished) / len(self.members), self.members[number])
        ready = [s for s in self.steps if set(s["members"]) <= set(self.finished)]
        if ready and (self.is_anytime or len(self.finished) == len(self.members)):
            self.write(_given(ready[-1], self.finished, self.asked, self.prior))
            self.reached = tuple(ready[-1]["members"])


def _steps(rows: Mapping[str, Sequence[Mapping[str, Any]]], row: str) -> list[Mapping[str, Any]]:
    """What a row and others can say with some of its members, whichever finish first."""
    own = rows[row]
    every = {*own[-1]["members"]}
    others = [steps[-1] for steps in rows.values() if {*steps[-1]["members"]} < every]
    return sorted([*others, *own], key=lambda step: len(step["members"]))


def _answers(study: Study) -> dict[str, Any]:
    """What every row of the leaderboard needs to answer."""
    if not has_leaderboard(study.require()):
        raise StudyError(f"{study.folder} has no leaderboard yet; cure: foveal run {study.folder}")
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
    deadline: Deadline | None,
    context: Context,
) -> None:
    slots = slots_of(context)
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
    launch.side_by_side(
        score_job,
        calls,
        slots=slots,
        log=_log(study),
        should_stop=lambda: context.should_stop() or (deadline is not None and deadline.passed()),
        on_event=growing.hear,
        grace_seconds=0.0 if deadline is not None else launch.GRACE_SECONDS,
    )


def _log(study: Study) -> Path:
    """Where tracebacks go: a bundle may lie where nobody may write."""
    if os.access(study.folder, os.W_OK):
        return study.log_file
    return Path(tempfile.mkdtemp(prefix="foveal-")) / "log.txt"


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
    if marks(study, member, len(trained)) != list(trained):
        raise StudyError(
            f"{member} was trained anew since the leaderboard was made; "
            f"cure: foveal combine {study.folder}"
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
        raise StudyError(
            f"{member} was trained with something else ({why}); cure: foveal run {study}, or "
            f"{opened.study.settings_file} as it was"
        )
    require_combined(opened, made)
    states = [load_state(opened.study.job_folder(member, k)) for k in range(len(trained))]
    _require_unchanged(opened.study, member, trained)  # nor while they were read
    manifest = load(Source(**source), answer_with_prior)
    resources = resources_of(opened, device=device, threads=threads, stop=channel.should_stop)
    left_out: dict[str, str] = {}

    def note(case: Case, why: str) -> None:
        left_out[case.id] = why

    resources = replace(resources, cache=Path(scratch) / "cache", left_out=note)
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
    channel.report({"scored": str(folder), "left_out": left_out})
