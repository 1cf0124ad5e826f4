"""The stages, each a function from a study to a study that skips what is done.

They know records and protocols (`task`), no part and no recipe, print nothing, and end in errors
of foveal's own tree. From Python, the whole trip is three lines::

    study = init("eyes", recipe="grade:small", table="t.csv", images="img/{image}", target="grade")
    run(study)
    predict(study, table="new.csv", images="new/{image}", out="answers.csv")
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import inspect
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module, util
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from foveal import launch
from foveal.combine import Entry, Leaderboard, mean, rank
from foveal.errors import (
    DataError,
    FovealError,
    ManifestError,
    Stopped,
    StudyError,
    TargetError,
    UsageError,
    nearest,
)
from foveal.manifest import Facts, Manifest, Source, Truth, load, read_table
from foveal.predict.deadline import Deadline
from foveal.predictions import Predictions, join
from foveal.split import groups
from foveal.study import (
    Settings,
    Study,
    changed,
    create,
    describe,
    digest,
    format_settings,
    is_done,
    publish,
    read_json,
    revive,
)
from foveal.task import Asked, Context, Family, Given, Job, Member, Recipe, Resources, State

SPLIT_FORMAT = 1
TRAIN_FORMAT = 1
COMBINE_FORMAT = 1
REPORT_FORMAT = 1

# --- recipes -------------------------------------------------------------------------------------


def resolve(address: str) -> tuple[Family, Callable[..., Recipe]]:
    """The family and the recipe function that an address names, by exactly one import.

    Args:
        address: `grade:small`, or `./mine.py:study` for a file of the user's own.

    Raises:
        UsageError: There is no such family or recipe; the nearest one is named.
    """
    place, _, name = address.rpartition(":")
    if not place:
        raise UsageError(f'recipe "{address}" must look like grade:small{nearest(address, families())}')
    module = _own_module(Path(place)) if place.endswith(".py") else _shipped(place)
    functions = recipes_of(module)
    if name not in functions:
        raise UsageError(f'no recipe "{name}" in {place}{nearest(name, functions)}')
    family = getattr(module, "FAMILY", None)
    if not isinstance(family, Family):
        raise UsageError(f"{place} defines no FAMILY")
    return family, functions[name]


def families() -> list[str]:
    """The names of the shipped recipe files."""
    folder = Path(__file__).parent / "recipes"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def recipes_of(module: Any) -> dict[str, Callable[..., Recipe]]:
    """The recipe functions that a module defines: those that promise to return a `Recipe`."""
    own = (f for f in vars(module).values() if inspect.isfunction(f))
    return {
        f.__name__: f
        for f in own
        if f.__module__ == module.__name__
        and not f.__name__.startswith("_")
        and f.__annotations__.get("return") in ("Recipe", Recipe)
    }


def _shipped(family: str) -> Any:
    if family not in families():
        raise UsageError(f'no recipe family "{family}"{nearest(family, families())}')
    return import_module(f"foveal.recipes.{family}")


def _own_module(path: Path) -> Any:
    spec = util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"no such recipe file: {path}")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(
    function: Callable[..., Recipe], facts: Facts, options: Mapping[str, Any]
) -> Recipe:
    """A recipe from its function, with every option checked by the function's own signature.

    Raises:
        UsageError: An option is unknown or does not fit; the nearest one is named.
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(function, include_extras=True)
    known = options_of(function)
    values = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f'unknown option "{name}"{nearest(name, known)}')
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise UsageError(f'option {name}="{value}": {why}') from None
    return function(facts, **values)


def options_of(function: Callable[..., Recipe]) -> dict[str, inspect.Parameter]:
    """The options of a recipe function: its keyword-only arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A study read in full: what every stage starts from."""

    study: Study
    settings: Settings
    family: Family
    recipe: Recipe
    manifest: Manifest
    target: np.ndarray

    @property
    def cases(self) -> str:
        """Digest of all that the table and the pictures say."""
        return digest(self.manifest)


