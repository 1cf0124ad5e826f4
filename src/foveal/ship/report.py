"""One self-contained page made of panels: no network, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from foveal.study import Study


def page(study: Study, panels: Sequence[Callable[[Study], Any]]) -> str:
    """The report of a study as HTML."""
    from jinja2 import Environment

    template = files("foveal.ship").joinpath("page.html").read_text(encoding="utf-8")
    sections = [panel(study) for panel in panels]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(title=study.folder.name, sections=sections)
