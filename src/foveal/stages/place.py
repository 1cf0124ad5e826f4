"""Where an answer may be written: nothing that is read is lost, and it is known before scoring."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from foveal.errors import UsageError
from foveal.files import disk_error
from foveal.manifest import Case
from foveal.study import Study

STREAMS = ("/dev/std", "/dev/fd/", "/proc/")
"""How the names of open files begin, also of those that lead to a regular file by now."""

LONGEST_NAME = 230
"""Bytes of a file's name that every file system takes, with room for what is put around it while it
is written."""

SCRATCH = ".foveal-scratch-"
"""How the name of a folder begins that a killed call leaves behind, free to delete."""


def keep_what_is_read(
    writes: Sequence[Path], study: Study, table: Path, cases: Sequence[Case]
) -> None:
    """Refuse an answer that would replace a file which is read, or lie among the slices of one.

    That is the study's own table and files too. Of pictures only the text of their paths is looked
    at, and where their folders are: there may be many, far away.
    """
    settings, known = study.settings(), study.manifest()
    source = settings.source
    named = [settings.recipe.rpartition(":")[0], *settings.options.values()]  # a file of one's own
    own = [Path(text) for text in named if isinstance(text, str) and text.startswith("/")]
    own += [table, Path(source.table), study.folder, *study.own_files]
    read = {path.resolve() for path in own}
    stages = {path.resolve() for path in study.stage_folders}
    targets = [k for k, name in enumerate(known.target_columns) if name in source.files]
    told = [known.target[:, k] for k in targets] + [known.roles.get("mask", np.zeros(0, np.str_))]
    files = {path for paths in known.paths for path in paths}.union(*(n.tolist() for n in told))
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
    real = {folder: os.path.realpath(folder or "/") for folder in {part[0] for part in parts}}
    plain = {f"{folder}/{name}" for folder, _, name in parts}
    return plain | {f"{real[folder].rstrip('/')}/{name}" for folder, _, name in parts}


def require_place(out: Path, writes: Sequence[Path]) -> None:
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
    for folder in dict.fromkeys(nearest_folder(p.parent) for p in writes):
        if not folder.is_dir():
            raise UsageError(f"--out: {folder} is no folder; cure: another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"--out: {folder} cannot be written; cure: another place")


def nearest_folder(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(p for p in (folder, *folder.parents) if os.path.lexists(p))


@contextmanager
def scratch_beside(beside: Path) -> Iterator[Path]:
    """A folder for what scoring makes on the way, beside the answer and gone when all is done.

    The system's temporary folder is often memory, or small.
    """
    folder = nearest_folder(beside)
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
