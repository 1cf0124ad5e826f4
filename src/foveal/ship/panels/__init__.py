"""Pieces of the report, each a function from a study to a section of the page."""

from foveal.ship.panels.grade import GRADE_PANELS as GRADE_PANELS
from foveal.ship.panels.identity import IDENTITY_PANELS as IDENTITY_PANELS
from foveal.ship.panels.labels import LABEL_PANELS as LABEL_PANELS
from foveal.ship.panels.segment import MASK_PANELS as MASK_PANELS
from foveal.ship.panels.study import Section as Section

__all__ = ["GRADE_PANELS", "IDENTITY_PANELS", "LABEL_PANELS", "MASK_PANELS", "Section"]