def open_study(study: Study) -> Opened:
    """Read a study and build its recipe.

    Raises:
        StudyError: No study, or its table was described anew without `init`.
        UsageError: An option in `study.yaml` is unknown or does not fit.
    """
    settings = study.settings()
    manifest = study.manifest()
    if settings.source.target != manifest.target_columns:
        raise StudyError(
            f"{study.settings_file} now names target {', '.join(settings.source.target)}, but the "
            "table was read for another; cure: foveal init --replace with the new columns"
        )
    family, function = resolve(settings.recipe)
    recipe = build(function, settings.facts, settings.options)
    return Opened(
        study=study,
        settings=settings,
        family=family,
        recipe=recipe,
        manifest=manifest,
        target=recipe.target.encode(manifest),
    )


# --- init ----------------------------------------------------------------------------------------


def init(
    folder: str | Path,
    *,
    recipe: str,
    table: str | Path,
    images: str,
    target: str,
    options: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    replace_old: bool = False,
    context: Context = Context(),
) -> Study:
    """Read a table and every picture once, and make a study of them.

    Args:
        folder: Of the study; made whole or not at all.
        recipe: Its address, such as `grade:small`.
        table: CSV or Parquet.
        images: Pattern over the table's columns.
        target: The target column, or several with commas.
        options: Of the recipe.
        columns: Which column is the id, group, site, weight, fold or source.
        replace_old: Whether a study that is there already may be described anew.
        context: Who is told.

    Returns:
        The study; the same call again changes nothing.

    Raises:
        UsageError: Another study is there, or an option is wrong.
        ManifestError: The table or a picture cannot be used.
        TargetError: A value of the target cannot be used.
    """
    study = Study(Path(folder).absolute())
    names = tuple(t for t in target.split(",") if t)
    source = Source(table=str(table), images=images, target=names, **(columns or {})).absolute()
    options = dict(options or {})
    address = _absolute_address(recipe)
    family, function = resolve(address)
    for name in options:
        if name not in options_of(function):
            raise UsageError(f'unknown option "{name}"{nearest(name, options_of(function))}')
    if study.folder.exists() and not study.folder.is_dir():
        raise UsageError(f"{study.folder} is a file")
    if study.settings_file.is_file():
        differences = _differences(study, address, options, source)
        if not differences:
            context.say(f"nothing to do: {study.folder} is this very study")
            return study
        if not replace_old:
            raise UsageError(
                f"{study.folder} holds another study ({'; '.join(differences)}); cure: another "
                "folder, or --replace"
            )
    elif study.folder.exists() and any(study.folder.iterdir()):
        raise UsageError(f"{study.folder} is not empty and holds no study; cure: another folder")
    manifest, facts = _survey(load(source), family, context)
    made = build(function, facts, options)
    encoded = made.target.encode(manifest)
    for unused in getattr(made.target, "unused", lambda _: [])(encoded):
        context.warn(f"no case has grade {unused}", [])
    settings = Settings(recipe=address, options=options, source=source, facts=facts)
    made.folds(manifest)
    create(study, format_settings(settings), manifest)
    return study


def _absolute_address(address: str) -> str:
    place, _, name = address.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(".py") else address


def _differences(
    study: Study, recipe: str, options: Mapping[str, Any], source: Source
) -> list[str]:
    old = study.settings()
    pairs = [("recipe", old.recipe, recipe)]
    pairs += [
        (f.name, getattr(old.source, f.name), getattr(source, f.name))
        for f in dataclasses.fields(source)
    ]
    pairs += [
        (name, old.options.get(name), options.get(name)) for name in {**old.options, **options}
    ]
    found = [f"{name} is {a!r}, not {b!r}" for name, a, b in pairs if a != b]
    if not found:
        was, now = study.manifest(), load(source)
        if replace(was, measured={}) .to_csv() != now.to_csv():
            found = [f"the table {source.table} has changed since"]
    return found


def _survey(
    manifest: Manifest, family: Family, context: Context
) -> tuple[Manifest, Facts]:
    """Decode every picture in full and measure it."""
    found: list[Any] = [None] * len(manifest)
    bad: list[str] = []

    def one(row: int) -> None:
        try:
            found[row] = family.survey(manifest.case(row))
        except DataError as error:
            bad.append(f"{manifest.name(row)}: {error}")

    with ThreadPoolExecutor(launch.cores()) as pool:
        for start in range(0, len(manifest), 64):
            if context.should_stop():
                raise Stopped("stopped while reading pictures")
            list(pool.map(one, range(start, min(start + 64, len(manifest)))))
            context.progress("reading pictures", min(start + 64, len(manifest)) / len(manifest), "")
    if bad:
        raise ManifestError(
            f"{len(bad)} of {len(manifest)} files cannot be read; cure: replace them, or leave "
            "their rows out of the table",
            sorted(bad),
        )
    return family.facts(manifest, found)


