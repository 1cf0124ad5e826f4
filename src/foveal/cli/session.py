"""One call: its console, its signals, and what it comes to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from foveal.cli.console import Console
from foveal.cli.words import seconds_of
from foveal.errors import UsageError, nearest

STARTED = time.monotonic()


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every verb takes."""

    quiet: Annotated[bool, Parameter(negative="", help="Only errors on standard error.")] = False
    json: Annotated[bool, Parameter(negative="", help="The result as one JSON object.")] = False


Device = Annotated[str, Parameter(help="cpu or cuda; found out if left out.")]

QUIET = Common()


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb came to: for people, for machines, what to type next, and the exit code."""

    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    following: str = ""
    code: int = 0


class Session:
    """One call: its console, and the signals it has heard."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self.console = Console(quiet=False, log=None)
        self.stopped = threading.Event()

    def hear(self, number: int, _frame: object) -> None:
        """The first signal asks for a stop, the second one insists."""
        if self.stopped.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stopped.set()

    @contextmanager
    def work(
        self, common: Common, folder: Path | None = None, *, hours: str = "", device: str = ""
    ) -> Iterator[tuple[Any, Any]]:
        """The study and context of a verb."""
        from foveal.study import Study
        from foveal.task import Context

        study = Study((folder or Path()).absolute())
        has_study = folder is not None and study.settings_file.is_file()
        self.console = Console(quiet=common.quiet, log=study.log_file if has_study else None)
        if device not in ("", "cpu", "cuda"):
            raise UsageError(f'--device "{device}"{nearest(device, ("cpu", "cuda"))}')
        end = STARTED + seconds_of(hours, plain=3600.0) if hours else float("inf")
        yield (
            study,
            Context(
                say=self.console.say,
                warn=self.console.warn,
                progress=self.console.progress,
                should_stop=lambda: self.stopped.is_set() or time.monotonic() > end,
                device=device or None,
            ),
        )


Hidden = Annotated[Session, Parameter(parse=False)]
