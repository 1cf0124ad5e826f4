"""Jobs side by side: they report, stop, fail with their own error, and die with their parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from foveal import launch
from foveal.errors import (
    DataError,
    FovealError,
    ManifestError,
    MemoryBudgetError,
    Stopped,
    UnreadableImage,
)
from foveal.launch import Channel, side_by_side, slots_of


def double(channel: Channel, *, device: str, number: int) -> None:
    print("a library that chatters on standard output")  # noqa: T201
    channel.report({"device": device, "twice": 2 * number})


def fail(channel: Channel, *, device: str, number: int) -> None:
    if number == 1:
        raise MemoryBudgetError("too big")
    while not channel.should_stop():
        time.sleep(0.01)
    raise Stopped("saved")


def crash(channel: Channel, *, device: str) -> None:
    raise ZeroDivisionError("by nought")


def vanish(channel: Channel, *, device: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def double_but_1(channel: Channel, *, device: str, number: int) -> None:
    if number == 1:
        raise MemoryBudgetError("too big")
    double(channel, device=device, number=number)


def write_for_ever(channel: Channel, *, device: str, path: str) -> None:
    channel.report({"pid": os.getpid()})
    while True:
        Path(path).write_text(str(time.time()))
        time.sleep(0.01)


def run(function: Any, calls: list[dict], tmp_path: Path, **more: Any) -> list[Mapping]:
    heard: list[Mapping] = []
    side_by_side(
        function,
        calls,
        slots=more.pop("slots", ("cpu", "cpu")),
        log=tmp_path / "log.txt",
        should_stop=more.pop("should_stop", lambda: False),
        on_event=lambda number, event: heard.append({"number": number, **event}),
        **more,
    )
    return heard


@pytest.mark.parametrize("slots", [("cpu", "cpu"), ()])
def test_every_call_reports(tmp_path: Path, slots: tuple[str, ...]) -> None:
    heard = run(double, [{"number": k} for k in range(3)], tmp_path, slots=slots)
    assert sorted((h["number"], h["twice"], h["device"]) for h in heard) == [
        (0, 0, "cpu"), (1, 2, "cpu"), (2, 4, "cpu"),
    ]  # fmt: skip


def count_threads(channel: Channel, *, device: str) -> None:
    import torch

    channel.report({"threads": torch.get_num_threads()})


@pytest.mark.parametrize("slots", [(), ("cpu",)])
def test_a_job_computes_on_one_thread_wherever_it_runs(
    tmp_path: Path, slots: tuple[str, ...]
) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        heard = run(count_threads, [{}], tmp_path, slots=slots)
        assert [event["threads"] for event in heard if "threads" in event] == [1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_files_of_the_working_directory_are_no_modules_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("signal", "queue", "foveal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert [h["twice"] for h in run(double, [{"number": 1}], tmp_path)] == [2]


def test_a_job_finds_foveal_where_its_parent_found_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import test_launch as t, pathlib;"
        "print(t.run(t.double, [{'number': 4}], pathlib.Path(sys.argv[3])))"
    )
    source = Path(launch.__file__).parent.parent
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), str(source), str(tmp_path)]
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    said = subprocess.run(arguments, env=bare, capture_output=True, text=True, cwd=tmp_path)
    assert "'twice': 8" in said.stdout, said.stderr


def test_an_error_keeps_its_kind_and_stops_the_others(tmp_path: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="too big"):
        run(fail, [{"number": 0}, {"number": 1}, {"number": 2}], tmp_path)


@pytest.mark.parametrize("slots", [("cpu",), ()])
def test_an_error_that_is_spared_leaves_the_others_to_go_on(
    tmp_path: Path, slots: tuple[str, ...]
) -> None:
    spared: list[tuple[int, str]] = []

    def spares(number: int, error: FovealError) -> bool:
        spared.append((number, str(error)))
        return True

    heard = run(
        double_but_1, [{"number": k} for k in range(3)], tmp_path, slots=slots, spares=spares
    )
    assert [h["twice"] for h in heard] == [0, 4]
    assert spared == [(1, "too big")]
    spared.clear()
    run(crash, [{}], tmp_path, slots=slots, spares=spares)
    assert spared[0][1].startswith("ZeroDivisionError: by nought")


def test_an_unexpected_error_is_one_line_and_its_traceback_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(FovealError, match="ZeroDivisionError: by nought") as caught:
        run(crash, [{}], tmp_path)
    assert str(caught.value).endswith(f"; see {tmp_path / 'log.txt'}")
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_a_killed_job_is_named(tmp_path: Path) -> None:
    with pytest.raises(FovealError, match="killed by signal 9"):
        run(vanish, [{}], tmp_path)


def test_a_stop_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Stopped):
        run(fail, [{"number": 0}], tmp_path, should_stop=lambda: time.monotonic() > started + 4)


def wait(channel: Channel, *, device: str, signalled: int) -> None:
    if signalled:
        os.kill(os.getpid(), signalled)
    while not channel.should_stop():
        time.sleep(0.01)
    raise Stopped("saved")


def save(channel: Channel, *, device: str, path: str) -> None:
    channel.report({"begun": True})
    while not channel.should_stop():
        time.sleep(0.01)
    Path(path).write_text("saved")
    raise Stopped("saved")


@pytest.mark.parametrize("error", [OSError("no terminal"), KeyboardInterrupt()])
def test_jobs_save_what_they_have_where_their_parent_fails(
    tmp_path: Path, error: BaseException
) -> None:
    def hear(number: int, event: Mapping) -> None:
        raise error

    path = tmp_path / "state"
    calls = [{"path": str(path)}]
    with pytest.raises(type(error)):
        side_by_side(
            save,
            calls,
            slots=("cpu",),
            log=tmp_path / "log.txt",
            should_stop=lambda: False,
            on_event=hear,
        )
    assert path.read_text() == "saved"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_a_batch_system_sends_to_every_process_is_a_stop(
    tmp_path: Path, number: int
) -> None:
    with pytest.raises(Stopped, match="saved"):
        run(wait, [{"signalled": int(number)}, {"signalled": 0}], tmp_path)


def chatter(channel: Channel, *, device: str) -> None:
    while True:
        channel.report({"much": "x" * 300_000})


def test_a_job_that_is_killed_as_it_writes_leaves_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stops = iter([False] * 40 + [True] * 1000)
    for _ in range(3):
        with pytest.raises(Stopped):
            run(chatter, [{}], tmp_path, should_stop=lambda: next(stops), grace_seconds=0.0)
    assert capfd.readouterr().err == ""


def test_jobs_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "written"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_launch as t, pathlib;"
        "t.run(t.write_for_ever, [{'path': sys.argv[2]}], pathlib.Path(sys.argv[3]))"
    )
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", code, here, str(target), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": here}
    parent = subprocess.Popen(arguments, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert target.exists()
    finally:
        parent.kill()
        parent.wait()
    time.sleep(1.0)
    before = target.read_text()
    time.sleep(0.5)
    assert target.read_text() == before


def test_slots_follow_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(slots_of("cpu")) == {"cpu"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert slots_of(None) == ["cuda:0", "cuda:1", "cpu"]
    assert set(slots_of("cpu")) == {"cpu"}


@pytest.mark.parametrize(
    ("slots", "kinds", "devices"),
    [
        (("cuda:0", "cpu"), ["cpu", "cuda", "cuda", "cpu"], ["cpu", "cuda:0", "cuda:0", "cpu"]),
        (("cpu", "cpu"), ["cuda", "cpu", "cuda", "cpu"], ["cpu"] * 4),
        (("cuda:0",), ["cpu", "cuda", "cpu", "cuda"], ["cuda:0"] * 4),
    ],
)
def test_a_job_gets_a_slot_of_its_kind_where_there_is_one(
    tmp_path: Path, slots: tuple[str, ...], kinds: list[str], devices: list[str]
) -> None:
    heard = run(double, [{"number": k} for k in range(4)], tmp_path, slots=slots, kinds=kinds)
    assert {event["number"]: event["device"] for event in heard} == dict(enumerate(devices))


def refuse(channel: Channel, *, device: str) -> None:
    if device == "cpu":
        raise ManifestError("2 cases cannot be read", ["a: broken", "b: gone"])
    raise UnreadableImage("c: it does not decode")


@pytest.mark.parametrize(
    ("slot", "kind", "culprits"),
    [("cpu", ManifestError, ("a: broken", "b: gone")), ("other", DataError, ())],
)
def test_an_error_of_a_job_keeps_its_kind_and_its_culprits(
    tmp_path: Path, slot: str, kind: type[DataError], culprits: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as error:
        run(refuse, [{}], tmp_path, slots=(slot,))
    assert error.value.culprits == culprits
    assert error.value.exit_code == 3
