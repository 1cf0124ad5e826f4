"""What training minimises; each ends in the same kind of score."""

from foveal.losses.classify import Focal as Focal
from foveal.losses.classify import SoftMacroF1 as SoftMacroF1
from foveal.losses.classify import class_entropy as class_entropy
from foveal.losses.classify import class_probability as class_probability
from foveal.losses.classify import label_bce as label_bce
from foveal.losses.classify import probability as probability
from foveal.losses.ordinal import ExpectedGrade as ExpectedGrade
from foveal.losses.ordinal import cumulative_bce as cumulative_bce
from foveal.losses.ordinal import expectation as expectation
from foveal.losses.ordinal import identity as identity
from foveal.losses.ordinal import passed_steps as passed_steps
from foveal.losses.ordinal import squared_error as squared_error

__all__ = [
    "ExpectedGrade",
    "Focal",
    "SoftMacroF1",
    "class_entropy",
    "class_probability",
    "cumulative_bce",
    "expectation",
    "identity",
    "label_bce",
    "passed_steps",
    "probability",
    "squared_error",
]
