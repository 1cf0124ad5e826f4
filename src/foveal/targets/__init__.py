"""What the target columns mean: a grade, labels, who it is, or where something is."""

from foveal.targets.identity import Identity as Identity
from foveal.targets.labels import Labels as Labels
from foveal.targets.mask import Mask as Mask
from foveal.targets.ordinal import Ordinal as Ordinal

__all__ = ["Identity", "Labels", "Mask", "Ordinal"]
