"""A study survives full disks, killed processes and edits by hand."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from disks import full_disk_after
from foveal import study as study_module
from foveal.errors import StudyError
from foveal.manifest import Manifest
from foveal.study import Study, changed, create, is_done, publish
from foveal.transforms import Prepare

MANIFEST = Manifest(
    ids=("a",),
    paths=(("/a.png",),),
    id_column="id",
    target=np.array([["1"]]),
    target_columns=("grade",),
)
TEXT = "recipe: grade:small\n"


def everything_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_create_makes_a_folder_whole_or_not_at_all(tmp_path, monkeypatch):
    study = Study(tmp_path / "new" / "study")
    for writes in (0, 1):
        full_disk_after(monkeypatch, writes)
        with pytest.raises(StudyError, match="disk is full"):
            create(study, TEXT, MANIFEST)
        assert everything_in(tmp_path) == set()
        monkeypatch.undo()
    create(study, TEXT, MANIFEST)
    assert everything_in(study.folder) == {"study.yaml", "manifest.csv"}
    assert study.manifest().to_csv() == MANIFEST.to_csv()


def test_a_stage_is_done_for_just_what_it_depends_on(tmp_path):
    depends = {"recipe": Prepare(height=8, width=8), "seed": 0, "ids": ("a", "b"), "x": None}
    publish(tmp_path, {"a.bin": b"123", "empty": b""}, depends)
    assert is_done(tmp_path, depends)
    assert changed(tmp_path, depends) == []
    others = {"recipe": Prepare(height=8, width=9), "seed": 1, "ids": ("b", "a"), "x": 0}
    for name, value in others.items():
        assert not is_done(tmp_path, depends | {name: value})
        assert changed(tmp_path, depends | {name: value}) == [name]
    less = {k: v for k, v in depends.items() if k != "seed"}
    assert changed(tmp_path, less) == ["seed"]
    assert changed(tmp_path, depends | {"new": 1}) == ["new"]


def test_a_lost_or_truncated_file_undoes_a_stage(tmp_path):
    for spoil in (Path.unlink, lambda p: p.write_bytes(b"12"), lambda p: p.write_bytes(b"")):
        publish(tmp_path, {"a.bin": b"123", "b.bin": b"4"}, {})
        assert is_done(tmp_path, {})
        spoil(tmp_path / "a.bin")
        assert not is_done(tmp_path, {})


def test_a_mark_cut_anywhere_is_no_mark(tmp_path):
    publish(tmp_path, {"a.bin": b"123"}, {"x": 1})
    mark = (tmp_path / "done.json").read_bytes()
    for kept in range(len(mark.strip())):
        (tmp_path / "done.json").write_bytes(mark[:kept])
        assert not is_done(tmp_path, {"x": 1})


def test_an_interrupted_publish_is_not_done_even_over_an_older_one(tmp_path, monkeypatch):
    publish(tmp_path, {"a": b"1", "b": b"1"}, {"x": 1})
    for writes in (0, 1, 2):
        full_disk_after(monkeypatch, writes)
        with pytest.raises(StudyError):
            publish(tmp_path, {"a": b"2", "b": b"2"}, {"x": 1})
        assert not is_done(tmp_path, {"x": 1})
        monkeypatch.undo()


HOLD = """
import sys, time, pathlib
from foveal.study import Study
with Study(pathlib.Path(sys.argv[1])).lock("foveal train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_study_names_its_holder_and_is_free_when_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "LOCK_PATIENCE_SECONDS", 0.3)
    asked = []
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with (
            pytest.raises(StudyError, match=rf"held by foveal train \(process {holder.pid}\)"),
            Study(tmp_path).lock("foveal report", wait=lambda: asked.append(1)),
        ):
            pass
        assert 0.3 <= time.monotonic() - started < 5
        assert asked == [1]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with Study(tmp_path).lock("foveal report"):
        assert "foveal report" in (tmp_path / ".lock").read_text()
    with Study(tmp_path).lock("again"):
        pass


def test_a_lock_that_cannot_be_opened_is_an_error_of_the_study(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StudyError, match="cannot write"), Study(tmp_path).lock("run"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_study_is_held_though_nothing_can_be_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", full)
    with Study(tmp_path).lock("run"):
        pass


def test_a_file_system_without_locks_is_an_error_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(study_module.fcntl, "flock", none)
    with pytest.raises(StudyError, match=r"cannot be locked: no locks; cure"):  # noqa: SIM117
        with Study(tmp_path).lock("run"):
            pass


def test_what_killed_processes_had_half_written_goes_when_the_study_is_held(tmp_path: Path) -> None:
    left = [tmp_path / p for p in (".a.7.part", "combine/.b.8.part", "members/m/0/.c.9.part")]
    kept = [tmp_path / p for p in ("combine/oof.csv", "cache/pictures.part", "members/m/0/.d")]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with Study(tmp_path).lock("run"):
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
