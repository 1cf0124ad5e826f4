"""The study: one folder that holds everything of one problem. The only file that knows its paths.

Three promises shape it. A file is either whole or not there (written beside, synced, renamed). A
stage is done when its mark says so, and the mark holds the digest of all that the stage depends
on, so that a changed option redoes exactly what depends on it. One process at a time holds the
study, by an operating-system lock that dies with its holders::

    study.yaml        what a person decides, and the facts that `init` measured
    manifest.csv      the checked table         split/        the fold of every case
    members/NAME/K/   member NAME trained without fold K: state, out-of-fold scores, curves
    combine/          leaderboard, cuts, the chosen answer
    report.html       log.txt       cache/      decoded pictures, free to delete
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import hashlib
import inspect
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import DiskFullError, StudyError, UsageError, nearest
from foveal.manifest import Facts, Manifest
from foveal.table import Source

LOCK_PATIENCE_SECONDS = 10.0

# --- digests -------------------------------------------------------------------------------------


def describe(part: object) -> Any:
    """A part as JSON: its module, its name and its fields, all the way down.

    A dataclass field whose metadata says `digest=False` changes no result and is left out; of one
    that says `inline=True` the fields stand beside its own, so that they are named one by one.

    Raises:
        TypeError: A part cannot be described, such as a lambda or a closure.

    Example:
        >>> describe((1, 2.5, "a", None))
        [1, 2.5, 'a', None]
        >>> describe(describe)
        {'name': 'foveal.study:describe'}
    """
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, np.ndarray):
        if part.dtype == object:
            raise TypeError("an array of objects cannot describe itself")
        kind = {"shape": list(part.shape), "dtype": part.dtype.str}
        return {"array": hashlib.sha256(part.tobytes()).hexdigest(), **kind}
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, tuple | list):
        return [describe(p) for p in part]
    if isinstance(part, Mapping):
        return {str(k): describe(v) for k, v in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        said = {"part": _address(type(part))}
        for f in dataclasses.fields(part):
            if f.metadata.get("digest", True):
                value = describe(getattr(part, f.name))
                said = {**value, **said} if f.metadata.get("inline") else {**said, f.name: value}
        return said
    is_bound = inspect.ismethod(part)
    if callable(part) and not is_bound and "<" not in getattr(part, "__qualname__", "<"):
        return {"name": _address(part)}
    raise TypeError(f"{part!r} cannot describe itself; use a function or a frozen dataclass")


def _address(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


OWN_RECIPES = "recipes of "
"""What the name of the module begins with that a recipe file of the user's own becomes."""


def revive(value: Any) -> Any:
    """The frozen record that `describe` described.

    Records of foveal come back, and those of the recipe file of the user's own that is open;
    nothing else is imported.

    Example:
        >>> from foveal.decide import FixedCuts
        >>> revive(describe(FixedCuts((0.5, 1.5))))
        FixedCuts(cuts=(0.5, 1.5))
    """
    if isinstance(value, list):
        return tuple(revive(v) for v in value)
    if not isinstance(value, dict):
        return value
    if "part" not in value:
        return {k: revive(v) for k, v in value.items()}
    module, _, name = str(value["part"]).partition(":")
    try:
        own = sys.modules.get(module) if module.startswith(OWN_RECIPES) else None
        kind = getattr(import_module(module) if module.startswith("foveal.") else own, name, None)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return kind(**{k: revive(v) for k, v in value.items() if k != "part"})
    except (ImportError, TypeError) as error:
        raise StudyError(f"{value['part']} cannot be read back: {error}") from None
    raise StudyError(f"{value['part']} is no record of foveal, nor of the study's own recipe")


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that differ when any part does."""
    text = json.dumps(describe(parts), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- files ---------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that at every moment it is the old one, or the new one whole.

    Raises:
        StudyError: The disk is full or the folder cannot be written; nothing is lost.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> StudyError:
    """The error of a write that failed, with its cure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"cannot write {path}: the disk is full; free some space, then the same call goes on; "
            "nothing is lost"
        )
    return StudyError(f"cannot write {path}: {error.strerror or error}")


def lay_out(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """An empty `.npy` of full length, so that a full disk is met now and as an error.

    Raises:
        OSError: There is no room; what was begun stays.
    """
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        os.posix_fallocate(file.fileno(), 0, file.tell() + dtype.itemsize * math.prod(shape))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or end in an error that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"cannot read {path}: {error}") from None


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; a carriage return is quoted too, which Python's own writer forgets."""
    return "".join(",".join(_csv_cell(str(value)) for value in row) + "\n" for row in rows)


