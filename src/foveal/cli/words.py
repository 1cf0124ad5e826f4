"""Between what people type and read, and values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.errors import UsageError

NUMBER = re.compile(r"[-+]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""What people take for one: 007, 1_000 and 0x1F are names."""

QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)


def seconds_of(text: str, *, plain: float | None = None) -> float:
    """A duration such as 8h30m, 90m or 45s.

    Args:
        text: As typed.
        plain: Seconds that a bare number counts in; None where it may mean one thing or another.

    Example:
        >>> seconds_of("8h30m"), seconds_of("90m"), seconds_of("45s"), seconds_of("2", plain=3600)
        (30600.0, 5400.0, 45.0, 7200.0)
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if match and any(match.groups()):
        seconds = sum(
            float(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)
        )
    else:
        try:
            number = float(text)
        except ValueError:
            raise UsageError(f'"{text}" is no duration; write it like 8h30m, 90m or 45s') from None
        if plain is None:
            raise UsageError(f'"{text}" says no unit; write {text}h, {text}m or {text}s')
        seconds = number * plain
    if not 0 < seconds < float("inf"):
        raise UsageError(f'"{text}" is no duration above zero')
    return seconds


def options_of(tokens: Sequence[str]) -> dict[str, Any]:
    """`name=value` arguments: numbers, true and false, and else the text as it was typed.

    What stands in quotation marks is a text, as YAML has it.

    Example:
        >>> options_of(["size=96", "lr=1e-3", "weights=none"])
        {'size': 96, 'lr': 0.001, 'weights': 'none'}
    """
    from ruamel.yaml import YAML, YAMLError

    options: dict[str, Any] = {}
    for token in tokens:
        name, sign, value = token.partition("=")
        if not sign or not name:
            raise UsageError(f'"{token}" is no option; write it like size=96')
        if name in options:
            raise UsageError(f"the option {name}= is given twice")
        try:
            parsed = YAML(typ="safe", pure=True).load(value) if value else ""
        except (YAMLError, ValueError):  # a name or path that happens to mean something in YAML
            parsed = value
        is_read = isinstance(parsed, bool) or NUMBER.fullmatch(value) or QUOTED.fullmatch(value)
        options[name] = parsed if is_read else value
    return options


def next_call(verb: str, folder: Path, rest: str = "") -> str:
    """What to type next."""
    return f"foveal {verb} {shlex.quote(str(folder))}{' ' + rest if rest else ''}"


def leaderboard(board: Mapping[str, Any]) -> str:
    """The leaderboard as aligned text, the chosen row marked."""
    from foveal.ship.numbers import number, span

    width = max(len(r["name"]) for r in board["rows"])
    sites = list(board["rows"][0]["sites"])
    widths = [max(len(s), 5) for s in sites]
    names = "  ".join(f"{s:>{w}}" for s, w in zip(sites, widths, strict=True))
    lines = [f"  {'row':{width}}  score  {'95 % interval':14}  {names}"]
    for row in board["rows"]:
        mark = "*" if row["name"] == board["chosen"] else " "
        by_site = "  ".join(
            f"{number(row['sites'][s]):>{w}}" for s, w in zip(sites, widths, strict=True)
        )
        note = "  below the floor" if row["below_floor"] else ""
        scores = f"{number(row['score']):>5}  {span(row['interval']):14}  {by_site}{note}"
        lines.append(f"{mark} {row['name']:{width}}  {scores}")
    if board["nested_interval"] is None:
        lines.append(
            "* chosen; to cross-fit the choice itself takes three folds with cases that count"
        )
    else:
        nested = f"{number(board['nested'])} ({span(board['nested_interval'])})"
        lines.append(f"* chosen; with the choice itself cross-fitted {nested}")
    return "\n".join(line.rstrip() for line in lines)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60}h{minutes % 60:02d}m"
