"""Files to arrays."""

from foveal.read.image import Inspection as Inspection
from foveal.read.image import Photograph as Photograph
from foveal.read.image import UnreadableImage as UnreadableImage
from foveal.read.image import inspect as inspect

__all__ = ["Inspection", "Photograph", "UnreadableImage", "inspect"]
