"""A study survives full disks, killed processes and edits by hand."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal import study as study_module
from foveal.decide import FixedCuts
from foveal.errors import StudyError, UsageError
from foveal.manifest import Facts, Manifest
from foveal.read import Photograph
from foveal.study import (
    Settings,
    Study,
    changed,
    create,
    describe,
    digest,
    format_settings,
    is_done,
    lay_out,
    parse_settings,
    publish,
    revive,
    write_bytes,
)
from foveal.table import Source
from foveal.transforms import Augment, Cutmix, Mixup, Prepare

FACTS = Facts(
    cases=3,
    target={"grades": 5},
    height=3,
    width=4,
    aspect=4 / 3,
    channels=1,
    bits=16,
    mean=(1e-7,),
    std=(0.25,),
    sizes={"3 x 4": 3},
    sites=("010", "no", "12:30", "1e-3", "é: #1"),
)
MANIFEST = Manifest(
    ids=("a",),
    paths=(("/a.png",),),
    id_column="id",
    target=np.array([["1"]]),
    target_columns=("grade",),
)
TEXT = "recipe: grade:small\n"


def settings_of(options: dict, **source) -> Settings:
    where = {"table": "/t.csv", "images": "/i/{x}", "target": ("g",)} | source
    return Settings(recipe="grade:small", options=options, source=Source(**where), facts=FACTS)


def full_disk_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    left, sync = [writes], os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def everything_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(0, 3), (5,), (4, 3, 2)])
def test_what_is_laid_out_is_an_array_of_zeros(tmp_path, shape, dtype):
    lay_out(tmp_path / "laid", shape, np.dtype(dtype))
    np.save(tmp_path / "saved.npy", np.zeros(shape, dtype))
    assert (tmp_path / "laid").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    full_disk_after(monkeypatch, 0)
    with pytest.raises(StudyError, match="disk is full") as error:
        write_bytes(path, b"new")
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"old"
    assert everything_in(tmp_path) == {"deep", "deep/file"}


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


# --- done marks ----------------------------------------------------------------------------------


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


# --- digests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    speed: int = field(default=1, metadata={"digest": False})
    size: int = 2


@pytest.mark.parametrize(
    "part",
    [
        FixedCuts((0.5, 1.5)),
        Prepare(height=3, width=4, crop_border=False),
        Augment(scale=(0.5, 2.0)),
        (Mixup(0.1), Cutmix(), {"a": (1, None, True, "x")}),
        Photograph(channels=5, bits=16),
    ],
)
def test_what_describe_writes_revive_reads(part):
    assert revive(describe(part)) == part


def test_what_has_no_name_cannot_describe_itself():
    def closure() -> None: ...

    for part in (lambda x: x, closure, object(), {1, 2}, Path("/x"), [lambda x: x]):
        with pytest.raises(TypeError, match="cannot describe itself"):
            describe(part)


def test_revive_takes_only_records_of_foveal():
    for part in ("os:system", "foveal.study:digest", "foveal.study:Nothing", f"{__name__}:Local"):
        with pytest.raises(StudyError, match="no record of foveal"):
            revive({"part": part})


def test_a_digest_tells_apart_what_differs_and_ignores_what_may():
    parts = [1, 1.0, True, None, "1", "", (), ((),), {"a": 1}, {"a": 2}, {"b": 1}, 0, -1, np.eye(2)]
    parts += [np.zeros((2, 3)), np.zeros((3, 2)), Prepare(height=1, width=2), describe, digest]
    assert len({digest(p) for p in parts}) == len(parts)
    assert digest(1, 2) != digest((1, 2))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Local(speed=1)) == digest(Local(speed=9)) != digest(Local(size=3))


def test_a_digest_is_the_same_in_every_process():
    code = (
        "from foveal.study import *; from foveal.decide import FixedCuts; import numpy as np;"
        "print(digest(FixedCuts((0.5,)), describe, {'é': np.arange(3.0), 'a': 1}))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 16


# --- the lock ------------------------------------------------------------------------------------

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


# --- study.yaml ----------------------------------------------------------------------------------

TRICKY = (
    "no", "yes", "~", "null", "true", "010", "0x1f", "1e-3", "1_000", ".5", "12:30", "2020-01-01",
    "- a", "a: b", "#a", "a #b", " a ", "=", "<<", "*a", "&a", "!a", "%", "@", "\t", "a\nb", "",
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=9)
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False))


@settings(max_examples=120, deadline=None, database=None)
@given(
    value=st.one_of(numbers, texts, st.sampled_from(TRICKY)),
    name=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1),
)
def test_settings_come_back_as_they_were(tmp_path_factory, value, name):
    path = tmp_path_factory.mktemp("s") / "study.yaml"
    wanted = settings_of({"option": value, "list": [value]}, id=name, target=(name, "no"))
    path.write_text(format_settings(wanted), encoding="utf-8")
    got = parse_settings(path)
    assert got == wanted
    assert type(got.options["option"]) is type(value)


def edited(folder: Path, old: str, new: str) -> Settings:
    text = format_settings(settings_of({"epochs": 5}))
    assert old in text
    (folder / "study.yaml").write_text(text.replace(old, new))
    return Study(folder).settings()


def test_values_typed_by_hand_are_read_as_yaml_1_2_says(tmp_path):
    for text, value in (("1e-3", 1e-3), ("no", "no"), ("12:30", "12:30"), ("null", None)):
        assert edited(tmp_path, "epochs: 5", f"epochs: {text}").options == {"epochs": value}
    assert edited(tmp_path, "options:\n  epochs: 5", "options:").options == {}
    assert edited(tmp_path, "target:\n- g", "target: g") == settings_of({"epochs": 5})


def test_keys_that_are_unknown_missing_or_twice_are_named(tmp_path):
    with pytest.raises(UsageError, match=r'unknown key "epochs".*there are: recipe'):
        edited(tmp_path, "options:\n  epochs: 5", "epochs: 5")
    with pytest.raises(UsageError, match=r'unknown key "recip".*did you mean "recipe"'):
        edited(tmp_path, "recipe:", "recip:")
    for key, text in (("table", "table: /t.csv"), ("recipe", "recipe: grade:small")):
        with pytest.raises(StudyError, match=f'key "{key}" is missing'):
            edited(tmp_path, text, "")
    with pytest.raises(StudyError, match="duplicate key"):
        edited(tmp_path, "  epochs: 5", "  epochs: 5\n  epochs: 6")


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\tx: 1", "just words"])
def test_a_file_that_is_no_settings_is_refused_by_name(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"study\.yaml"):
        Study(tmp_path).settings()
    with pytest.raises(StudyError, match="no study in"):
        Study(tmp_path / "none").settings()


def test_a_lock_that_cannot_be_opened_is_an_error_of_the_study(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StudyError, match="cannot write"), Study(tmp_path).lock("run"):
        pass