def plan(study: Study, context: Context = Context()) -> tuple[int, float]:
    """How many trainings a study needs, and about how many seconds they take here."""
    opened = open_study(study)
    folds = int(opened.recipe.folds(opened.manifest).fold.max()) + 1
    slots = _slots(context)
    resources = Resources(cache=study.cache_folder, device=slots[0] if slots else "cpu")
    share = len(opened.manifest) * (folds - 1) // folds
    seconds = sum(m.estimate(share, resources) for m in opened.recipe.members)
    return folds * len(opened.recipe.members), seconds * folds / max(len(slots), 1)


# --- audit and split -----------------------------------------------------------------------------


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
    made = opened.recipe.folds(opened.manifest)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "fold"])
    writer.writerows(zip(opened.manifest.ids, made.fold.tolist(), strict=True))
    notes = {"imbalance": made.imbalance, "notes": made.notes}
    files = {"folds.csv": out.getvalue().encode(), "split.json": json.dumps(notes).encode()}
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


# --- train ---------------------------------------------------------------------------------------


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
    opened = open_study(study)
    split(study, context)
    truth = truth_of(opened)
    names = [m.name for m in opened.recipe.members]
    if member and member not in names:
        raise UsageError(f'no member "{member}"{nearest(member, names)}')
    folds = int(truth.fold.max()) + 1
    if fold is not None and not 0 <= fold < folds:
        raise UsageError(f"no fold {fold}; there are 0 to {folds - 1}")
    wanted = [
        (m, k)
        for m in opened.recipe.members
        for k in range(folds)
        if member in ("", m.name) and fold in (None, k)
    ]
    jobs = [(m, k) for m, k in wanted if not is_done(*_place(opened, truth, m, k))]
    if not jobs:
        return
    for m, k in jobs:
        why = changed(*_place(opened, truth, m, k))
        if why:
            context.say(f"again: {m.name} fold {k}, because of another {', '.join(why)}")
    slots = _slots(context)
    _shared_cache(opened, context)
    board = _Board([f"{m.name} fold {k}" for m, k in jobs], context)
    calls = [
        {
            "study": str(study.folder),
            "member": m.name,
            "fold": k,
            "threads": max(1, launch.cores() // max(len(slots), 1)),
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
        keep=context.keep,
    )


class _Board:
    """Progress of jobs side by side, with an estimate of the end."""

    def __init__(self, names: Sequence[str], context: Context) -> None:
        self.names, self.context = names, context
        self.done = [0.0] * len(names)
        self.started = time.monotonic()

    def hear(self, number: int, event: Mapping[str, Any]) -> None:
        if "note" in event:
            self.context.warn(f"{self.names[number]}: {event['note']}", [])
        if "done" not in event:
            return
        self.done[number] = float(event["done"])
        share = sum(self.done) / len(self.done)
        left = (time.monotonic() - self.started) * (1 - share) / max(share, 1e-6)
        words = self.names[number]
        if "epoch" in event:
            words += f" epoch {event['epoch']}/{event['epochs']} loss {event['loss']:.4f}"
        if "held" in event:
            words += f" held-out {event['held']:.3f}"
        self.context.progress("training", share, f"{words}, about {_duration(left)} left")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{max(minutes, 1)} min"


def _slots(context: Context) -> tuple[str, ...]:
    return tuple(launch.slots_of(context.device)) if context.slots is None else context.slots


def _resources(opened: Opened, *, device: str, threads: int, stop: Callable[[], bool]) -> Resources:
    return Resources(
        cache=opened.study.cache_folder / opened.cases,
        device=device,
        threads=threads,
        cache_bytes=opened.recipe.cache_gb * 1e9,
        should_stop=stop,
    )


def _shared_cache(opened: Opened, context: Context) -> None:
    """Forget decoded pictures of an older table."""
    if opened.study.cache_folder.is_dir():
        for old in opened.study.cache_folder.iterdir():
            if old.name != opened.cases:
                shutil.rmtree(old, ignore_errors=True)


def _place(
    opened: Opened, truth: Truth, member: Member, fold: int
) -> tuple[Path, dict[str, object]]:
    """The folder of a job and everything that its result depends on."""
    folder = opened.study.job_folder(member.name, fold)
    fields = [f for f in dataclasses.fields(member) if f.metadata.get("digest", True)]
    depends: dict[str, object] = {f.name: getattr(member, f.name) for f in fields}
    depends |= {
        "kind": type(member),
        "format": TRAIN_FORMAT,
        "seed": opened.recipe.seed,
        "target": opened.recipe.target,
        "cases": opened.cases,
        "folds": digest(truth.fold == fold, truth.group),
        "override": _override(folder),
    }
    return folder, depends


def _override(folder: Path) -> Mapping[str, Any]:
    path = folder / "override.json"
    return read_json(path) if path.is_file() else {}


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

    opened = open_study(Study(Path(study)))
    recipe, truth = opened.recipe, truth_of(opened)
    (chosen,) = [m for m in recipe.members if m.name == member]
    folder, depends = _place(opened, truth, chosen, fold)
    resources = _resources(opened, device=device, threads=threads, stop=channel.should_stop)
    held = np.flatnonzero(truth.fold == fold)
    cases = opened.manifest.cases()
    curve = _Curve(folder, channel)
    started = time.monotonic()
    state = chosen.fit(
        Job(
            key=(recipe.seed, fold),
            cases=cases,
            train=np.flatnonzero(truth.fold != fold),
            held=held,
            target=recipe.target.train(opened.target),
            weight=truth.weight,
            group=truth.group,
            judge=_judge(opened, truth.take(held)),
            folder=folder,
            mark=digest(depends),
            resources=resources,
            report=curve.hear,
            overrides=_override(folder),
            checkpoint_seconds=checkpoint_seconds,
        )
    )
    (scores,) = chosen.score([state], cases, held, resources)
    scores = replace(scores, fold=np.full(len(scores), fold))
    notes = {**state.notes, "fit_seconds": time.monotonic() - started}
    files = {
        "state.safetensors": save({k: np.ascontiguousarray(v) for k, v in state.tensors.items()}),
        "state.json": json.dumps(notes).encode(),
        **{f"oof-{name}": data for name, data in scores.files().items()},
        "metrics.csv": curve.text().encode(),
    }
    publish(folder, files, _place(opened, truth, chosen, fold)[1])
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    channel.report({"done": 1.0})


def _judge(opened: Opened, truth: Truth) -> Callable[[np.ndarray], float]:
    """The metric of held-out scores with cuts fitted on the very same rows: for curves only."""
    ids = [str(k) for k in range(len(truth.fold))]

    def judge(scores: np.ndarray) -> float:
        predictions = Predictions.of(
            ids, scores, columns=[str(k) for k in range(scores.shape[1])]
        )
        labels = opened.recipe.decode.fit(predictions, truth)(predictions)
        metric = opened.recipe.metric
        return float(metric.value(metric.tally(labels, truth).sum(axis=0)))

    return judge


class _Curve:
    """The rows of `metrics.csv`, kept over stops."""

    columns = ("epoch", "loss", "lr", "held", "seconds")

    def __init__(self, folder: Path, channel: launch.Channel) -> None:
        self.path, self.channel = folder / "metrics.csv", channel
        self.rows: dict[int, Mapping[str, Any]] = {}
        if self.path.is_file() and (folder / "checkpoint.safetensors").is_file():
            with self.path.open(newline="") as file:
                self.rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    def hear(self, event: Mapping[str, Any]) -> None:
        if "epoch" in event:
            self.rows[event["epoch"]] = event
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text())
        self.channel.report({**event, "done": min(event.get("done", 0.0), 0.999)})

    def text(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[k] for k in sorted(self.rows))
        return out.getvalue()


def load_state(folder: Path) -> State:
    """What a finished training left behind."""
    from safetensors.numpy import load_file

    return State(load_file(folder / "state.safetensors"), read_json(folder / "state.json"))


def out_of_fold(opened: Opened, member: str, folds: int) -> Predictions:
    """The out-of-fold scores of a member, in the manifest's order."""
    parts = [
        Predictions.open(opened.study.job_folder(member, k), prefix="oof-") for k in range(folds)
    ]
    return join(parts).take(opened.manifest.ids)


# --- combine -------------------------------------------------------------------------------------


def combine(study: Study, context: Context = Context()) -> Leaderboard | None:
    """Judge members and ensembles, choose one, and fit every row on all out-of-fold scores.

    Returns:
        The leaderboard, or None where it was made before.

    Raises:
        StudyError: A member is not trained yet.
    """
    opened = open_study(study)
    recipe, truth = opened.recipe, truth_of(opened)
    folds = int(truth.fold.max()) + 1
    pending = [
        f"{m.name} fold {k}"
        for m in recipe.members
        for k in range(folds)
        if not is_done(*_place(opened, truth, m, k))
    ]
    if pending:
        raise StudyError(
            f"{len(pending)} trainings are not done; cure: foveal train {study.folder}", pending
        )
    depends = _combine_depends(opened, truth, folds)
    if is_done(study.combine_folder, depends):
        return None
    predictions = {m.name: out_of_fold(opened, m.name, folds) for m in recipe.members}
    board = rank(entries(recipe), predictions, truth, metric=recipe.metric, floor=recipe.floor)
    fitted = {row.entry.name: _fit_steps(row.entry, predictions, truth, recipe) for row in board.rows}
    chosen = board.rows[board.chosen]
    answers = {
        "chosen": chosen.entry.name,
        "answer": describe(recipe.answer),
        "prior": recipe.answer.prior(opened.target, truth.weight),
        "jobs": {m.name: _marks(study, m.name, folds) for m in recipe.members},
        "rows": fitted,
    }
    files = {
        "leaderboard.json": json.dumps(_board_json(board), indent=1).encode(),
        "leaderboard.csv": _board_csv(board).encode(),
        "oof.csv": _oof_csv(opened, truth, board, predictions).encode(),
        "answers.json": json.dumps(answers).encode(),
    }
    publish(study.combine_folder, files, depends)
    return board


def _combine_depends(opened: Opened, truth: Truth, folds: int) -> dict[str, object]:
    recipe = opened.recipe
    return {
        "format": COMBINE_FORMAT,
        "decode": recipe.decode,
        "blends": recipe.blends,
        "metric": recipe.metric,
        "probabilities": recipe.probabilities,
        "answer": recipe.answer,
        "floor": recipe.floor,
        "weight": truth.weight,
        "members": {m.name: _marks(opened.study, m.name, folds) for m in recipe.members},
    }


def _marks(study: Study, member: str, folds: int) -> list[str]:
    return [
        read_json(study.job_folder(member, k) / "done.json")["digest"] for k in range(folds)
    ]


def entries(recipe: Recipe) -> list[Entry]:
    """The rows of the leaderboard: every member, all without the floor, and all, each blended."""
    names = tuple(m.name for m in recipe.members)
    trained = tuple(n for n in names if n != recipe.floor)
    alone = recipe.blends[0]
    rows = [Entry(name=n, members=(n,), blend=alone, decode=recipe.decode) for n in names]
    for blend in recipe.blends:
        for members, label in ((trained, "networks"), (names, "all")):
            if len(members) > 1 and (members != names or trained != names or label == "all"):
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
        scores = joined.matrix().values[:, 0].astype(np.float64)
        steps.append(
            {
                "members": list(part.members),
                "blend": describe(blend),
                "decode": describe(decode),
                "probabilities": describe(recipe.probabilities.fit(scores, truth)),
            }
        )
    return steps


def _board_json(board: Leaderboard) -> dict[str, Any]:
    return {
        "chosen": board.rows[board.chosen].entry.name,
        "nested": board.nested,
        "nested_interval": board.nested_interval,
        "rows": [
            {
                "name": row.entry.name,
                "members": row.entry.members,
                "score": row.score,
                "interval": row.interval,
                "folds": {str(k): v for k, v in row.folds.items()},
                "sites": row.sites,
                "seconds": row.seconds,
                "below_floor": row.below_floor,
            }
            for row in board.rows
        ],
    }


def _board_csv(board: Leaderboard) -> str:
    first = board.rows[0]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [f"fold {k}" for k in first.folds] + [f"site {s}" for s in first.sites]
    writer.writerow(
        ["row", "members", "score", "low", "high", *parts, "seconds_per_case", "chosen", "mark"]
    )
    for k, row in enumerate(board.rows):
        scores = [*row.folds.values(), *row.sites.values()]
        writer.writerow(
            [
                row.entry.name,
                "+".join(row.entry.members),
                *(f"{v:.4f}" for v in (row.score, *row.interval, *scores)),
                f"{row.seconds:.4f}",
                "chosen" if k == board.chosen else "",
                "below the floor" if row.below_floor else "",
            ]
        )
    return out.getvalue()


def _oof_csv(
    opened: Opened, truth: Truth, board: Leaderboard, predictions: dict[str, Predictions]
) -> str:
    """Every case with its truth and the cross-fitted label and score of the chosen row."""
    row = board.rows[board.chosen]
    blend, _ = row.entry.fit(predictions, truth)
    scores = blend([predictions[m] for m in row.entry.members]).matrix().values[:, 0]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "fold", "truth", "label", "score"])
    writer.writerows(
        zip(
            opened.manifest.ids,
            truth.fold.tolist(),
            opened.target.tolist(),
            row.labels.tolist(),
            (f"{s:.6g}" for s in scores),
            strict=True,
        )
    )
    return out.getvalue()


