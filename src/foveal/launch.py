"""Jobs side by side: each a process that computes with one thread and dies with its parent.

A job is a module-level function and JSON arguments. The child reads its orders from standard input
and writes events to standard output, a JSON object a line; the pipe is also the leash: when the
parent is gone, however it went, the pipe closes and the child ends at once. How many jobs run
together never changes what one of them computes.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from foveal import errors
from foveal.errors import DataError, FovealError, Stopped, UsageError
from foveal.machine import cores, free_bytes, one_thread

LEASH_BROKEN = 70
JOB_BYTES = 1.5e9
"""Memory that a job on the CPU is expected to need."""

BEGIN = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from foveal.launch import main
main()"""
"""How a job begins. Modules are found where its parent finds them, foveal among them; with `-P`
what lies in the working directory, such as a `signal.py`, is none of Python's own."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks to save and end."""

GRACE_SECONDS = 120.0
"""How long a job may take to save its state after it was asked to stop."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What a job's function is handed: whom to tell, and whom to ask."""

    report: Callable[[Mapping[str, Any]], None]
    should_stop: Callable[[], bool]


def slots_of(device: str | None) -> list[str]:
    """One slot for each job that may run at a time: the CUDA devices, else the cores.

    Of cores only as many as there is memory for; beside CUDA devices one, for jobs without a use
    for these.

    Args:
        device: "cpu" or "cuda" to insist on a kind.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return [*(f"cuda:{k}" for k in range(torch.cuda.device_count())), "cpu"]
    if device == "cuda":
        raise UsageError("no CUDA device is to be had here; cure: leave --device out")
    return ["cpu"] * max(1, min(cores(), int(free_bytes() / JOB_BYTES)))


def _stops_all(*_: Any) -> bool:
    """The first error ends them all."""
    return False


def side_by_side(
    function: Callable[..., None],
    calls: Sequence[Mapping[str, Any]],
    *,
    slots: Sequence[str],
    log: Path,
    should_stop: Callable[[], bool],
    on_event: Callable[[int, Mapping[str, Any]], None],
    kinds: Sequence[str] = (),
    keep: Sequence[int] = (),
    grace_seconds: float = GRACE_SECONDS,
    spares: Callable[[int, FovealError], bool] = _stops_all,
) -> None:
    """Run a function once for each call, some at a time.

    Args:
        function: Module-level; called as `function(channel, device=slot, **call)` in a process of
            its own.
        calls: JSON arguments.
        slots: The devices, one a job that may run at a time; none runs the calls one by one in
            this process, on the CPU.
        log: Receives what the jobs write to standard error.
        should_stop: Asked often; when true the jobs are asked to stop and save.
        on_event: Told the number of the call and what its job reports.
        kinds: The kind of device that each call has a use for, "cuda" or "cpu"; where no slot is of
            that kind, or nothing is said, any will do.
        keep: File descriptors that the jobs hold too, such as that of a lock.
        grace_seconds: How long jobs may take to save their state after they were asked to stop.
        spares: Told of a call and the error of its job; whether the others go on.

    Raises:
        FovealError: The first error that is not spared; the other jobs are asked to stop first.
        Stopped: The signal came.
    """
    if not slots:
        for number, call in enumerate(calls):
            report = _reporter(on_event, number)
            try:
                with _one_thread():
                    function(Channel(report, should_stop), device="cpu", **call)
            except Exception as error:
                told = error if isinstance(error, FovealError) else FovealError(_in_a_line(error))
                if not spares(number, told):
                    raise
        return
    address = f"{function.__module__}:{function.__qualname__}"
    waiting, free = list(enumerate(calls)), list(slots)
    running: dict[int, _Child] = {}
    failure: FovealError | None = None
    stop_by: float | None = None
    events: queue.Queue[tuple[int, Mapping[str, Any]]] = queue.Queue()
    try:
        while waiting or running:
            if stop_by is None and (failure is not None or should_stop()):
                failure = failure or Stopped("stopped; the same call goes on")
                waiting, stop_by = [], time.monotonic() + grace_seconds
                for child in running.values():
                    child.ask_to_stop()
            for number, call in tuple(waiting):
                slot = _slot_for(kinds[number] if kinds else "", free, slots)
                if slot is not None:
                    waiting.remove((number, call))
                    free.remove(slot)
                    order = {"function": address, "call": {**call, "device": slot}}
                    running[number] = _Child(order, events, number, log, keep)
            for number, event in _drain(events):
                on_event(number, event)
            for number, child in list(running.items()):
                if child.finished():
                    for late, event in _drain(events):
                        on_event(late, event)
                    error = child.error()
                    if error is not None and (failure or not spares(number, error)):
                        failure = failure or error
                    free.append(running.pop(number).device)
            if stop_by is not None and time.monotonic() > stop_by:
                break
    except BaseException:  # this process fails, not a job: they save what they have
        for child in running.values():
            child.ask_to_stop()
        stop_by = time.monotonic() + grace_seconds
        while time.monotonic() < stop_by and not all(c.finished() for c in running.values()):
            time.sleep(0.05)
        raise
    finally:
        for child in running.values():
            child.kill()
    if failure is not None:
        raise failure


def _slot_for(kind: str, free: Sequence[str], slots: Sequence[str]) -> str | None:
    """A free slot of a kind, or any where there is none of that kind at all."""
    suited = [slot for slot in slots if slot.partition(":")[0] == kind] or slots
    return next((slot for slot in free if slot in suited), None)


def _reporter(
    on_event: Callable[[int, Mapping[str, Any]], None], number: int
) -> Callable[[Mapping[str, Any]], None]:
    return lambda event: on_event(number, event)


def _drain(events: queue.Queue) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Events as they come, for a twentieth of a second."""
    patience = 0.05
    while True:
        try:
            yield events.get(timeout=patience)
            patience = 0.001
        except queue.Empty:
            return


