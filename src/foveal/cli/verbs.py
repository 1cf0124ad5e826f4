"""The verbs, one a stage: each calls its stage and says what it came to.

Standard output carries the result (with `--json` one object), standard error everything else, the
next command last.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from foveal.cli.session import QUIET, STARTED, Common, Device, Hidden, Result
from foveal.cli.words import duration, leaderboard, next_call, options_of, seconds_of


def _worth_showing(default: object) -> str:
    """Defaults as they are typed; nothing for "not given"."""
    return "" if default in ("", None, False) else str(default)


app = App(
    name="foveal",
    help_format="plaintext",
    version_flags=["--version"],
    default_parameter=Parameter(show_default=_worth_showing),
)


@app.command
def demo(
    family: str,
    /,
    *options: str,
    out: Path | None = None,
    device: Device = "",
    common: Common = QUIET,
    session: Hidden,
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
    with session.work(common, folder / "study", device=device) as (_, context):
        study, report, answer = stages.demo(
            family, folder, options=options_of(options), context=context
        )
    data = {"study": str(study.folder), "report": str(report), "answer": str(answer)}
    text = f"{_leaderboard(study)}\nanswers  {answer}\nreport   {report}"
    return Result(text, data, f"open {shlex.quote(str(report))} in a browser")


@app.command
def init(
    folder: Path,
    /,
    *options: str,
    recipe: str = "",
    table: Path | None = None,
    target: str = "",
    images: str = "",
    id: str | None = None,
    group: str | None = None,
    site: str | None = None,
    weight: str | None = None,
    fold: str | None = None,
    source: str | None = None,
    replace_old: Annotated[bool, Parameter(name="--replace", negative="")] = False,
    device: Device = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Read a table and every picture once, and make a study of them.

    Example: foveal init eyes --recipe grade:small --table t.csv --images 'i/{file}' --target grade

    Args:
        folder: Of the study; it appears whole or not at all.
        options: name=value of the recipe; `foveal recipes ADDRESS` lists them.
        recipe: Its address, such as grade:small, or ./mine.py:name.
        table: CSV or Parquet with a header.
        target: Column to be predicted, or several with commas.
        images: Pattern over the table's columns, relative to the working directory, such as
            'img/{image}.png', with {channel} where a case has a file a channel; a column of paths
            alone, such as '{volume}', is relative to the table, and may be left out for a recipe
            that knows it.
        id: Column of unique names; the first one if left out.
        group: Column of what no fold may split, or image_size.
        site: Column of clinic, scanner or provider.
        weight: Column of how much a case counts.
        fold: Column with folds of your own.
        source: Column that names the data set a case comes from.
        replace_old: Describe a study anew that is there already, and read its files again; what is
            not said is as its study.yaml has it (--site '' takes a column back).
    """
    from foveal import stages
    from foveal.study import Study

    names = {
        "id": id,
        "group": group,
        "site": site,
        "weight": weight,
        "fold": fold,
        "source": source,
    }
    with session.work(common, folder, device=device) as (_, context):
        existed = Study(folder).settings_file.is_file()
        study = stages.init(
            folder,
            recipe=recipe,
            table=table or "",
            images=images,
            target=target,
            options=options_of(options),
            columns={k: v for k, v in names.items() if v is not None},
            replace_old=replace_old,
            context=context,
        )
        session.console.begin(study.log_file)
        data: dict[str, Any] = {"study": str(study.folder), "new": not existed or replace_old}
        text = f"{study.folder}"
        if data["new"]:
            count, seconds = stages.plan(study, context)
            cases = study.settings().facts.cases
            data |= {"cases": cases, "trainings": count, "seconds": round(seconds)}
            text += f": {cases} cases, {count} trainings of about {duration(seconds)} in all"
    return Result(text, data, next_call("run", folder))


