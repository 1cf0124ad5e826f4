"""Telling: lines on standard error and in the study's log, a bar on a terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from foveal.errors import MOST_NAMES


class Console:
    """Lines on standard error and in the study's log; a bar on a terminal."""

    def __init__(self, *, quiet: bool, log: Path | None) -> None:
        """Write to standard error unless quiet, and to the log where there is one."""
        self.quiet, self.log = quiet, log
        self.early: list[str] = []
        self.bar: Any = None
        self.shown = ("", 0.0)

    def say(self, text: str) -> None:
        """A line for people."""
        if self.quiet:
            self._note(text)
        else:
            self._tell(text)

    def warn(self, text: str, about: Sequence[str] = ()) -> None:
        """A line that people should not miss."""
        self.say(f"warning: {text}")
        self._list(about, self.say)

    def error(self, text: str, about: Sequence[str] = ()) -> None:
        """A plain line, never wrapped, shown even when quiet."""
        self._tell(f"error: {text}")
        self._list(about, self._tell)

    def _tell(self, text: str) -> None:
        """A line for people, quiet or not."""
        self._note(text)
        self.clear()
        tell(text)

    def _list(self, about: Sequence[str], tell: Callable[[str], None]) -> None:
        for line in about[:MOST_NAMES]:
            tell(f"  {line}")
        if len(about) > MOST_NAMES:
            log = kept("".join(f"  {line}\n" for line in about), self.log)
            tell(f"  and {len(about) - MOST_NAMES} more, all listed in {log}")

    def progress(self, what: str, share: float, words: str) -> None:
        """How far something is: a bar on a terminal, else a line now and then."""
        if words:
            self._note(f"{what} {share:4.0%} {words}")
        if self.quiet:
            return
        if sys.stderr.isatty():
            try:
                self._draw(what, share, words)
            except OSError:
                self.bar = None
                unread(sys.stderr)
        elif what != self.shown[0] or share >= 1 or time.monotonic() - self.shown[1] > 10:
            self.shown = (what, time.monotonic())
            tell(f"{what} {share:4.0%} {words}".rstrip())

    def _draw(self, what: str, share: float, words: str) -> None:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, TextColumn

        if self.bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[words]}"),
            )
            self.bar = Progress(
                *columns,
                console=Terminal(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.bar.start()
            self.bar.add_task(what, total=1.0, words="")
        self.bar.update(self.bar.task_ids[0], description=what, completed=share, words=words)

    def clear(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def begin(self, log: Path) -> None:
        """A log that is there only now; what was told before stands in it too."""
        self.log, early = log, self.early
        self.early = []
        self._write("".join(early))

    def _note(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        if self.log is None:
            self.early.append(line)
        else:
            self._write(line)

    def _write(self, text: str) -> None:
        if self.log is not None and self.log.parent.is_dir():
            with suppress(OSError):  # a full or read-only disk; what is told counts more
                write_more(self.log, text)


def tell(text: str) -> None:
    """A line on standard error, if it can be written: what is at work is worth more than words.

    It cannot be behind `head`, which reads no more, in a terminal that was closed, on a full disk.
    """
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        unread(sys.stderr)


def unread(stream: TextIO) -> None:
    """Nobody reads a stream any more: what is left for it, and what follows, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_more(log: Path, text: str) -> None:
    """Add to a log."""
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def kept(text: str, log: Path | None) -> Path:
    """Add to a log that can be written to, and say which: this one, or a spare one."""
    if log is not None and log.parent.is_dir():
        with suppress(OSError):
            write_more(log, text)
            return log
    log = spare_log()
    write_more(log, text)
    return log


def spare_log() -> Path:
    """A log for a call that has no study."""
    return Path(tempfile.mkdtemp(prefix="foveal-")) / "log.txt"
