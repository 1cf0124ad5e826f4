"""Trainings, each a job that keeps its out-of-fold scores.

A job is one member without one fold. It is done when its mark holds the digest of everything that
its result depends on.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal import launch
from foveal.digests import describe, digest, together
from foveal.errors import ManifestError, TargetError, TrainingError, UsageError, nearest
from foveal.files import read_json
from foveal.machine import cores
from foveal.manifest import Truth
from foveal.predictions import Predictions, join
from foveal.split.record import NONE, Split
from foveal.stages.open import Opened, held
from foveal.stages.progress import Board, Curve
from foveal.stages.split import open_split, split, truth_of
from foveal.study import (
    CHECKPOINT,
    CURVE,
    CURVE_MARK,
    CURVE_SO_FAR,
    DONE,
    NOTES,
    OVERRIDES,
    SCORES,
    STATE,
    Study,
    changed,
    is_done,
    publish,
)
from foveal.task import Context, Job, Member, Resources, State

TRAIN_FORMAT = 12
FOR_NEW = "for_new."
"""Before the names of arrays that only answers for new cases may use."""


def train(
    study: Study,
    *,
    member: str = "",
    fold: int | None = None,
    context: Context = Context(),
) -> None:
    """Train what is not yet trained, and write its out-of-fold scores.

    Args:
        study: With folds.
        member: Only this one.
        fold: Only this one.
        context: Who is told, who may stop it, what it may use.

    Raises:
        Stopped: The signal came; the same call goes on.
    """
    with held(study, context, "train") as context:
        split(study, context)
        opened, made = open_split(study)
        jobs = _pending(opened, made, member, fold)
        if not jobs:
            return
        _say_why(opened, made, jobs, context)
        slots = slots_of(context)
        _make_room(opened)
        board = Board([f"{m.name} fold {k}" for m, k in jobs], context)
        calls = [
            {
                "study": str(study.folder),
                "member": m.name,
                "fold": k,
                "threads": max(1, cores() // max(len(slots), 1)),
                "checkpoint_seconds": context.checkpoint_seconds,
            }
            for m, k in jobs
        ]
        launch.side_by_side(
            fit_job,
            calls,
            slots=slots,
            log=study.log_file,
            should_stop=context.should_stop,
            on_event=board.hear,
            kinds=[m.device for m, _ in jobs],
            keep=context.keep,
        )


def _pending(
    opened: Opened, made: Split, member: str, fold: int | None
) -> list[tuple[Member, int]]:
    """The trainings that were asked for and are not done.

    All members of a fold come before the next fold: jobs side by side then fill different caches
    instead of waiting for one.
    """
    names = [m.name for m in opened.recipe.members]
    if member and member not in names:
        raise UsageError(f'no member "{member}"{nearest(member, names)}')
    if fold is not None and not 0 <= fold < made.folds:
        raise UsageError(f"no fold {fold}; there are 0 to {made.folds - 1}")
    wanted = [
        (m, k)
        for k in range(made.folds)
        for m in opened.recipe.members
        if member in ("", m.name) and fold in (None, k)
    ]
    return [(m, k) for m, k in wanted if not is_done(*place(opened, made, m, k))]


def _say_why(
    opened: Opened, made: Split, jobs: Sequence[tuple[Member, int]], context: Context
) -> None:
    """Name what is trained again, and what it was that changed."""
    again: dict[tuple[str, ...], list[str]] = {}
    for m, k in jobs:
        why = tuple(changed(*place(opened, made, m, k)))
        if why:
            again.setdefault(why, []).append(m.name)
    for why, names in again.items():
        who = ", ".join(dict.fromkeys(names))
        context.say(f"again: {len(names)} trainings of {who} (changed: {', '.join(why)})")


def slots_of(context: Context) -> tuple[str, ...]:
    """Devices, one a job that may run at a time."""
    return tuple(launch.slots_of(context.device)) if context.slots is None else context.slots


def resources_of(
    opened: Opened, channel: launch.Channel, *, device: str, threads: int
) -> Resources:
    """What a job may use."""
    return Resources(
        cache=opened.study.cache_folder / opened.cases,
        device=device,
        threads=threads,
        cache_bytes=opened.recipe.cache_gb * 1e9,
        should_stop=channel.should_stop,
        prepared=lambda share: channel.report({"prepared": share}),
        scored=lambda share: channel.report({"looked_at": share}),
    )


def _make_room(opened: Opened) -> None:
    """Forget decoded pictures of an older table; others give way to those that are asked for."""
    from foveal.train.cache import begin

    if opened.study.cache_folder.is_dir():
        for old in opened.study.cache_folder.iterdir():
            if old.name != opened.cases:
                shutil.rmtree(old, ignore_errors=True)
    begin(opened.study.cache_folder / opened.cases)


def place(opened: Opened, made: Split, member: Member, fold: int) -> tuple[Path, dict[str, object]]:
    """The folder of a job and everything that its result depends on."""
    folder = opened.study.job_folder(member.name, fold)
    more: dict[str, object] = {
        "format": TRAIN_FORMAT,
        "seed": opened.recipe.seed,
        "target": opened.lesson,
        "cases": opened.cases,
        "folds": digest(made.fold == fold, made.learns(fold), made.group),
    }
    depends = together(describe(member), more)
    return folder, {**depends, "override": _override(folder, digest(depends))}


def is_trained(opened: Opened, made: Split, member: Member) -> bool:
    """Whether every fold's training of a member is done, as the study describes it now."""
    return all(is_done(*place(opened, made, member, k)) for k in range(made.folds))


