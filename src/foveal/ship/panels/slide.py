"""Sections of a slide study's report."""

from __future__ import annotations

from collections.abc import Callable

from foveal.ship.panels.grade import GRADE_PANELS


def slide_panels(tiles: object) -> tuple[Callable, ...]:
    """The report of slides whose tiles were chosen like this."""
    return GRADE_PANELS
