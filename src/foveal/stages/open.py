"""A study read in full: what every stage starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal.digests import digest
from foveal.errors import StudyError, UsageError
from foveal.machine import one_thread
from foveal.manifest import Manifest
from foveal.settings import OF_SOURCE, Settings, digest_of_table
from foveal.stages.address import build, resolve
from foveal.study import Study, changed
from foveal.task import Context, Family, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A study read in full: what every stage starts from.

    Attributes:
        study: Its folder.
        settings: What `study.yaml` says.
        family: Of the recipe.
        recipe: As the settings ask for it.
        manifest: A row a case; a row a unit once `split` has cut cases.
        target: Of every row.
        cases: Digest of all that the table and the pictures say, wherever these lie.
        lesson: Digest of what is learned of them.
    """

    study: Study
    settings: Settings
    family: Family
    recipe: Recipe
    manifest: Manifest
    target: np.ndarray
    cases: str
    lesson: str

    def of(self, manifest: Manifest) -> Opened:
        """The same study with a row a unit."""
        return replace(self, manifest=manifest, **_said(self.family, self.recipe, manifest))


def open_study(study: Study) -> Opened:
    """Read a study and build its recipe.

    Raises:
        StudyError: No study, or its table was described anew without `init`.
        UsageError: An option in `study.yaml` is unknown, does not fit or would change nothing.
    """
    settings = study.settings()
    manifest = study.manifest()
    if settings.checked != digest_of_table(manifest, settings.source, settings.recipe):
        raise StudyError(
            f"{study.settings_file} names columns or a family, or {study.manifest_file.name} holds "
            "cases, that are not those that were checked; cure: foveal init FOLDER --replace with "
            "the new ones"
        )
    for name in OF_SOURCE:
        if name in settings.options:
            raise UsageError(
                f"{name}: among the options of {study.settings_file} changes nothing, as it says "
                f"where files are; cure: foveal init FOLDER --replace with {name}= of the new ones"
            )
    family, function = resolve(settings.recipe)
    recipe = build(function, settings.facts, settings.options)
    return Opened(
        study=study,
        settings=settings,
        family=family,
        recipe=recipe,
        manifest=manifest,
        **_said(family, recipe, manifest),
    )


def _said(family: Family, recipe: Recipe, manifest: Manifest) -> dict[str, Any]:
    """The target of every row, and the digests."""
    unmoved = manifest.unmoved(target_is_file=family.target_is_file)
    return {
        "target": recipe.target.encode(manifest),
        "cases": digest(unmoved),
        "lesson": digest(recipe.target.train(recipe.target.encode(unmoved))),
    }


def say_why(stage: str, folder: Path, depends: Mapping[str, object], context: Context) -> None:
    """Say that a stage is done again, and what it was that changed."""
    why = changed(folder, depends)
    if why:
        context.say(f"again: {stage} (changed: {', '.join(why)})")


@contextmanager
def held(study: Study, context: Context, stage: str) -> Iterator[Context]:
    """Hold a study while a stage changes it, with one thread, unless the caller does already.

    Yields:
        The context for the stages and the jobs that belong to this one.

    Raises:
        StudyError: No study, or another process holds it for longer than ten seconds.
    """
    if context.keep:
        yield context
        return
    waiting = f"waiting up to 10 seconds: {study.folder} is held by another process"
    holding = study.require().lock(f"foveal {stage}", lambda: context.say(waiting))
    with holding as descriptor, one_thread():
        yield replace(context, keep=(descriptor,))