def why_not(opened: Opened, made: Split, member: Member) -> str:
    """In which way a member's trainings are not those that the study describes now."""
    places = [place(opened, made, member, k) for k in range(made.folds)]
    why = sorted({name for one in places if not is_done(*one) for name in changed(*one)})
    if why == ["format"]:
        return "by another version of foveal"
    return f"changed: {', '.join(why)}" if why else "files are missing or damaged"


def _override(folder: Path, mark: str) -> Mapping[str, Any]:
    """What was changed for a training when memory ran out."""
    path = folder / OVERRIDES
    return read_json(path).get(mark, {}) if path.is_file() else {}


def _mark_of(depends: Mapping[str, object]) -> str:
    """Of a training, whatever became of it when memory ran out, which its checkpoint says too."""
    return digest({name: part for name, part in depends.items() if name != "override"})


def fit_job(
    channel: launch.Channel,
    *,
    study: str,
    member: str,
    fold: int,
    device: str,
    threads: int,
    checkpoint_seconds: float,
) -> None:
    """Train one member without one fold and score that fold. Runs in a process of its own."""
    from safetensors.numpy import save

    opened, made = open_split(Study(Path(study)))
    recipe = opened.recipe
    (chosen,) = [m for m in recipe.members if m.name == member]
    folder, depends = place(opened, made, chosen, fold)
    resources = resources_of(opened, channel, device=device, threads=threads)
    held = np.flatnonzero(made.fold == fold)
    truth = truth_of(opened, made)
    cases = opened.manifest.cases()
    mark = _mark_of(depends)
    curve = Curve(folder, mark, channel)
    started = time.monotonic()
    state = chosen.fit(
        Job(
            key=(recipe.seed, zlib.crc32(member.encode()), fold),
            cases=cases,
            train=np.flatnonzero(made.learns(fold)),
            held=held,
            target=recipe.target.train(opened.target),
            weight=opened.manifest.weight,
            group=made.group,
            judge=_judge(opened, truth.take(truth.fold == fold)),
            folder=folder,
            mark=mark,
            resources=resources,
            report=curve.hear,
            overrides=_override(folder, mark),
            checkpoint_seconds=checkpoint_seconds,
        )
    )
    as_new = [case.as_new for case in cases]
    left_out: dict[str, str] = {}
    resources = replace(resources, left_out=lambda case, why: left_out.update({case.id: why}))
    (scores,) = chosen.score([replace(state, for_new={})], as_new, held, resources)
    if left_out:  # such as a file that is gone since `init`: nothing is done without it
        raise ManifestError(
            f"{member} could not score {len(left_out)} of {len(held)} held-out cases; cure: "
            "replace their files, or leave their rows out of the table, then foveal init FOLDER "
            "--replace",
            [f"{name}: {why}" for name, why in left_out.items()],
        )
    if wrong := scores.not_numbers():
        raise TrainingError(
            f"{member} scores {len(wrong)} of {len(scores)} held-out cases with what is no number; "
            "cure: a lower lr=, or precision=32-true",
            wrong,
        )
    scores = replace(scores, fold=np.full(len(scores), fold))
    notes = {**state.notes, "fit_seconds": time.monotonic() - started}
    tensors = {**state.tensors, **{FOR_NEW + k: v for k, v in state.for_new.items()}}
    files = {
        STATE: save({k: np.ascontiguousarray(v) for k, v in tensors.items()}),
        NOTES: json.dumps(notes).encode(),
        **{f"{SCORES}{name}": data for name, data in scores.files().items()},
        CURVE: curve.text().encode(),
    }
    publish(folder, files, place(opened, made, chosen, fold)[1])
    for name in (CHECKPOINT, CURVE_SO_FAR, CURVE_MARK):
        (folder / name).unlink(missing_ok=True)
    channel.report({"done": 1.0})


def _judge(opened: Opened, truth: Truth) -> Callable[[Predictions], float]:
    """The metric of held-out scores with cuts fitted on the very same rows: for curves only.

    Not a number where these rows can tell nothing.
    """

    def judge(predictions: Predictions) -> float:
        if not truth.weight.sum() > 0:
            return math.nan
        predictions = replace(predictions, fold=truth.fold)
        try:
            labels = opened.recipe.decode.fit(predictions, truth)(predictions)
        except TargetError:  # such as a fold without any label
            return math.nan
        metric = opened.recipe.metric
        return float(metric.value(metric.tally(labels, truth).sum(axis=0)))

    return judge


def load_state(folder: Path) -> State:
    """What a finished training left behind."""
    from safetensors.numpy import load_file

    found = load_file(folder / STATE)
    own = {k: v for k, v in found.items() if not k.startswith(FOR_NEW)}
    for_new = {k.removeprefix(FOR_NEW): v for k, v in found.items() if k.startswith(FOR_NEW)}
    return State(own, read_json(folder / NOTES), for_new)


def out_of_fold(opened: Opened, member: str, made: Split) -> Predictions:
    """The out-of-fold scores of a member for all cases that are judged, in the manifest's order."""
    folders = [opened.study.job_folder(member, k) for k in range(made.folds)]
    parts = [Predictions.open(folder, prefix=SCORES) for folder in folders]
    return join(parts).take([opened.manifest.ids[r] for r in np.flatnonzero(made.fold != NONE)])


def marks(study: Study, member: str, folds: int) -> list[str]:
    """What each fold of a member was trained from, as digests."""
    return [read_json(study.job_folder(member, k) / DONE)["digest"] for k in range(folds)]