@app.command
def audit(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Look for what could make a score lie: confounds, and equal cases with other targets.

    Example: foveal audit eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages

    with session.work(common, folder) as (study, context):
        findings = stages.audit(study, context)
        following = (
            _to_predict(study, folder)
            if study.report_file.is_file()
            else next_call("split", folder)
        )
    text = "\n".join(findings) or "nothing suspicious"
    return Result(text, {"findings": findings}, following)


@app.command
def split(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Assign every case to a fold; print how far from balance they are.

    Example: foveal split eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages
    from foveal.files import read_json

    with session.work(common, folder) as (study, context):
        stages.split(study, context)
        notes = read_json(study.split_notes_file)
        table = stages.fold_table(study)
    uneven = f"imbalance {100 * notes['imbalance']:.1f} % of the {notes['counted']}"
    lines = [*table, uneven, *notes["notes"]]
    return Result(
        "\n".join(lines), {**notes, "file": str(study.folds_file)}, next_call("train", folder)
    )


@app.command
def train(
    folder: Path,
    /,
    *,
    member: str = "",
    fold: int | None = None,
    hours: str = "",
    device: Device = "",
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

    with session.work(common, folder, hours=hours, device=device) as (study, context):
        stages.train(study, member=member, fold=fold, context=context)
    return Result("trained", {"study": str(study.folder)}, next_call("combine", folder))


@app.command
def combine(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Fit cuts, judge members and ensembles, choose the row that answers.

    Example: foveal combine eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages
    from foveal.files import read_json

    with session.work(common, folder) as (study, context):
        stages.combine(study, context)
    board = read_json(study.leaderboard_file)
    return Result(_leaderboard(study), board, next_call("report", folder))


@app.command
def report(folder: Path, /, *, common: Common = QUIET, session: Hidden) -> Result:
    """Write one page to look at, readable without a network.

    Example: foveal report eyes

    Args:
        folder: Of the study.
    """
    from foveal import stages

    with session.work(common, folder) as (study, context):
        page = stages.report(study, context)
    return Result(str(page), {"report": str(page)}, _to_predict(study, folder))


@app.command
def run(
    folder: Path,
    /,
    *,
    hours: str = "",
    device: Device = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Run every stage up to the report; skip what is done.

    Example: foveal run eyes --hours 2

    Args:
        folder: Of the study.
        hours: Stop in time, with exit code 75; the same call goes on.
    """
    from foveal import stages

    with session.work(common, folder, hours=hours, device=device) as (study, context):
        page = stages.run(study, context)
    return Result(
        f"{_leaderboard(study)}\n{page}", {"report": str(page)}, _to_predict(study, folder)
    )


@app.command
def predict(
    folder: Path,
    /,
    *,
    table: Path,
    out: Path,
    images: str = "",
    scores: Annotated[bool, Parameter(negative="")] = False,
    answer: str = "",
    deadline: str = "",
    device: Device = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Answer for every row of a table.

    Example: foveal predict eyes --table new.csv --images 'new/{image}' --out answers.csv --scores

    Args:
        folder: Of the study.
        table: CSV or Parquet with the study's id column and those that lead to the files.
        out: The answer's file; of masks a folder.
        images: Pattern over the table's columns; none where the study's columns are paths.
        scores: Scores and probabilities too.
        answer: A row of the leaderboard; the chosen one if left out.
        deadline: A valid answer at every moment, the best one by then, such as 8h30m.
    """
    from foveal import stages
    from foveal.predict.deadline import Deadline

    limit = Deadline(seconds_of(deadline), STARTED) if deadline else None
    with session.work(common, folder, device=device) as (study, context):
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
            context.warn(_lost(len(lost), answered.cases, images), lost)
        if answered.members != answered.all_members:
            done = ", ".join(answered.members) or "nobody: it is the prior answer"
            context.warn(f"the answer is that of {done} (wanted {', '.join(answered.all_members)})")
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
    one_each: Annotated[bool, Parameter(negative="")] = False,
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Score an answer against the truth, the metric alone.

    Example: foveal score --metric quadratic_kappa answers.csv truth.csv --target grade

    Args:
        answer: A table, or a folder of masks.
        truth: The same with what is true; for masks also a table of their paths.
        metric: quadratic_kappa, macro_f1, map_at_5, f_beta or dice. For macro_f1 a single column of
            0 and 1 is one label, not two classes, but with --one-each.
        id: Column of ids; the answer's first one if left out.
        target: Column to score, or several with commas; of masks `mask` if left out.
        beta: Of f_beta.
        one_each: For macro_f1: a cell is the name of one class, spaces and all.
    """
    from foveal.ship.scoring import score as scored

    with session.work(common) as (_, context):
        targets = [t for t in target.split(",") if t]
        got = scored(
            metric, answer, truth, id_column=id, targets=targets, beta=beta, one_each=one_each
        )
        if got.without_truth:
            context.warn(f"{got.without_truth} answers have no truth and do not count", [])
        if got.doubt:
            context.warn(got.doubt, [])
    data = {"metric": metric, "value": got.value, "interval": got.interval, "cases": got.cases}
    return Result(f"{got.value:.10g}", data)


@app.command
def doctor(
    *,
    probe: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "",
    common: Common = QUIET,
    session: Hidden,
) -> Result:
    """Check the environment; every finding comes with its cure.

    Example: foveal doctor --probe

    Args:
        probe: Time a training step in a few ways and suggest options; nothing is changed.
    """
    from foveal import doctor as ward

    with session.work(common, device=device):
        found = ward.examine()
        lines = [
            f"{'ok ' if f.is_fine else 'bad'} {f.name}: {f.words}"
            + ("" if f.is_fine else f"; cure: {f.cure}")
            for f in found
        ]
        data: dict[str, Any] = {f.name: {"ok": f.is_fine, "words": f.words} for f in found}
        if probe:
            measured = ward.probe(device)
            for kind, rates in measured["images_per_second"].items():
                lines += [f"    {kind} network, {n}: {r} images/s" for n, r in rates.items()]
            for kind, options in measured["suggestion"].items():
                lines += [f"    fastest for a {kind} network: {options}"]
            lines += ["    (a suggestion; nothing was changed, and results would differ in bits)"]
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
            options = [(f"{o['name']}={o['default']}", o["help"]) for o in about["options"]]
            width = max((len(option) for option, _ in options), default=0)
            lines = [f"{option:{width}}  {words}" for option, words in options]
            return Result("\n".join([about["words"], "", *lines]).rstrip(), about)
        known = stages.addresses()
    width = max(map(len, known))
    lines = [f"{name:{width}}  {words}" for name, words in known.items()]
    return Result("\n".join(lines), known, "foveal recipes ADDRESS")


def _lost(lost: int, cases: int, images: str) -> str:
    """What is said of cases that were not scored."""
    if lost < cases:
        return f"{lost} of {cases} cases cannot be read; they get the prior answer"
    suspect = "--images" if images else "what the table says of their files"
    return f"none of {cases} cases can be read; all get the prior answer; is {suspect} right?"


def _to_predict(study: Any, folder: Path) -> str:
    """The call that answers for new cases, with what this study needs."""
    from foveal.stages.open import open_study
    from foveal.table import is_path_column, tail_of

    images = study.settings().source.images
    new = images if is_path_column(images) else f"new/{tail_of(images)}"
    asked = f"--table new.csv --images {shlex.quote(new)}" if images else "--table new.csv"
    suffix = open_study(study).recipe.answer.suffix
    return next_call("predict", folder, f"{asked} --out answers{suffix}")


def _leaderboard(study: Any) -> str:
    from foveal.files import read_json

    return leaderboard(read_json(study.leaderboard_file))