class _Child:
    """One job's process, seen from the parent."""

    def __init__(
        self,
        order: Mapping[str, Any],
        events: queue.Queue,
        number: int,
        log: Path,
        keep: Sequence[int],
    ) -> None:
        with log.open("ab") as errors_to:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", BEGIN, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors_to,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which asks politely
                pass_fds=tuple(keep),
            )
        self.events, self.number, self.log = events, number, log
        self.failure: Mapping[str, Any] | None = None
        self.device: str = order["call"]["device"]
        self._tell(order)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _tell(self, order: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it is gone; `error` will say so
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                return  # the job was killed as it wrote
            event = json.loads(line)
            if "failure" in event:
                self.failure = event
            else:
                self.events.put((self.number, event))

    def ask_to_stop(self) -> None:
        self._tell({"stop": True})

    def finished(self) -> bool:
        if self.process.poll() is None:
            return False
        self.reader.join()
        self.close()
        return True

    def error(self) -> FovealError | None:
        code = self.process.returncode
        if code == 0:
            return None
        if self.failure is not None:
            kind = getattr(errors, self.failure["failure"], FovealError)
            about = self.failure.get("culprits")
            where = f"; see {self.log}" if kind is FovealError else ""  # nobody expected it
            return kind(self.failure["message"] + where, *([about] if about else []))
        cause = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        memory = "; the system may have run out of memory" if code == -9 else ""
        return FovealError(f"a job ended without a word ({cause}){memory}; see {self.log}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.close()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


# --- the child ------------------------------------------------------------------------------------


@contextmanager
def _one_thread() -> Iterator[None]:
    """One compute thread a job, of networks too."""
    import torch

    from foveal.train.batches import quiet_libraries

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quiet_libraries()
    try:
        with one_thread():
            yield
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """Read one order, do it, report on the way."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes to the log
    lock = threading.Lock()

    def report(event: Mapping[str, Any]) -> None:
        with lock:
            out.write(json.dumps(event).encode() + b"\n")

    orders = sys.stdin.buffer
    order = json.loads(orders.readline())
    stop = threading.Event()

    def hold_leash() -> None:
        for _ in orders:
            stop.set()
        os._exit(LEASH_BROKEN)  # the parent is gone: write nothing more

    threading.Thread(target=hold_leash, daemon=True).start()
    for number in STOP_SIGNALS:  # a batch system sends them to every process
        signal.signal(number, lambda *_: stop.set())
    module, _, name = order["function"].partition(":")
    try:
        with _one_thread():
            getattr(import_module(module), name)(Channel(report, stop.is_set), **order["call"])
    except FovealError as error:
        about = {"culprits": error.culprits} if isinstance(error, DataError) else {}
        report({"failure": _known(error).__name__, "message": str(error), **about})
        if error.exit_code != Stopped.exit_code:
            traceback.print_exc()
        code = error.exit_code
    except Exception as error:  # noqa: BLE001  its parent must hear of it, whatever it is
        traceback.print_exc()
        report({"failure": "FovealError", "message": _in_a_line(error)})
        code = 1
    else:
        code = 0
    sys.stderr.flush()
    os._exit(code)


def _in_a_line(error: Exception) -> str:
    """An error that nobody expected."""
    return f"{type(error).__name__}: {error}"


def _known(error: FovealError) -> type[FovealError]:
    """The nearest kind that the parent can make by name."""
    return next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, 0) is kind)
