"""Scores of decisions: all rise, all exact, all additive over cases."""

from foveal.metrics.interval import bootstrap as bootstrap
from foveal.metrics.kappa import quadratic_kappa as quadratic_kappa

__all__ = ["bootstrap", "quadratic_kappa"]
