"""The page, and the whole trip."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from foveal.errors import DataError, UsageError, nearest
from foveal.files import write_text
from foveal.settings import OF_SOURCE
from foveal.stages.address import families, family_of, fitted, resolve
from foveal.stages.combine import combine, require_combined
from foveal.stages.init import init
from foveal.stages.open import held, open_study
from foveal.stages.predict import predict
from foveal.stages.split import audit, open_split, split
from foveal.stages.train import train
from foveal.study import Study
from foveal.task import Context

MARK = "demo.txt"
"""In a folder of demos: all that is there may be written anew."""


def report(study: Study, context: Context = Context()) -> Path:
    """Write the page to look at.

    Raises:
        StudyError: There is no leaderboard, or it is older than the study's options.
    """
    from foveal.ship.report import page

    with held(study, context, "report"):
        opened, made = open_split(study)
        require_combined(opened, made)
        html = page(study, opened.recipe.panels)
        write_text(study.report_file, html)
        return study.report_file


def run(study: Study, context: Context = Context()) -> Path:
    """Every stage up to the report; each skips what is done."""
    with held(study, context, "run") as context:
        for finding in audit(study, context):
            context.warn(finding, [])
        context.ask()
        split(study, context)
        train(study, context=context)
        combine(study, context)
        context.ask()
        return report(study, context)


def demo(
    family: str, folder: Path, *, options: Mapping[str, Any], context: Context = Context()
) -> tuple[Study, Path, Path]:
    """Simulate a small data set of a family and take the whole trip with it.

    The same call again goes on where it stopped; another makes another study there.

    Args:
        family: The name of a recipe file, such as `grade`.
        folder: Receives `data/`, `study/` and the answers; empty, or of an earlier demo.
        options: Of the recipe, on top of the family's own for its demo.
        context: Who is told, what may be used.

    Returns:
        The study, its report and the answers.

    Raises:
        UsageError: An option is wrong, or the folder holds something else.
    """
    if family not in families():
        raise UsageError(f'no family "{family}"{nearest(family, families())}')
    shown = family_of(family)
    name, defaults = shown.demo
    address, options = f"{family}:{name}", {**defaults, **options}
    fitted(resolve(address)[1], options)
    study = Study(folder / "study")
    _make_room(study, address, options)
    given = shown.simulate(folder / "data")
    study = init(
        study.folder,
        recipe=address,
        options=options,
        context=context,
        replace_old=True,
        **given,
    )
    page = run(study, context)
    context.say("answering for the same pictures, to show what an answer looks like")
    where = {name: given[name] for name in ("table", "images") if name in given}
    answers = folder / f"answers{open_study(study).recipe.answer.suffix}"
    predict(study, **where, out=answers, scores=True, context=context)
    return study, page, answers


def _make_room(study: Study, address: str, options: Mapping[str, Any]) -> None:
    """Mark a folder as that of demos, and forget an earlier one's study of something else.

    Raises:
        UsageError: It holds something else than a demo.
    """
    folder = study.folder.parent
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UsageError(
            f"{folder} holds something else than a demo; cure: another --out, or delete it"
        )
    write_text(folder / MARK, "Made by `foveal demo`; the next one here writes all of it anew.\n")
    plain = {name: value for name, value in options.items() if name not in OF_SOURCE}
    with suppress(DataError, UsageError):
        old = study.settings()
        if (old.recipe, old.options) == (address, plain):
            return
    rmtree(study.folder, ignore_errors=True)
