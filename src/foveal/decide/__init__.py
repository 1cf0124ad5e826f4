"""From scores to labels: cuts and calibration, each fitted out of fold."""

from foveal.decide.calibrate import Affine as Affine
from foveal.decide.calibrate import Bend as Bend
from foveal.decide.calibrate import GradeProbabilities as GradeProbabilities
from foveal.decide.newcut import best_new_cut as best_new_cut
from foveal.decide.sweep import best_threshold as best_threshold
from foveal.decide.thresholds import BaggedExactCuts as BaggedExactCuts
from foveal.decide.thresholds import ClosedFormCuts as ClosedFormCuts
from foveal.decide.thresholds import ExactCuts as ExactCuts
from foveal.decide.thresholds import FixedCuts as FixedCuts

__all__ = [
    "Affine",
    "BaggedExactCuts",
    "Bend",
    "ClosedFormCuts",
    "ExactCuts",
    "FixedCuts",
    "GradeProbabilities",
    "best_new_cut",
    "best_threshold",
]
