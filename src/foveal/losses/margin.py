"""Losses that pull pictures of an individual together, with room to spare between individuals.

Every individual has one or more centres on the unit sphere. Its own cosine is made worse by a
margin before a softmax over all, so that it must win clearly. A picture of somebody unknown has no
column: it belongs to "nobody", one learned level that takes no part in any picture's embedding.
So it is pushed away from every known individual, and pulled towards no other unknown one.

Reference:
    Deng et al., ArcFace, 2019, and Sub-center ArcFace, 2020; Wang et al., CosFace, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

UNKNOWN = -1
"""The individual of a picture of somebody unknown."""

SAFE = 1e-6
"""How near to 1 a squared cosine may come before its sine has no slope."""

Cosines = Float[Tensor, "*part"]


@dataclass(frozen=True, slots=True)
class ArcFace:
    """A margin added to the angle to one's own centre.

    Attributes:
        margin: In radians.
        scale: Of the cosines in the softmax.
        centres: Of each individual; the nearest one counts.
    """

    margin: float = 0.3
    scale: float = 30.0
    centres: int = 1

    def build(self, individuals: int, width: int) -> MarginLoss:
        """The loss for embeddings of `width` numbers."""
        return MarginLoss(individuals, width, self, self.harder)

    def harder(self, cosine: Cosines) -> Cosines:
        """The cosine of an angle that is larger by the margin; beyond the opposite, a line."""
        sine = (1 - cosine * cosine).clamp(min=SAFE).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        straight = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), turned, straight)


@dataclass(frozen=True, slots=True)
class CosFace:
    """A margin taken from the cosine to one's own centre.

    Attributes:
        margin: Of the cosine.
        scale: Of the cosines in the softmax.
        centres: Of each individual; the nearest one counts.
    """

    margin: float = 0.2
    scale: float = 30.0
    centres: int = 1

    def build(self, individuals: int, width: int) -> MarginLoss:
        """The loss for embeddings of `width` numbers."""
        return MarginLoss(individuals, width, self, self.harder)

    def harder(self, cosine: Cosines) -> Cosines:
        """The cosine less the margin."""
        return cosine - self.margin


class MarginLoss(nn.Module):
    """Cross-entropy over individuals and nobody, the own cosine made harder; always in float32."""

    def __init__(
        self,
        individuals: int,
        width: int,
        settings: ArcFace | CosFace,
        harder: Callable[[Tensor], Tensor],
    ) -> None:
        """Start with centres anywhere on the sphere, and nobody at a right angle to them all."""
        super().__init__()
        self.settings, self.harder = settings, harder
        self.centres = nn.Parameter(torch.randn(individuals * settings.centres, width))
        self.nobody = nn.Parameter(torch.zeros(()))

    def forward(
        self, embedding: Float[Tensor, "case feature"], individual: Int[Tensor, " case"]
    ) -> Float[Tensor, ""]:
        """The mean over cases, in nats.

        Args:
            embedding: Of any length.
            individual: 0 to individuals-1, or `UNKNOWN`.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            places = functional.normalize(self.centres.float())
            cosine = functional.normalize(embedding.float()) @ places.T
            cosine = cosine.unflatten(1, (-1, self.settings.centres)).amax(2)
            own = functional.one_hot(individual.clamp(min=0), cosine.shape[1]).bool()
            own &= (individual >= 0)[:, None]
            cosine = torch.where(own, self.harder(cosine), cosine)
            logits = torch.cat([cosine, self.nobody.expand(len(cosine), 1)], dim=1)
            column = torch.where(individual >= 0, individual, cosine.shape[1])
            return functional.cross_entropy(self.settings.scale * logits, column)
