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
import fcntl
import io
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.digests import digest
from foveal.errors import StudyError
from foveal.files import PART, disk_error, write_bytes, write_json
from foveal.manifest import Manifest
from foveal.settings import Settings, parse_settings

LOCK_PATIENCE_SECONDS = 10.0

DONE = "done.json"
"""Of every stage: what it was done with."""

STATE, NOTES, CURVE, SCORES = "state.safetensors", "state.json", "metrics.csv", "oof-"
"""Of a training: its tensors and notes, its curve, and what the names of its scores begin with."""

CHECKPOINT, CURVE_SO_FAR, CURVE_MARK = "checkpoint.safetensors", "metrics-so-far.csv", "curve.json"
"""Of a training under way, or that was stopped: beside what an earlier one may have left."""

OVERRIDES = "overrides.json"
"""Of all trainings: what was changed for them when memory ran out."""

# --- done marks ----------------------------------------------------------------------------------


def publish(folder: Path, files: Mapping[str, bytes], depends: Mapping[str, object]) -> None:
    """Write the result of a stage, its done mark last.

    Args:
        folder: Of the stage.
        files: Contents by name.
        depends: Everything that the result depends on, by name.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        (folder / DONE).unlink()
    for name, data in files.items():
        write_bytes(folder / name, data)
    mark = {
        "digest": digest(depends),
        "depends": {name: digest(part) for name, part in depends.items()},
        "files": {name: len(data) for name, data in files.items()},
    }
    write_json(folder / DONE, mark)


def is_done(folder: Path, depends: Mapping[str, object]) -> bool:
    """Whether a stage finished with just these parts and all its files are still there."""
    done = _mark(folder)
    return done is not None and done["digest"] == digest(depends) and is_whole(folder)


def is_whole(folder: Path) -> bool:
    """Whether a stage finished, with whatever parts, and all its files are still there."""
    done = _mark(folder)
    if done is None:
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
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
        return done if {"digest", "depends", "files"} <= set(done) else None
    except (OSError, ValueError, TypeError):
        return None


# --- the study -----------------------------------------------------------------------------------


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
    def split_notes_file(self) -> Path:
        """How even the folds are, and what was decided on the way."""
        return self.split_folder / "split.json"

    @property
    def log_file(self) -> Path:
        """Everything the console said, and tracebacks."""
        return self.folder / "log.txt"

    @property
    def lock_file(self) -> Path:
        """Held by whoever writes here."""
        return self.folder / ".lock"

    @property
    def report_file(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    @property
    def combine_folder(self) -> Path:
        """Leaderboard, decoders and blends."""
        return self.folder / "combine"

    @property
    def leaderboard_file(self) -> Path:
        """Every row with its honest scores; beside it the same as a table for people."""
        return self.combine_folder / "leaderboard.json"

    @property
    def answers_file(self) -> Path:
        """How every row answers for new cases, and of which trainings."""
        return self.combine_folder / "answers.json"

    @property
    def out_of_fold_file(self) -> Path:
        """What the chosen row says of every case, out of fold."""
        return self.combine_folder / "oof.csv"

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
    def own_files(self) -> tuple[Path, ...]:
        """What lies in the folder itself."""
        return (
            self.settings_file,
            self.manifest_file,
            self.report_file,
            self.log_file,
            self.lock_file,
        )

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
            raise StudyError(f"no study in {self.folder}; cure: {self.call('init')} ...")
        return self

    def call(self, verb: str) -> str:
        """A verb of this study as it is typed in a shell."""
        return f"foveal {verb} {shlex.quote(str(self.folder))}"

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
                f"cannot read {self.manifest_file}: {error}; cure: foveal init FOLDER --replace"
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
        try:
            opened = self.lock_file.open("a+")
        except OSError as error:
            raise disk_error(self.lock_file, error) from error
        with opened as file:
            self._acquire(file, wait)
            self._sweep()
            _sign(file, f"{holder} (process {os.getpid()})")
            try:
                yield file.fileno()
            finally:
                _sign(file, "")

    def _sweep(self) -> None:
        """Remove what killed processes had half written; who holds the study is alone."""
        for folder in (".", "*", "members/*/*"):
            for left in self.folder.glob(f"{folder}/.*{PART}"):
                with suppress(OSError):
                    left.unlink()

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
            except OSError as error:
                raise StudyError(
                    f"{self.folder} cannot be locked: {error.strerror}; cure: another file system"
                ) from None


def _sign(file: io.TextIOWrapper, text: str) -> None:
    """Say who holds a study, for whoever finds it held; on a full disk it is held without."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), text.encode())


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
    beside = study.folder.with_name(f".{study.folder.name}.{os.getpid()}{PART}")
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
