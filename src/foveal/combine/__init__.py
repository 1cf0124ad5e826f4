"""From several members' scores to one answer."""

from foveal.combine.blend import CalibratedMean as CalibratedMean
from foveal.combine.blend import LabelAverage as LabelAverage
from foveal.combine.blend import NonNegative as NonNegative
from foveal.combine.blend import PowerMean as PowerMean
from foveal.combine.blend import Vote as Vote
from foveal.combine.blend import mean as mean
from foveal.combine.evidence import ConditionalLogit as ConditionalLogit
from foveal.combine.leaderboard import Entry as Entry
from foveal.combine.leaderboard import Leaderboard as Leaderboard
from foveal.combine.leaderboard import rank as rank

__all__ = [
    "CalibratedMean",
    "ConditionalLogit",
    "Entry",
    "LabelAverage",
    "Leaderboard",
    "NonNegative",
    "PowerMean",
    "Vote",
    "mean",
    "rank",
]
