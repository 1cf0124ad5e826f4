"""From a table and pictures to a study; the disk changes only when all was found in order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import DataError, ManifestError, Stopped, UsageError, nearest
from foveal.machine import cores, free_bytes, one_thread
from foveal.manifest import Facts, Manifest, grouped, load
from foveal.settings import OF_SOURCE, Settings, digest_of_table, format_settings
from foveal.stages.address import build, fitted, options_of, resolve
from foveal.stages.open import held, open_study
from foveal.stages.place import nearest_folder
from foveal.stages.train import slots_of
from foveal.study import Study, create
from foveal.table import CHANNEL, MISSING, SUFFIX, Source, is_path_column
from foveal.task import Context, Family, Member, Resources

AHEAD = 64
"""Files that are given to readers at a time."""

PATIENCE = 0.2
"""Seconds between two looks at the stop signal while a large file is read."""

READER_BYTES = 1.5e9
"""Memory that a reader may need: a few slices of 15,000 x 10,000 pixels."""

ROLES = ("id", "group", "site", "weight", "fold", "source")
"""What `columns` may say of a column."""

PATHS = ("weights",)
"""Options that may be the path of a file or folder."""

NO_PATHS = ("", "none", "imagenet")
"""Their values that are none."""


def init(
    folder: str | Path,
    *,
    recipe: str = "",
    table: str | Path = "",
    target: str = "",
    images: str = "",
    options: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    replace_old: bool = False,
    context: Context = Context(),
) -> Study:
    """Read a table and every picture once, and make a study of them.

    Recipe, table and target must be said, but where a study is described anew: what is not said of
    it then, options too, is as its `study.yaml` has it.

    Args:
        folder: Of the study; made whole or not at all.
        recipe: Its address, such as `grade:small`.
        table: CSV or Parquet.
        target: The target column, or several with commas.
        images: Pattern over the table's columns; may be left out for a family whose columns are
            paths.
        options: Of the recipe.
        columns: Which column is the id, group, site, weight, fold or source.
        replace_old: Whether a study that is there already may be described anew.
        context: Who is told.

    Returns:
        The study; the same call again changes nothing.

    Raises:
        UsageError: Another study is there, an option is wrong, or the device is not to be had.
        ManifestError: The table or a picture cannot be used.
        TargetError: A value of the target cannot be used.
    """
    study = Study(Path(folder).absolute())
    for name in columns or {}:
        if name not in ROLES:
            raise UsageError(f'columns= knows no "{name}"{nearest(name, ROLES)}')
    if replace_old and (old := _described(study)) is not None:
        recipe, table, target = (
            recipe or old.recipe,
            table or old.source.table,
            target or ",".join(old.source.target),
        )
        images, columns = images or _images_of(old, recipe), {**_columns_of(old), **(columns or {})}
        options = {**_options_of(old, recipe, images, context), **(options or {})}
    for flag, word, example in (
        ("recipe", recipe, "grade:small"),
        ("table", str(table), "labels.csv"),
    ):
        if not word:
            raise UsageError(f"init needs --{flag}, such as --{flag} {example}")
    options = {name: _absolute(name, value) for name, value in (options or {}).items()}
    address = _absolute_address(recipe)
    family, function = resolve(address)
    names = tuple(t for t in target.split(",") if t.strip())
    if not names:
        raise UsageError("no column is to be predicted; cure: --target COLUMN")
    roles: dict[str, Any] = {**(columns or {}), **_where(family, recipe, images, names)}
    known = options_of(function)
    said = {name: part.default for name, part in known.items() if name in OF_SOURCE}
    said |= {name: value for name, value in options.items() if name in OF_SOURCE}
    channels = tuple(n.strip() for n in str(said.get("channels", "")).split(",") if n.strip())
    masks = str(said.get("masks", ""))
    source = Source(
        table=str(table), target=names, channels=channels, masks=masks, **roles
    ).absolute()
    for name in options:
        if name not in known:
            raise UsageError(f'unknown option "{name}"{nearest(name, known)}')
    if options.get("channels") and CHANNEL not in images:
        raise UsageError(f"channels= says what {CHANNEL} stands for; cure: {CHANNEL} in --images")
    options = {name: value for name, value in options.items() if name not in OF_SOURCE}
    if _is_there(study, address, options, source, replace_old=replace_old):
        context.say(f"nothing to do: {study.folder} is this very study")
        return study
    fitted(function, options)  # a word that is wrong is told before anything is read
    _require_paths(options)
    slots_of(context)  # a device that is not to be had is refused before anything is read
    is_old = study.settings_file.is_file()
    holding = held(study, context, "init") if is_old else nullcontext(context)
    with holding as context, one_thread():
        manifest, facts = _survey(load(source), source, family, context)
        manifest = grouped(manifest, source)
        made = build(function, facts, options)
        encoded = made.target.encode(manifest)
        of_target = made.target.remarks(encoded, manifest.weight)
        for remark in (*_names_of_nothing(manifest), *family.remarks(manifest), *of_target):
            context.warn(remark, [])
        manifest = Manifest.from_csv(manifest.to_csv())  # as every later stage will see it
        settings = Settings(
            recipe=address,
            options=options,
            source=source,
            facts=facts,
            checked=digest_of_table(manifest, source, address),
        )
        made.folds(manifest).require_weight(manifest.weight)
        for member in made.members:
            member.check()
        create(study, format_settings(settings), manifest)
    return study


def _described(study: Study) -> Settings | None:
    """How a study is described that is to be described anew; None where that cannot be read."""
    with suppress(DataError, UsageError):
        return study.settings() if study.settings_file.is_file() else None
    return None


def _images_of(old: Settings, recipe: str) -> str:
    """The pattern of before, for a recipe of the same family."""
    families = [address.rpartition(":")[0] for address in (old.recipe, _absolute_address(recipe))]
    return old.source.images if families[0] == families[1] else ""


def _columns_of(old: Settings) -> dict[str, str]:
    return {role: name for role in ROLES if (name := getattr(old.source, role))}


def _options_of(old: Settings, recipe: str, images: str, context: Context) -> dict[str, Any]:
    """The options of before, for the same recipe; of another it is said that they are left out."""
    options = dict(old.options)
    if old.source.masks:
        options["masks"] = old.source.masks
    if old.source.channels and CHANNEL in images:
        options["channels"] = ",".join(old.source.channels)
    if _absolute_address(recipe) == old.recipe:
        return options
    if options:
        told = ", ".join(f"{name}={value}" for name, value in options.items())
        context.say(f"options of {old.recipe} are left out: {told}")
    return {}


def _names_of_nothing(manifest: Manifest) -> list[str]:
    """Roles whose cells hold a word for what is not known, which counts as a name."""
    found = []
    for role in ("group", "site", "source", "fold"):
        cells = manifest.roles.get(role, np.zeros(0, dtype=np.str_)).tolist()
        for word in sorted(MISSING & set(cells)):
            found.append(
                f'{cells.count(word)} cases say "{word}" in the column of the {role}, and are one '
                f"{role} of that name; cure: empty cells, if it means that nothing is known"
            )
    return found


def _where(family: Family, recipe: str, images: str, targets: tuple[str, ...]) -> dict[str, Any]:
    """How a table leads to the files: by a pattern, or by columns that are paths.

    Of a family with path columns a pattern may stand for the first, that of the pictures.
    """
    if not family.files:
        if not images:
            raise UsageError(f"{recipe} needs --images, such as --images 'img/{{image}}'")
        return {"images": images}
    files = family.files[1:] if images else family.files
    if both := {*targets} & {*files}:
        raise UsageError(
            f"--target {', '.join(sorted(both))}: {recipe} reads pictures from that column; cure: "
            "the column of what is to be told of them"
        )
    of_targets = targets if family.target_is_file else ()
    optional = family.optional_files
    return {"images": images, "files": (*files, *optional, *of_targets), "optional": optional}


def _absolute(name: str, value: Any) -> Any:
    """An option, the path of one that is there made absolute: later verbs run from anywhere."""
    is_path = name in PATHS and value not in NO_PATHS
    return str(Path(value).absolute()) if is_path and Path(str(value)).exists() else value


def _require_paths(options: Mapping[str, Any]) -> None:
    """Raise where an option names a file that is not there, before hours are spent without it."""
    for name in PATHS:
        value = options.get(name, "")
        if value not in NO_PATHS and not Path(str(value)).exists():
            raise UsageError(
                f"{name}={value}: no such file or folder; cures: none, imagenet, or a path"
            )


def _absolute_address(address: str) -> str:
    place, _, name = address.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(".py") else address


def _is_there(
    study: Study, address: str, options: Mapping[str, Any], source: Source, *, replace_old: bool
) -> bool:
    """Whether the folder holds this very study; whatever else it holds is left alone."""
    folder = study.folder
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file")
    if not study.settings_file.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty and holds no study; cure: another folder")
        standing = nearest_folder(folder)
        if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
            raise UsageError(f"{folder}: {standing} cannot be written; cure: another folder")
        return False
    if replace_old:  # files may have changed under the same names, and the old study be broken
        return False
    differences = _differences(study, address, options, source)
    if differences:
        raise UsageError(
            f"{folder} holds another study ({'; '.join(differences)}); cure: another "
            "folder, or --replace"
        )
    return True


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
        now = grouped(replace(now, measured=was.measured), source) if was.ids == now.ids else now
        if was.to_csv() != now.to_csv():
            found = [f"the table {source.table} has changed since"]
    return found


def _survey(
    manifest: Manifest, source: Source, family: Family, context: Context
) -> tuple[Manifest, Facts]:
    """Decode every picture in full and measure it."""
    found: list[Any] = [None] * len(manifest)
    bad: dict[int, str] = {}

    def one(row: int) -> None:
        try:
            told = manifest.target[row].tolist() if family.target_is_file else []
            found[row] = family.survey(manifest.case(row), *told)
        except DataError as error:
            bad[row] = f"{manifest.name(row)}: {error}"

    pool = ThreadPoolExecutor(max(1, min(cores(), int(free_bytes() / READER_BYTES))))
    try:
        for start in range(0, len(manifest), AHEAD):
            stop = min(start + AHEAD, len(manifest))
            for done, future in enumerate([pool.submit(one, k) for k in range(start, stop)], start):
                while not wait([future], PATIENCE).done:
                    context.ask()
                future.result()
                context.ask()
                context.progress("reading pictures", (done + 1) / len(manifest), "")
    except Stopped:
        raise Stopped("stopped; nothing was written, the same call begins anew") from None
    finally:
        pool.shutdown(cancel_futures=True)
    if len(bad) == len(manifest) and source.images:
        _require_pattern(source.images, manifest, bad[0])
    if bad:
        raise ManifestError(
            f"{len(bad)} of {len(manifest)} files cannot be read; cure: replace them, or leave "
            "their rows out of the table",
            [bad[row] for row in sorted(bad)],
        )
    return family.facts(manifest, found)


def _require_pattern(images: str, manifest: Manifest, culprit: str) -> None:
    """Raise where a pattern leads to no file at all, with what may be wrong with it."""
    if any(os.path.lexists(path) for paths in manifest.paths for path in paths):
        return
    first = Path(manifest.paths[0][0])
    hint = ""
    if not first.parent.is_dir():
        hint = f"; there is no folder {first.parent}"
    else:
        hint = _beside(first, images)
    if "\\" in str(first):
        hint += "; there are backslashes in it: write / in their place"
    raise ManifestError(
        f"none of the files of {len(manifest)} rows is there (--images {images}){hint}", [culprit]
    )


def _beside(first: Path, images: str) -> str:
    """What to try for a file that is missing, from those in its folder; empty for nothing."""
    files = sorted(first.parent.iterdir(), key=lambda path: (len(path.name), path))
    for path in files:
        if path.name.casefold() == first.name.casefold():
            return f"; there is {path.name}: upper and lower case differ"
    for path in files:
        if path.name.startswith(f"{first.name}.") or path.name.startswith(f"{first.stem}."):
            return f"; did you mean {_towards(path, first, images)}?"
    for path in files:
        if path.stem.isdigit() and path.stem.lstrip("0") == first.stem.lstrip("0"):
            return f"; there is {path.name}: zeros in front of numbers were lost in the table"
    return ""


def _towards(found: Path, first: Path, images: str) -> str:
    """The pattern that leads to a file instead of to another; the file where no pattern does."""
    if is_path_column(images):
        return str(found)
    if found.name.startswith(f"{first.name}."):
        return images + found.name.removeprefix(first.name)
    return SUFFIX.sub("", images) + found.suffix if SUFFIX.search(images) else str(found)


def plan(study: Study, context: Context = Context()) -> tuple[int, float]:
    """How many trainings a study needs, and about how many seconds they take here."""
    opened = open_study(study)
    made = opened.recipe.folds(opened.manifest)
    learned = int(np.mean([made.learns(k).sum() for k in range(made.folds)]))
    seconds = 0.0
    for slots, members in _lanes(slots_of(context) or ("cpu",), opened.recipe.members):
        resources = Resources(cache=study.cache_folder, device=slots[0])
        work = made.folds * sum(m.estimate(learned, resources) for m in members)
        seconds = max(seconds, work / min(len(slots), made.folds * len(members)))
    return made.folds * len(opened.recipe.members), seconds


def _lanes(slots: Sequence[str], members: Sequence[Member]) -> list[tuple[list[str], list[Member]]]:
    """Slots of a kind, and the members that run there: those of a kind without slots run anywhere.

    Returns:
        Those with members alone.
    """
    kinds = {slot.partition(":")[0] for slot in slots}
    lanes = {kind: ([s for s in slots if s.startswith(kind)], []) for kind in sorted(kinds)}
    for member in members:
        lanes[member.device if member.device in kinds else min(kinds)][1].append(member)
    return [lane for lane in lanes.values() if lane[1]]
