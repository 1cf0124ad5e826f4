"""From a command line to an exit code.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 data or study, 4 out of memory, 75 stopped and
resumable.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from cyclopts import CycloptsError, UnusedCliTokensError

from foveal.cli.console import Console, kept, tell, unread
from foveal.cli.session import Common, Result, Session
from foveal.cli.verbs import app
from foveal.errors import FovealError, UsageError
from foveal.launch import STOP_SIGNALS


def main() -> None:
    """The entry point of the `foveal` command."""
    logging.getLogger().addHandler(logging.NullHandler())  # libraries log; only the roof speaks
    code = call(sys.argv[1:])
    for number in STOP_SIGNALS:  # what is done is done, and its code says so
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def call(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    session = Session()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, session.hear)
    try:
        command, bound, hidden = app.parse_args(tokens, exit_on_error=False, print_error=False)
        result = command(*bound.args, **bound.kwargs, **dict.fromkeys(hidden, session))
        common = bound.kwargs.get("common", Common())
        session.console.clear()
        return _show(result, common) if isinstance(result, Result) else 0
    except CycloptsError as error:
        session.console.error(_plain(error))
        return UsageError.exit_code
    except FovealError as error:
        session.console.error(str(error), getattr(error, "culprits", ()))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last resort: one line, and a log
        return _unexpected(error, session.console)


def _show(result: Result, common: Common) -> int:
    text = result.text
    if common.json:
        text = json.dumps(_finite(result.data), ensure_ascii=False, default=str, allow_nan=False)
    try:
        print(text, end="\n" if text else "", flush=True)
    except BrokenPipeError:  # who reads has read enough, as `head` does
        unread(sys.stdout)
    if result.following and not common.quiet:
        tell(f"next: {result.following}")
    return result.code


def _finite(value: Any) -> Any:
    """The same, with null for numbers that JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value


def _plain(error: CycloptsError) -> str:
    """A mistake on the command line, as one line."""
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        cure = "options of the recipe are edited in study.yaml" if "=" in words else "see --help"
        return f"nothing is done with: {words}; cure: {cure}"
    return " ".join(str(error).split())


def _unexpected(error: Exception, console: Console) -> int:
    log = kept("".join(traceback.format_exception(error)), console.log)
    console.error(f"{type(error).__name__}: {' '.join(str(error).split())}; see {log}")
    return 1