# --- predict -------------------------------------------------------------------------------------


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
    settings = study.settings()
    answers = read_json(study.combine_folder / "answers.json") if is_combined(study) else None
    if answers is None:
        raise StudyError(f"{study.folder} has no leaderboard yet; cure: foveal run {study.folder}")
    row = answer or answers["chosen"]
    if row not in answers["rows"]:
        raise UsageError(f'no row "{row}" in the leaderboard{nearest(row, answers["rows"])}')
    id_column = study.manifest().id_column
    source = Source(table=str(table), images=images, id=id_column).absolute()
    if settings.source.site and settings.source.site in read_table(Path(source.table)):
        source = replace(source, site=settings.source.site)
    manifest = load(source)
    asked = Asked(
        ids=manifest.ids,
        id_column=id_column,
        target_columns=settings.source.target,
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
        unreadable=_reasons(settings.recipe, manifest, missing),
    )


def is_combined(study: Study) -> bool:
    """Whether a leaderboard was made."""
    return (study.combine_folder / "done.json").is_file()


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
    slots = _slots(context)
    calls = [
        {
            "study": str(study.folder),
            "member": name,
            "marks": answers["jobs"][name],
            "source": dataclasses.asdict(source),
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
    marks: Sequence[str],
    source: Mapping[str, Any],
    scratch: str,
    device: str,
    threads: int,
) -> None:
    """Score new cases with all fold models of a member. Runs in a process of its own."""
    opened = open_study(Study(Path(study)))
    (chosen,) = [m for m in opened.recipe.members if m.name == member]
    if _marks(opened.study, member, len(marks)) != list(marks):
        raise StudyError(
            f"{member} was trained anew since the leaderboard was made; cure: foveal combine {study}"
        )
    manifest = load(Source(**{**source, "target": tuple(source["target"])}))
    states = [load_state(opened.study.job_folder(member, k)) for k in range(len(marks))]
    resources = _resources(opened, device=device, threads=threads, stop=channel.should_stop)
    resources = replace(resources, cache=Path(scratch) / "cache")
    rows = np.arange(len(manifest))
    scores = mean(chosen.score(states, manifest.cases(), rows, resources))
    folder = Path(scratch) / member
    publish(folder, scores.files(), {})
    channel.report({"scored": str(folder)})


# --- report and run ------------------------------------------------------------------------------


def report(study: Study, context: Context = Context()) -> Path:
    """Write the page to look at.

    Raises:
        StudyError: There is no leaderboard yet.
    """
    from foveal.ship.report import page

    opened = open_study(study)
    if not is_combined(study):
        raise StudyError(f"{study.folder} has no leaderboard yet; cure: foveal run {study.folder}")
    html = page(study, opened.recipe.panels)
    from foveal.study import write_text

    write_text(study.report_file, html)
    return study.report_file


def run(study: Study, context: Context = Context()) -> Path:
    """Every stage up to the report; each skips what is done."""
    for finding in audit(study, context):
        context.warn(finding, [])
    split(study, context)
    train(study, context=context)
    combine(study, context)
    return report(study, context)
