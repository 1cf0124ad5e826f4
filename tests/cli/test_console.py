"""What people see on standard error, and what the log keeps."""

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from foveal.cli.console import Console
from foveal.errors import MOST_NAMES

NAMES = [f"case {k}" for k in range(50)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def lines(log: Path) -> list[str]:
    """The log without its times."""
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
    return [stamp.sub("", line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_said_and_kept(log: Path, capsys: pytest.CaptureFixture) -> None:
    console = Console(quiet=False, log=log)
    console.say("größer")
    console.warn("mind", ["a", "b"])
    assert capsys.readouterr() == ("", "größer\nwarning: mind\n  a\n  b\n")
    assert lines(log) == ["größer", "warning: mind", "  a", "  b"]


def test_quiet_says_errors_alone_and_keeps_everything(
    log: Path, capsys: pytest.CaptureFixture
) -> None:
    console = Console(quiet=True, log=log)
    console.say("hello")
    console.warn("mind", ["a"])
    console.progress("training", 0.5, "epoch 1")
    assert capsys.readouterr().err == ""
    console.error("no", ["b"])
    assert capsys.readouterr().err == "error: no\n  b\n"
    assert lines(log)[:4] == ["hello", "warning: mind", "  a", "training  50% epoch 1"]
    assert "error: no" in lines(log)


@pytest.mark.parametrize("count", [0, 1, MOST_NAMES, MOST_NAMES + 1, 50])
@pytest.mark.parametrize("verb", ["warn", "error"])
def test_twenty_culprits_are_shown_and_the_rest_counted(
    log: Path, capsys: pytest.CaptureFixture, verb: str, count: int
) -> None:
    getattr(Console(quiet=False, log=log), verb)("wrong", NAMES[:count])
    _, *shown = capsys.readouterr().err.splitlines()
    wanted = [f"  {name}" for name in NAMES[: min(count, 20)]]
    if count > 20:
        wanted.append(f"  and {count - 20} more, all listed in {log}")
        assert set(lines(log)) >= {f"  {name}" for name in NAMES[:count]}
    assert shown == wanted


def test_without_a_log_the_rest_goes_to_a_spare_one(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Console(quiet=False, log=None).error("wrong", NAMES[:20])
    assert list(tmp_path.iterdir()) == []
    Console(quiet=False, log=None).error("wrong", NAMES)
    (spare,) = tmp_path.glob("foveal-*/log.txt")
    assert f"  and 30 more, all listed in {spare}" in capsys.readouterr().err
    assert lines(spare) == [f"  {name}" for name in NAMES]


def test_a_line_is_never_wrapped_and_a_log_in_no_folder_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = "/a/long path/" * 100
    Console(quiet=False, log=tmp_path / "gone" / "log.txt").error(words)
    assert capsys.readouterr().err == f"error: {words}\n"
    assert not (tmp_path / "gone").exists()


def test_progress_is_a_line_now_and_then(log: Path, capsys: pytest.CaptureFixture) -> None:
    console = Console(quiet=False, log=log)
    console.progress("reading", 0.0, "")
    just_now, long_ago = float("inf"), float("-inf")
    steps = [("reading", 0.25, "b"), ("reading", 0.5, "c"), ("training", 0.07, "d"),
             ("training", 1.0, "e")]  # fmt: skip
    for step, said in zip(steps, (just_now, long_ago, just_now, just_now), strict=True):
        console.shown = (console.shown[0], said)
        console.progress(*step)
    wanted = ["reading   0%", "reading  50% c", "training   7% d", "training 100% e"]
    assert capsys.readouterr().err.splitlines() == wanted
    assert lines(log) == ["reading  25% b", *wanted[1:]]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A terminal for standard error; once it is closed, what it has shown."""
    reads, writes = pty.openpty()
    shown: list[str] = []
    with os.fdopen(writes, "w") as file, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", file)
        yield shown
    with suppress(OSError), os.fdopen(reads, "rb", buffering=0) as screen:  # it ends in an error
        while data := screen.read(1 << 16):
            shown.append(data.decode("utf-8", "ignore"))


def test_on_a_terminal_a_line_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(quiet=False, log=None)
    with terminal(monkeypatch) as shown:
        console.progress("training", 0.5, "epoch 1")
        console.say("a line")
    seen = "".join(shown)
    assert "epoch 1" in seen
    assert seen.endswith("a line\r\n")
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor is back


def test_the_bar_leaves_standard_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    console = Console(quiet=False, log=None)
    with terminal(monkeypatch):
        console.progress("training", 0.5, "epoch 1")
        sys.stdout.write("the result\n")
        console.say("a line")
    assert capsys.readouterr().out == "the result\n"


def test_a_log_that_cannot_be_written_to_hides_nothing(capsys: pytest.CaptureFixture) -> None:
    console = Console(quiet=False, log=Path("/dev/full"))
    console.say("hello")
    console.progress("training", 0.5, "words")
    console.error("wrong", NAMES)
    seen = capsys.readouterr().err
    assert seen.startswith("hello\n")
    assert "error: wrong" in seen
    spare = Path(re.findall(r"all listed in (\S+)", seen)[0])
    assert spare.read_text().splitlines() == [f"  {name}" for name in NAMES]
    spare.unlink()
    spare.parent.rmdir()


def test_what_was_told_before_there_was_a_log_stands_in_it(tmp_path: Path) -> None:
    console = Console(quiet=True, log=None)
    console.warn("rare labels", ["a"])
    log = tmp_path / "log.txt"
    console.begin(log)
    console.say("done")
    lines = log.read_text().splitlines()
    assert [line[20:] for line in lines] == ["warning: rare labels", "  a", "done"]


def test_nobody_reading_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread:
        monkeypatch.setattr(sys, "stderr", unread)
        console = Console(quiet=False, log=None)
        console.say("a line")
        console.progress("training", 0.5, "epoch 1")
        console.error("wrong", NAMES[:2])
    assert "wrong" in "".join(console.early)


def test_a_terminal_that_is_closed_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = os.openpty()
    with os.fdopen(terminal, "w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        assert closed.isatty()
        os.close(master)
        console = Console(quiet=False, log=None)
        for share in (0.1, 0.5):
            console.progress("training", share, "epoch 1")
        console.say("a line")
        console.clear()
    assert "a line" in "".join(console.early)


def test_a_full_disk_behind_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        console = Console(quiet=False, log=None)
        console.say("a line")
        console.say("another")
    assert "another" in "".join(console.early)


@pytest.mark.parametrize("words", [["recipes"], ["recipes", "grade:small", "--json"]])
def test_results_that_nobody_reads_are_no_error(words: list[str]) -> None:
    command = [sys.executable, "-m", "foveal", *words]
    read, write = os.pipe()
    os.close(read)
    said = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert said.returncode == 0
    assert "error" not in said.stderr
