"""What leaves a study: answers and reports."""

from foveal.ship.answer import GradeTable as GradeTable

__all__ = [
    "GradeTable",
]
