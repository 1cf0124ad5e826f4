"""Files to arrays."""

from foveal.errors import UnreadableImage as UnreadableImage
from foveal.read.image import Inspection as Inspection
from foveal.read.image import Photograph as Photograph
from foveal.read.image import inspect as inspect
from foveal.read.slices import find_slices as find_slices
from foveal.read.stack import Stack as Stack
from foveal.read.volume import Volume as Volume
from foveal.read.volume import store as store

__all__ = [
    "Inspection",
    "Photograph",
    "Stack",
    "UnreadableImage",
    "Volume",
    "find_slices",
    "inspect",
    "store",
]
