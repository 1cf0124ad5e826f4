"""From scores to labels: rules for every kind of target, each fitted out of fold."""

from foveal.decide.calibrate import Affine as Affine
from foveal.decide.calibrate import Bend as Bend
from foveal.decide.calibrate import GradeProbabilities as GradeProbabilities
from foveal.decide.classes import EvenClasses as EvenClasses
from foveal.decide.classes import Likeliest as Likeliest
from foveal.decide.labels import CommonCut as CommonCut
from foveal.decide.labels import OwnCuts as OwnCuts
from foveal.decide.labels import SharedOut as SharedOut
from foveal.decide.labels import ShrunkCuts as ShrunkCuts
from foveal.decide.newcut import best_new_cut as best_new_cut
from foveal.decide.retrieve import NewCut as NewCut
from foveal.decide.retrieve import likeness as likeness
from foveal.decide.retrieve import ranked as ranked
from foveal.decide.share import Absolute as Absolute
from foveal.decide.share import Share as Share
from foveal.decide.sites import PerSite as PerSite
from foveal.decide.sweep import Histograms as Histograms
from foveal.decide.sweep import best_threshold as best_threshold
from foveal.decide.thresholds import BaggedExactCuts as BaggedExactCuts
from foveal.decide.thresholds import ClosedFormCuts as ClosedFormCuts
from foveal.decide.thresholds import ExactCuts as ExactCuts
from foveal.decide.thresholds import FixedCuts as FixedCuts
from foveal.decide.thresholds import best_cuts as best_cuts

__all__ = [
    "Absolute",
    "Affine",
    "BaggedExactCuts",
    "Bend",
    "ClosedFormCuts",
    "CommonCut",
    "EvenClasses",
    "ExactCuts",
    "FixedCuts",
    "GradeProbabilities",
    "Histograms",
    "Likeliest",
    "NewCut",
    "OwnCuts",
    "PerSite",
    "Share",
    "SharedOut",
    "ShrunkCuts",
    "best_cuts",
    "best_new_cut",
    "best_threshold",
    "likeness",
    "ranked",
]
