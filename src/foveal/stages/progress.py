"""How far trainings side by side are, when they may end, and the curve that each leaves."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal import launch
from foveal.files import read_json, write_json, write_text
from foveal.study import CHECKPOINT, CURVE_MARK, CURVE_SO_FAR
from foveal.task import Context

PREPARING = "preparing pictures"

TOLD_FROM_SHARE, TOLD_FROM_SECONDS = 0.05, 300.0
"""Of the work, and of time, from which an end is foreseen, once pictures are prepared."""


LOOK_TOLD_EVERY_SECONDS = 10.0
"""Between words on one look of a training at what it judges."""

TOLD_FROM_STEPS_SECONDS = 10.0
"""How long counted steps go on before anything is said of them."""


class Steps:
    """Counted steps of a stage: told where they take long, and it may be stopped before each."""

    def __init__(self, what: str, count: int, context: Context) -> None:
        """None is done yet."""
        self.what, self.count, self.context = what, count, context
        self.done, self.began = 0, time.monotonic()

    def __call__(self) -> None:
        """Another step begins.

        Raises:
            Stopped: The signal came.
        """
        self.context.ask()
        if time.monotonic() - self.began > TOLD_FROM_STEPS_SECONDS:
            self.context.progress(self.what, self.done / self.count, "")
        self.done += 1


class Board:
    """Progress of jobs side by side, with an estimate of the end."""

    def __init__(self, names: Sequence[str], context: Context) -> None:
        """Begin at nothing."""
        self.names, self.context = names, context
        self.done = [0.0] * len(names)
        self.began: tuple[float, float] | None = None
        self.told: dict[int, float] = {}

    def hear(self, number: int, event: Mapping[str, Any]) -> None:
        """Pass on what a training reports."""
        if "note" in event:
            self.context.warn(f"{self.names[number]}: {event['note']}", [])
        if "prepared" in event:
            self.context.progress(PREPARING, event["prepared"], "")
        if "looked_at" in event:
            self._look(number, event["looked_at"])
        if "done" not in event:
            return
        self.done[number] = float(event["done"])
        share, now = sum(self.done) / len(self.done), time.monotonic()
        self.began = self.began or (now, share)
        spent, gained = now - self.began[0], share - self.began[1]
        words = self.names[number]
        if "epoch" in event:
            words += f" epoch {event['epoch']}/{event['epochs']} loss {event['loss']:.4f}"
        if "held" in event:
            words += f" held-out {event['held']:.3f}"
        is_told = gained >= TOLD_FROM_SHARE or spent >= TOLD_FROM_SECONDS
        if is_told and share < 1:
            words += f", {_duration(spent * (1 - share) / max(gained, 1e-6))} left"
        self.context.progress("training", share, words)

    def _look(self, number: int, share: float) -> None:
        """Now and then, how far the look of a training at what it judges is."""
        now = time.monotonic()
        if now - self.told.setdefault(number, now) > LOOK_TOLD_EVERY_SECONDS:
            self.told[number] = now
            words = f"{self.names[number]} trained, {share:.0%} of what it judges scored"
            self.context.progress("training", sum(self.done) / len(self.done), words)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"about {minutes} min"


class Curve:
    """The rows of `metrics.csv`, kept over stops of one training; `curve.json` says of which.

    They lie in a file of their own until it is done: an earlier training may have left its curve.
    """

    columns = ("epoch", "loss", "lr", "held", "seconds")

    def __init__(self, folder: Path, mark: str, channel: launch.Channel) -> None:
        """Begin, or go on with the curve of the training of that mark."""
        self.path, self.kept_of = folder / CURVE_SO_FAR, folder / CURVE_MARK
        self.mark, self.channel = mark, channel
        self.rows: dict[int, Mapping[str, Any]] = {}
        self.is_marked = self.kept_of.is_file() and read_json(self.kept_of) == mark
        goes_on = self.is_marked and (folder / CHECKPOINT).is_file()
        if goes_on and self.path.is_file():
            with self.path.open(newline="") as file:
                self.rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    def hear(self, event: Mapping[str, Any]) -> None:
        """Write down the epoch that a training reports, and pass all of it on."""
        if "epoch" in event:
            self.rows[event["epoch"]] = event
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self.text())
            if not self.is_marked:
                write_json(self.kept_of, self.mark)
                self.is_marked = True
        self.channel.report({**event, "done": min(event.get("done", 0.0), 0.999)})

    def text(self) -> str:
        """All rows, as CSV."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[k] for k in sorted(self.rows))
        return out.getvalue()
