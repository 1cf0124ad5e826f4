"""Folds that do not leak: of cases, of parts of volumes, or of queries for someone known or new."""

from foveal.split.folds import Folds as Folds
from foveal.split.folds import balanced_folds as balanced_folds
from foveal.split.folds import by_class as by_class
from foveal.split.folds import by_grade as by_grade
from foveal.split.folds import by_label as by_label
from foveal.split.folds import crossed as crossed
from foveal.split.folds import imbalance as imbalance
from foveal.split.identities import QueryFolds as QueryFolds
from foveal.split.record import Split as Split
from foveal.split.record import groups as groups
from foveal.split.volumes import VolumeFolds as VolumeFolds

__all__ = [
    "Folds",
    "QueryFolds",
    "Split",
    "VolumeFolds",
    "balanced_folds",
    "by_class",
    "by_grade",
    "by_label",
    "crossed",
    "groups",
    "imbalance",
]
