"""Networks, and pictures turned into numbers without one."""

from foveal.models.backbone import Backbone as Backbone
from foveal.models.backbone import Standardise as Standardise
from foveal.models.features import PictureFeatures as PictureFeatures
from foveal.models.heads import AverageMax as AverageMax
from foveal.models.heads import Classes as Classes
from foveal.models.heads import GeM as GeM
from foveal.models.heads import Head as Head
from foveal.models.heads import Scalar as Scalar
from foveal.models.heads import Steps as Steps
from foveal.models.patches import PatchDictionary as PatchDictionary

__all__ = [
    "AverageMax",
    "Backbone",
    "Classes",
    "GeM",
    "Head",
    "PatchDictionary",
    "PictureFeatures",
    "Scalar",
    "Standardise",
    "Steps",
]
