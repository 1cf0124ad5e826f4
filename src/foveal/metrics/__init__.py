"""Scores of decisions: all rise, all exact, all additive over cases."""

from foveal.metrics.interval import bootstrap as bootstrap
from foveal.metrics.kappa import quadratic_kappa as quadratic_kappa
from foveal.metrics.overlap import CellFBeta as CellFBeta
from foveal.metrics.overlap import FBeta as FBeta
from foveal.metrics.overlap import MacroF1 as MacroF1
from foveal.metrics.ranking import MapAtK as MapAtK

__all__ = [
    "CellFBeta",
    "FBeta",
    "MacroF1",
    "MapAtK",
    "bootstrap",
    "quadratic_kappa",
]
