"""From trained weights to scores of cases, within a time."""

from foveal.predict.deadline import Deadline as Deadline
from foveal.predict.infer import Scored as Scored
from foveal.predict.infer import score as score

__all__ = ["Deadline", "Scored", "score"]
