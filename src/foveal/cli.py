"""The command line: one verb a stage. The only file that prints, or reads what a person typed.

Standard output carries the result (with `--json` one object), standard error everything else, the
next command last. Exit codes: 0 done, 1 unexpected, 2 usage, 3 data or study, 4 out of memory,
75 stopped and resumable.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from foveal.errors import FovealError, UsageError, nearest

STARTED = time.monotonic()
MOST_CULPRITS = 20


def _worth_showing(default: object) -> str:
    """Defaults as they are typed; nothing for "not given"."""
    return "" if default in ("", None, False) else str(default)


app = App(
    name="foveal",
    help_format="plaintext",
    version_flags=["--version"],
    default_parameter=Parameter(show_default=_worth_showing),
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every verb takes."""

    quiet: Annotated[bool, Parameter(negative="", help="Only errors on standard error.")] = False
    json: Annotated[bool, Parameter(negative="", help="The result as one JSON object.")] = False
    device: Annotated[str, Parameter(help="cpu or cuda; found out if left out.")] = ""


QUIET = Common()


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb came to: for people, for machines, what to type next, and the exit code."""

    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    following: str = ""
    code: int = 0


# --- telling --------------------------------------------------------------------------------------


class Console:
    """Lines on standard error and in the study's log; a bar on a terminal."""

    def __init__(self, *, quiet: bool, log: Path | None) -> None:
        """Write to standard error unless quiet, and to the log where there is one."""
        self.quiet, self.log = quiet, log
        self.bar: Any = None
        self.shown = ("", 0.0)

    def say(self, text: str) -> None:
        """A line for people."""
        self._note(text)
        if not self.quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str, about: Sequence[str] = ()) -> None:
        """A line that people should not miss."""
        self.say(f"warning: {text}")
        self._list(about, self.say)

    def error(self, text: str, about: Sequence[str] = ()) -> None:
        """A plain line, never wrapped, shown even when quiet."""
        self._clear()
        self._note(f"error: {text}")
        print(f"error: {text}", file=sys.stderr, flush=True)
        self._list(about, lambda line: print(line, file=sys.stderr, flush=True))

    def _list(self, about: Sequence[str], tell: Callable[[str], None]) -> None:
        for line in about[:MOST_CULPRITS]:
            tell(f"  {line}")
        if len(about) > MOST_CULPRITS:
            log = self.log or _spare_log()
            with log.open("a", encoding="utf-8") as file:
                file.writelines(f"  {line}\n" for line in about)
            tell(f"  and {len(about) - MOST_CULPRITS} more, all listed in {log}")

    def progress(self, what: str, share: float, words: str) -> None:
        """How far something is: a bar on a terminal, else a line now and then."""
        if words:
            self._note(f"{what} {share:4.0%} {words}")
        if self.quiet:
            return
        if sys.stderr.isatty():
            self._draw(what, share, words)
        elif what != self.shown[0] or share >= 1 or time.monotonic() - self.shown[1] > 10:
            self.shown = (what, time.monotonic())
            print(f"{what} {share:4.0%} {words}".rstrip(), file=sys.stderr, flush=True)

    def _draw(self, what: str, share: float, words: str) -> None:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, TextColumn

        if self.bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[words]}"),
            )
            self.bar = Progress(*columns, console=Terminal(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(what, total=1.0, words="")
        self.bar.update(self.bar.task_ids[0], description=what, completed=share, words=words)

    def _clear(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _note(self, text: str) -> None:
        if self.log is not None and self.log.parent.is_dir():
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {text}\n")


def _spare_log() -> Path:
    """A log for a call that has no study."""
    return Path(tempfile.mkdtemp(prefix="foveal-")) / "log.txt"


# --- running a verb -------------------------------------------------------------------------------


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
        self, common: Common, folder: Path | None = None, *, hours: str = "", lock: str = ""
    ) -> Iterator[tuple[Any, Any]]:
        """The study and context of a verb; with `lock` the study is held while it works."""
        from foveal.study import Study
        from foveal.task import Context

        study = Study((folder or Path()).absolute())
        has_study = folder is not None and study.settings_file.is_file()
        self.console = Console(quiet=common.quiet, log=study.log_file if has_study else None)
        if common.device not in ("", "cpu", "cuda"):
            raise UsageError(f'--device "{common.device}"{nearest(common.device, ("cpu", "cuda"))}')
        end = STARTED + seconds_of(hours, plain=3600.0) if hours else float("inf")
        context = Context(
            say=self.console.say,
            warn=self.console.warn,
            progress=self.console.progress,
            should_stop=lambda: self.stopped.is_set() or time.monotonic() > end,
            device=common.device or None,
        )
        if not (lock and has_study):
            yield study, context
            return
        waiting = f"waiting up to 10 seconds: {study.folder} is held by another process"
        with study.lock(f"foveal {lock}", lambda: self.console.say(waiting)) as descriptor:
            yield study, replace(context, keep=(descriptor,))


Hidden = Annotated[Session, Parameter(parse=False)]


def main() -> None:
    """The entry point of the `foveal` command."""
    sys.exit(call(sys.argv[1:]))


def call(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    session = Session()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, session.hear)
    try:
        command, bound, hidden = app.parse_args(tokens, exit_on_error=False, print_error=False)
        result = command(*bound.args, **bound.kwargs, **dict.fromkeys(hidden, session))
        common = bound.kwargs.get("common", Common())
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
    if common.json:
        print(json.dumps(result.data, ensure_ascii=False, default=str))
    elif result.text:
        print(result.text)
    if result.following and not common.quiet:
        print(f"next: {result.following}", file=sys.stderr)
    sys.stdout.flush()
    return result.code


def _plain(error: CycloptsError) -> str:
    """A mistake on the command line, as one line."""
    return " ".join(str(error).split())


def _unexpected(error: Exception, console: Console) -> int:
    log = console.log or _spare_log()
    with log.open("a", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    console.error(f"{type(error).__name__}: {' '.join(str(error).split())}; see {log}")
    return 1


def seconds_of(text: str, *, plain: float = 1.0) -> float:
    """A duration such as 8h30m, 90m or 45s; a bare number counts in `plain` seconds.

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
            seconds = float(text) * plain
        except ValueError:
            raise UsageError(f'"{text}" is no duration; write it like 8h30m, 90m or 45s') from None
    if not 0 < seconds < float("inf"):
        raise UsageError(f'"{text}" is no duration above zero')
    return seconds


def options_of(tokens: Sequence[str]) -> dict[str, Any]:
    """`name=value` arguments, the values as YAML 1.2 reads them.

    Example:
        >>> options_of(["size=96", "lr=1e-3", "weights=none"])
        {'size': 96, 'lr': 0.001, 'weights': 'none'}
    """
    from ruamel.yaml import YAML

    options: dict[str, Any] = {}
    for token in tokens:
        name, sign, value = token.partition("=")
        if not sign or not name:
            raise UsageError(f'"{token}" is no option; write it like size=96')
        if name in options:
            raise UsageError(f"the option {name}= is given twice")
        parsed = YAML(typ="safe", pure=True).load(value) if value else ""
        options[name] = parsed if isinstance(parsed, int | float | bool | str) else value
    return options


def _next(verb: str, folder: Path, rest: str = "") -> str:
    return f"foveal {verb} {shlex.quote(str(folder))}{' ' + rest if rest else ''}"


# --- verbs ----------------------------------------------------------------------------------------


@app.command
def demo(
    family: str, /, *options: str, out: Path | None = None, common: Common = QUIET, session: Hidden
) -> Result:
    """Simulate a small data set, run every stage and write the report.

    Example: foveal demo grade --out demo-grade

    Args:
        family: What to show, such as grade.
        options: name=value of the recipe.
        out: The folder to write to; demo-FAMILY if left out.
    """
    from foveal import stages

    folder = out or Path(f"demo-{family}")
    with session.work(common, folder / "study") as (_, context):
        study, report = stages.demo(family, folder, options=options_of(options), context=context)
    answer = folder / "answers.csv"
    data = {"study": str(study.folder), "report": str(report), "answer": str(answer)}
    text = f"{_leaderboard(study)}\nanswers  {answer}\nreport   {report}"
    return Result(text, data, f"open {shlex.quote(str(report))} in a browser")


@app.command
def init(
    folder: Path,
    /,
    *options: str,
    recipe: str,
    table: Path,
    images: str,
    target: str,
    id: str = "",
    group: str = "",
    site: str = "",
    weight: str = "",
    fold: str = "",
    source: str = "",
    replace_old: Annotated[bool, Parameter(name="--replace", negative="")] = False,
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Read a table and every picture once, and make a study of them.

    Example: foveal init eyes --recipe grade:small --table labels.csv --images 'img/{image}'
    --target grade size=128

    Args:
        folder: Of the study; it appears whole or not at all.
        options: name=value of the recipe; `foveal recipes ADDRESS` lists them.
        recipe: Its address, such as grade:small, or ./mine.py:name.
        table: CSV or Parquet with a header.
        images: Pattern over the table's columns, relative to the working directory.
        target: Column to be predicted.
        id: Column of unique names; the first one if left out.
        group: Column of what no fold may split, or image_size.
        site: Column of clinic, scanner or provider.
        weight: Column of how much a case counts.
        fold: Column with folds of your own.
        source: Column that names the data set a case comes from.
        replace_old: Describe a study anew that is there already.
    """
    from foveal import stages

    names = {
        "id": id,
        "group": group,
        "site": site,
        "weight": weight,
        "fold": fold,
        "source": source,
    }
    with session.work(common, folder, lock="init" if replace_old else "") as (_, context):
        existed = (folder / "study.yaml").is_file()
        study = stages.init(
            folder,
            recipe=recipe,
            table=table,
            images=images,
            target=target,
            options=options_of(options),
            columns={k: v for k, v in names.items() if v},
            replace_old=replace_old,
            context=context,
        )
        data: dict[str, Any] = {"study": str(study.folder), "new": not existed or replace_old}
        text = f"{study.folder}"
        if data["new"]:
            count, seconds = stages.plan(study, context)
            cases = study.settings().facts.cases
            data |= {"cases": cases, "trainings": count, "seconds": round(seconds)}
            text += f": {cases} cases, {count} trainings of about {_words(seconds)} in all"
    return Result(text, data, _next("run", folder))


@app.command
def audit(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Look for what could make a score lie: confounds, and equal pictures with other grades.

    Example: foveal audit eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages

    with session.work(common, folder) as (study, context):
        findings = stages.audit(study, context)
    text = "\n".join(findings) or "nothing suspicious"
    return Result(text, {"findings": findings}, _next("split", folder))


@app.command
def split(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Assign every case to a fold; print how far from balance they are.

    Example: foveal split eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages
    from foveal.study import read_json

    with session.work(common, folder, lock="split") as (study, context):
        stages.split(study, context)
        notes = read_json(study.split_folder / "split.json")
        table = stages.fold_table(study)
    lines = [*table, f"imbalance {100 * notes['imbalance']:.1f} % of the cases", *notes["notes"]]
    return Result(
        "\n".join(lines), {**notes, "file": str(study.folds_file)}, _next("train", folder)
    )


@app.command
def train(
    folder: Path,
    /,
    *,
    member: str = "",
    fold: int | None = None,
    hours: str = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Train what is not yet trained, go on with what was stopped.

    Example: foveal train eyes --hours 8h30m

    Args:
        folder: Of the study.
        member: Only this one.
        fold: Only this one.
        hours: Stop in time, with exit code 75; the same call goes on.
    """
    from foveal import stages

    with session.work(common, folder, hours=hours, lock="train") as (study, context):
        stages.train(study, member=member, fold=fold, context=context)
    return Result("trained", {"study": str(study.folder)}, _next("combine", folder))


@app.command
def combine(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Fit cuts, judge members and ensembles, choose the row that answers.

    Example: foveal combine eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages
    from foveal.study import read_json

    with session.work(common, folder, lock="combine") as (study, context):
        stages.combine(study, context)
    board = read_json(study.combine_folder / "leaderboard.json")
    return Result(_leaderboard(study), board, _next("report", folder))


@app.command
def report(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Write one page to look at, readable without a network.

    Example: foveal report eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages

    with session.work(common, folder, lock="report") as (study, context):
        page = stages.report(study, context)
    table = "--table new.csv --images 'new/{image}' --out answers.csv"
    return Result(str(page), {"report": str(page)}, _next("predict", folder, table))


@app.command
def run(folder: Path, /, *, hours: str = "", common: Common = QUIET, session: Hidden) -> Result:
    """Run every stage up to the report; skip what is done.

    Example: foveal run eyes --hours 2

    Args:
        folder: Of the study.
        hours: Stop in time, with exit code 75; the same call goes on.
    """
    from foveal import stages

    with session.work(common, folder, hours=hours, lock="run") as (study, context):
        page = stages.run(study, context)
    table = "--table new.csv --images 'new/{image}' --out answers.csv"
    following = _next("predict", folder, table)
    return Result(f"{_leaderboard(study)}\n{page}", {"report": str(page)}, following)


@app.command
def predict(
    folder: Path,
    /,
    *,
    table: Path,
    images: str,
    out: Path,
    scores: Annotated[bool, Parameter(negative="")] = False,
    answer: str = "",
    deadline: str = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Answer for every row of a table.

    Example: foveal predict eyes --table new.csv --images 'new/{image}' --out answers.csv --scores

    Args:
        folder: Of the study.
        table: CSV or Parquet with the study's id column and those that lead to the pictures.
        images: Pattern over the table's columns.
        out: The answer's file.
        scores: Expected grades and probabilities too.
        answer: A row of the leaderboard; the chosen one if left out.
        deadline: A valid answer at every moment, the best one by then, such as 8h30m.
    """
    from foveal import stages
    from foveal.predict.deadline import Deadline

    limit = Deadline(seconds_of(deadline), STARTED) if deadline else None
    with session.work(common, folder) as (study, context):
        answered = stages.predict(
            study,
            table=table,
            images=images,
            out=out,
            scores=scores,
            answer=answer,
            deadline=limit,
            context=context,
        )
        lost = [f'id "{name}": {why}' for name, why in answered.unreadable.items()]
        if lost:
            context.warn(f"{len(lost)} pictures cannot be read; they get the prior answer", lost)
        if answered.members != answered.all_members:
            done = ", ".join(answered.members) or "nobody: it is the prior answer"
            context.warn(
                f"the deadline left time for {done} (wanted {', '.join(answered.all_members)})"
            )
    data = {
        "answer": str(out),
        "row": answered.row,
        "members": answered.members,
        "unreadable": answered.unreadable,
    }
    return Result(str(out), data)


@app.command
def score(
    answer: Path,
    truth: Path,
    /,
    *,
    metric: str,
    id: str = "",
    target: str = "",
    beta: float = 0.5,
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Score an answer against the truth, the metric alone.

    Example: foveal score --metric quadratic_kappa answers.csv truth.csv --target grade

    Args:
        answer: A table, or a folder of masks.
        truth: The same with what is true.
        metric: quadratic_kappa, macro_f1, map_at_5, f_beta or dice.
        id: Column of ids; the answer's first one if left out.
        target: Column to score, or several with commas.
        beta: Of f_beta.
    """
    from foveal.ship.scoring import score as scored

    with session.work(common):
        targets = [t for t in target.split(",") if t]
        got = scored(metric, answer, truth, id_column=id, targets=targets, beta=beta)
    data = {"metric": metric, "value": got.value, "interval": got.interval, "cases": got.cases}
    return Result(f"{got.value:.10g}", data)


@app.command
def doctor(
    *,
    probe: Annotated[bool, Parameter(negative="")] = False,
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Check the environment; every finding comes with its cure.

    Example: foveal doctor --probe

    Args:
        probe: Time a training step in a few ways and suggest options; nothing is changed.
    """
    from foveal import doctor as ward

    with session.work(common):
        found = ward.examine()
        lines = [
            f"{'ok ' if f.is_fine else 'bad'} {f.name}: {f.words}"
            + ("" if f.is_fine else f"; cure: {f.cure}")
            for f in found
        ]
        data: dict[str, Any] = {f.name: {"ok": f.is_fine, "words": f.words} for f in found}
        if probe:
            measured = ward.probe()
            lines += [f"    {n}: {r} images/s" for n, r in measured["images_per_second"].items()]
            lines += [
                f"    fastest here: {measured['suggestion']} (a suggestion; results differ in bits)"
            ]
            data["probe"] = measured
    return Result("\n".join(lines), data, code=0 if all(f.is_fine for f in found) else 3)


@app.command
def recipes(address: str = "", /, *, common: Common = QUIET, session: Hidden) -> Result:
    """List the recipes, or every option of one.

    Example: foveal recipes grade:small

    Args:
        address: Of a recipe, such as grade:small.
    """
    from foveal import stages

    with session.work(common):
        if address:
            about = stages.about(address)
            width = max(len(f"{o['name']}={o['default']}") for o in about["options"])
            lines = [about["words"], ""]
            lines += [
                f"{o['name'] + '=' + str(o['default']):{width}}  {o['help']}"
                for o in about["options"]
            ]
            return Result("\n".join(lines), about)
        known = stages.addresses()
    lines = [f"{name:16}{words}" for name, words in known.items()]
    return Result("\n".join(lines), known, "foveal recipes ADDRESS")


def _leaderboard(study: Any) -> str:
    """The leaderboard as aligned text, the chosen row marked."""
    from foveal.study import read_json

    board = read_json(study.combine_folder / "leaderboard.json")
    width = max(len(r["name"]) for r in board["rows"])
    sites = list(board["rows"][0]["sites"])
    lines = [f"  {'row':{width}}  score   95 % interval   {'  '.join(sites)}"]
    for row in board["rows"]:
        low, high = row["interval"]
        mark = "*" if row["name"] == board["chosen"] else " "
        by_site = "  ".join(f"{row['sites'][s]:{max(len(s), 5)}.3f}" for s in sites)
        note = "  below the floor" if row["below_floor"] else ""
        scores = f"{row['score']:.3f}  {low:.3f} to {high:.3f}  {by_site}{note}"
        lines.append(f"{mark} {row['name']:{width}}  {scores}")
    low, high = board["nested_interval"]
    nested = f"{board['nested']:.3f} ({low:.3f} to {high:.3f})"
    lines.append(f"* chosen; with the choice itself cross-fitted {nested}")
    return "\n".join(line.rstrip() for line in lines)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60}h{minutes % 60:02d}m"


if __name__ == "__main__":
    main()
