"""What a shell sees: streams, exit codes, the next command."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveal import __version__, cli


def foveal(*tokens: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "foveal.cli", *map(str, tokens)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


LATE = """
import atexit, os, signal, sys
from foveal.cli import main
for _ in range(2):
    atexit.register(os.kill, os.getpid(), signal.{name})
sys.argv = ["foveal", "--version"]
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_that_come_at_the_end_change_no_exit_code(name: str) -> None:
    command = [sys.executable, "-c", LATE.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, __version__), done.stderr


VERBS = (
    "demo", "init", "audit", "split", "train", "combine", "predict", "report", "run", "score",
    "doctor", "recipes",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.call([verb, "--help"]) == 0
    assert f"Example: foveal {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["ini"], 'Did you mean "init"'),
        (["train"], "FOLDER"),
        (["init", "x", "--reciep", "grade:small"], "--recipe"),
        (["demo", "grad"], 'did you mean "grade"'),
        (["recipes", "grade:smal"], 'did you mean "small"'),
        (["recipes", "grad:small"], 'did you mean "grade"'),
        (["score", "a", "b", "--metric", "kappa"], "quadratic_kappa"),
        (["train", "x", "--hours", "soon"], "8h30m"),
    ],
)
def test_a_mistake_is_one_plain_line_and_exit_code_2(
    tokens: list[str], words: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.call(tokens) == 2
    seen = capsys.readouterr()
    assert words in seen.err
    assert seen.err.startswith("error: ")
    assert len(seen.err.splitlines()) == 1
    assert not seen.out


def test_a_folder_without_a_study_is_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for verb in ("run", "train", "split", "combine", "report", "audit"):
        assert cli.call([verb, str(tmp_path / "none")]) == 3
        assert "foveal init" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_recipes_list_every_option_with_its_meaning(capsys: pytest.CaptureFixture) -> None:
    assert cli.call(["recipes", "grade:aptos", "--json"]) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    common = {"folds", "epochs", "size", "backbone", "weights", "seed", "batch", "members"}
    assert common <= {o["name"] for o in options}
    assert all(o["help"] for o in options)


def test_score_prints_the_number_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("id,grade\nx,0\ny,2\nz,1\n")
    (tmp_path / "t.csv").write_text("id,grade\nz,1\nx,0\ny,1\n")
    tokens = [
        "score",
        str(tmp_path / "a.csv"),
        str(tmp_path / "t.csv"),
        "--metric",
        "quadratic_kappa",
    ]
    assert cli.call(tokens) == 0
    seen = capsys.readouterr()
    assert seen.out == "0.6666666667\n"
    assert cli.call([*tokens, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"metric", "value", "interval", "cases"}
    (tmp_path / "t.csv").write_text("id,grade\nz,1\n")
    assert cli.call([*tokens, "--json"]) == 0
    told = capsys.readouterr().out
    assert "NaN" not in told
    assert json.loads(told)["interval"] == [None, None]
    (tmp_path / "t.csv").write_text("id,grade\nq,1\n")
    assert cli.call(tokens) == 3


def test_doctor_finds_this_environment_in_order() -> None:
    done = foveal("doctor")
    assert done.returncode == 0, done.stdout
    assert "ok  torch" in done.stdout


def test_the_verbs_one_after_the_other(eyes: dict, tmp_path: Path) -> None:
    table, images = eyes["table"], eyes["images"]
    options = ["size=32", "epochs=1", "folds=2", "trees=5", "members=floor,regression"]
    done = foveal(
        "init", "my eyes", "--recipe", "grade:small", "--table", table, "--images", images,
        "--target", "grade", "--group", "patient", "--site", "clinic", *options, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"36 cases, 4 trainings of about \d+ (s|min)", done.stdout)
    assert done.stderr.splitlines()[-1] == "next: foveal run 'my eyes'"
    for verb in ("audit", "split", "train", "combine", "report", "run"):
        done = foveal(verb, "my eyes", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert done.stderr.splitlines()[-1].startswith("next: foveal ")
    done = foveal("combine", "my eyes", "--json", "--quiet", cwd=tmp_path)
    assert "chosen" in json.loads(done.stdout)
    assert not done.stderr
    tail = ["--table", table, "--images", images, "--out", "a.csv"]
    done = foveal("predict", "my eyes", *tail, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.csv\n")
    assert (tmp_path / "a.csv").read_text().startswith("image,grade\n")
    assert "training" in (tmp_path / "my eyes" / "log.txt").read_text()


def test_a_time_limit_stops_with_75_and_the_same_call_goes_on(eyes: dict, tmp_path: Path) -> None:
    done = foveal(
        "init", "s", "--recipe", "grade:small", "--table", eyes["table"], "--images",
        eyes["images"], "--target", "grade", "size=32", "epochs=400", "folds=2",
        "members=regression", "--quiet", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for seconds in (14, 28, 56):  # a busy machine may not reach a first step in the shortest
        started = time.monotonic()
        done = foveal("train", "s", "--hours", f"{seconds}s", cwd=tmp_path)
        assert done.returncode == 75, done.stderr
        assert "the same call goes on" in done.stderr
        assert time.monotonic() - started < seconds + 46
        if list((tmp_path / "s" / "members").rglob("checkpoint.safetensors")):
            return
    pytest.fail("no training was saved")


def test_a_held_study_names_its_holder(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from conftest import FAST
    from foveal import stages, study

    made = stages.init(tmp_path / "s", recipe="grade:small", options=FAST, **eyes)
    monkeypatch.setattr(study, "LOCK_PATIENCE_SECONDS", 0.2)
    with made.lock("foveal train"):
        assert cli.call(["split", str(made.folder)]) == 3
    assert "held by foveal train (process" in capsys.readouterr().err


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m foveal.cli recipes segment:small | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert not done.stderr


def test_it_is_a_module_too() -> None:
    run = [sys.executable, "-m", "foveal", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__
