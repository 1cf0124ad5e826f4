"""From cases to trained weights: draws, batches, one loop, and a resume that changes nothing."""

from foveal.train.batches import Batches as Batches
from foveal.train.loop import Plan as Plan
from foveal.train.loop import fit as fit
from foveal.train.optim import AdamW as AdamW
from foveal.train.optim import Sgd as Sgd
from foveal.train.sampling import Balanced as Balanced
from foveal.train.sampling import Uniform as Uniform

__all__ = ["AdamW", "Balanced", "Batches", "Plan", "Sgd", "Uniform", "fit"]
