"""What training minimises; each ends in the same kind of score."""

from foveal.losses.ordinal import ExpectedGrade as ExpectedGrade
from foveal.losses.ordinal import cumulative_bce as cumulative_bce
from foveal.losses.ordinal import expectation as expectation
from foveal.losses.ordinal import identity as identity
from foveal.losses.ordinal import passed_steps as passed_steps
from foveal.losses.ordinal import squared_error as squared_error

__all__ = [
    "ExpectedGrade",
    "cumulative_bce",
    "expectation",
    "identity",
    "passed_steps",
    "squared_error",
]