def _csv_cell(text: str) -> str:
    has_marks = any(mark in text for mark in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if has_marks else text


def publish(folder: Path, files: Mapping[str, bytes], depends: Mapping[str, object]) -> None:
    """Write the result of a stage, its done mark last.

    Args:
        folder: Of the stage.
        files: Contents by name.
        depends: Everything that the result depends on, by name.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        (folder / "done.json").unlink()
    for name, data in files.items():
        write_bytes(folder / name, data)
    mark = {
        "digest": digest(depends),
        "depends": {name: digest(part) for name, part in depends.items()},
        "files": {name: len(data) for name, data in files.items()},
    }
    write_json(folder / "done.json", mark)


def is_done(folder: Path, depends: Mapping[str, object]) -> bool:
    """Whether a stage finished with just these parts and all its files are still there."""
    done = _mark(folder)
    if done is None or done["digest"] != digest(depends):
        return False
    try:
        return all((folder / n).stat().st_size == size for n, size in done["files"].items())
    except OSError:
        return False


def changed(folder: Path, depends: Mapping[str, object]) -> list[str]:
    """The names of what differs from when the stage was done; empty where it never was."""
    done = _mark(folder)
    if done is None:
        return []
    now = {name: digest(part) for name, part in depends.items()}
    names = [*now, *(n for n in done["depends"] if n not in now)]
    return [n for n in names if now.get(n) != done["depends"].get(n)]


def _mark(folder: Path) -> dict[str, Any] | None:
    try:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        return done if {"digest", "depends", "files"} <= set(done) else None
    except (OSError, ValueError, TypeError):
        return None


# --- the study -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `study.yaml` holds."""

    recipe: str
    options: Mapping[str, Any]
    source: Source
    facts: Facts


LISTS = ("files", "optional", "channels", "target")
COLUMN_KEYS = ("images", "masks", *LISTS, "id", "group", "site", "weight", "fold", "source")


@dataclass(frozen=True, slots=True)
class Study:
    """A study folder; every path in it is asked for by meaning."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """What a person edits."""
        return self.folder / "study.yaml"

    @property
    def manifest_file(self) -> Path:
        """The checked table."""
        return self.folder / "manifest.csv"

    @property
    def split_folder(self) -> Path:
        """What `split` wrote."""
        return self.folder / "split"

    @property
    def folds_file(self) -> Path:
        """The fold of every case."""
        return self.split_folder / "folds.csv"

    @property
    def log_file(self) -> Path:
        """Everything the console said, and tracebacks."""
        return self.folder / "log.txt"

    @property
    def report_file(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    @property
    def combine_folder(self) -> Path:
        """Leaderboard, decoders and blends."""
        return self.folder / "combine"

    @property
    def cache_folder(self) -> Path:
        """Decoded pictures; free to delete."""
        return self.folder / "cache"

    @property
    def members_folder(self) -> Path:
        """What was trained."""
        return self.folder / "members"

    def job_folder(self, member: str, fold: int) -> Path:
        """One member trained without one fold."""
        return self.members_folder / member / str(fold)

    @property
    def stage_folders(self) -> tuple[Path, ...]:
        """What stages wrote, and others read."""
        return self.split_folder, self.members_folder, self.combine_folder, self.cache_folder

    def require(self) -> Study:
        """This study, if it is one.

        Raises:
            StudyError: The folder holds no study.
        """
        if not self.settings_file.is_file():
            raise StudyError(f"no study in {self.folder}; cure: foveal init {self.folder} ...")
        return self

    def settings(self) -> Settings:
        """Read `study.yaml`.

        Raises:
            StudyError: It is no YAML, or a required key is missing.
            UsageError: A key is unknown; the nearest one is named.
        """
        return parse_settings(self.require().settings_file)

    def manifest(self) -> Manifest:
        """Read the checked table."""
        try:
            return Manifest.from_csv(self.manifest_file.read_bytes().decode())
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise StudyError(
                f"cannot read {self.manifest_file}: {error}; cure: foveal init --replace"
            ) from None

    @contextmanager
    def lock(self, holder: str, wait: Callable[[], None] | None = None) -> Iterator[int]:
        """Hold the study until the block ends or every process that holds it is dead.

        Args:
            holder: What holds it, for whoever finds it held.
            wait: Called once when the study is found held.

        Yields:
            The descriptor that holds the lock, to hand to job processes.

        Raises:
            StudyError: Another process holds it for longer than ten seconds.
        """
        path = self.folder / ".lock"
        try:
            opened = path.open("a+")
        except OSError as error:
            raise disk_error(path, error) from error
        with opened as file:
            self._acquire(file, wait)
            file.truncate(0)
            file.write(f"{holder} (process {os.getpid()})")
            file.flush()
            try:
                yield file.fileno()
            finally:
                file.truncate(0)

    def _acquire(self, file: io.TextIOWrapper, wait: Callable[[], None] | None) -> None:
        patience = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > patience:
                    file.seek(0)
                    who = file.read() or "another process"
                    raise StudyError(f"{self.folder} is held by {who}") from None
                if wait is not None:
                    wait()
                    wait = None
                time.sleep(0.1)


def create(study: Study, settings_text: str, manifest: Manifest) -> None:
    """Make a new study folder, or replace the table and settings of an old one.

    The folder appears whole or not at all.
    """
    files = {"study.yaml": settings_text.encode(), "manifest.csv": manifest.to_csv().encode()}
    if study.settings_file.is_file():
        write_bytes(study.manifest_file, files["manifest.csv"])
        write_bytes(study.settings_file, files["study.yaml"])
        return
    if study.folder.is_dir():  # and empty, or `init` would have refused it
        _fill(study.folder, files)
        return
    missing = [p for p in (study.folder, *study.folder.parents) if not p.exists()]
    beside = study.folder.with_name(f".{study.folder.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        for name, data in files.items():
            write_bytes(beside / name, data)
        beside.rename(study.folder)
    except OSError as error:
        raise disk_error(study.folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for made in missing[1:] if not study.folder.exists() else ():
            if made.exists() and not any(made.iterdir()):
                made.rmdir()


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write into a folder that somebody may stand in; `study.yaml`, which makes the study, last."""
    try:
        for name in sorted(files):
            write_bytes(folder / name, files[name])
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        raise


# --- study.yaml ----------------------------------------------------------------------------------


def format_settings(settings: Settings) -> str:
    """`study.yaml` as a person reads it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    source, facts = settings.source, dataclasses.asdict(settings.facts)
    sheet = CommentedMap()
    sheet["recipe"] = settings.recipe
    sheet["options"] = dict(settings.options)
    sheet["table"] = source.table
    for key in COLUMN_KEYS:
        value = getattr(source, key)
        if value:
            sheet[key] = list(value) if key in LISTS else value
    sheet["facts"] = {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}
    sheet.yaml_set_start_comment(
        "A foveal study. Options may be edited; what depends on them runs again.\n"
        "`foveal recipes ADDRESS` lists every option. Table and columns: foveal init --replace.\n"
    )
    sheet.yaml_set_comment_before_after_key("facts", before="\nMeasured by `foveal init`.")
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(sheet, out)
    return out.getvalue()


def parse_settings(path: Path) -> Settings:
    """Read settings that `format_settings` wrote and a person may have edited."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        sheet = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise StudyError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    required = ("recipe", "table", "target", "facts")
    known = (*required, "options", *COLUMN_KEYS)
    if not isinstance(sheet, dict):
        raise StudyError(f"{path} is empty or no mapping; cure: foveal init --replace")
    for key in sheet:
        if key not in known:
            raise UsageError(f'unknown key "{key}" in {path}{nearest(str(key), known)}')
    for key in required:
        if not sheet.get(key):
            raise StudyError(f'the key "{key}" is missing in {path}; cure: foveal init --replace')
    if not isinstance(sheet.get("options") or {}, dict) or not isinstance(sheet["facts"], dict):
        raise StudyError(f"options: and facts: in {path} must list names and values")
    columns: dict[str, Any] = {}
    for key in COLUMN_KEYS:
        value = sheet.get(key)
        if value:
            many = value if isinstance(value, list) else [value]
            columns[key] = tuple(map(str, many)) if key in LISTS else str(value)
    source = Source(table=str(sheet["table"]), **columns)
    return Settings(
        recipe=str(sheet["recipe"]),
        options=dict(sheet.get("options") or {}),
        source=source,
        facts=Facts.from_json(sheet["facts"]),
    )
