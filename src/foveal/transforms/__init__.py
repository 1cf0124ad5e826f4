"""What happens to pictures between the file and the network."""

from foveal.transforms.augment import Augment as Augment
from foveal.transforms.augment import Prepare as Prepare
from foveal.transforms.augment import content_box as content_box
from foveal.transforms.mix import Cutmix as Cutmix
from foveal.transforms.mix import Mixup as Mixup
from foveal.transforms.views import View as View
from foveal.transforms.views import centre as centre
from foveal.transforms.views import flips as flips
from foveal.transforms.views import ten_crop as ten_crop

__all__ = [
    "Augment",
    "Cutmix",
    "Mixup",
    "Prepare",
    "View",
    "centre",
    "content_box",
    "flips",
    "ten_crop",
]
