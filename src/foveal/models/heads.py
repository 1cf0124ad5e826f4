"""From features to logits: pooling, dropout, and as many outputs as the approach asks for.

A head starts at the share of every grade in its training cases, so that the first steps are not
spent on learning the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Map = Float[Tensor, "case feature height width"]
Vector = Float[Tensor, "case feature"]


class GeM(nn.Module):
    """Generalised mean over the picture: 1 is the average, infinity the maximum; learned.

    Reference:
        Radenovic, Tolias, Chum, Fine-tuning CNN Image Retrieval, 2018.
    """

    def __init__(self, width: int, power: float = 3.0) -> None:
        """Start at `power`, for maps of `width` features."""
        super().__init__()
        self.width = width
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, features: Map) -> Vector:
        """One vector a case."""
        features = features.clamp(min=1e-6)
        most = features.amax((2, 3), keepdim=True)  # an empty feature to the power of 8 is 0
        mean = (features / most).pow(self.power).mean((2, 3)).pow(1 / self.power)
        return mean * most[:, :, 0, 0]


class AverageMax(nn.Module):
    """Average and maximum over the picture, one after the other: twice the features."""

    def __init__(self, width: int) -> None:
        """For maps of `width` features."""
        super().__init__()
        self.width = 2 * width

    def forward(self, features: Map) -> Float[Tensor, "case twice"]:
        """One vector a case."""
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)


class Attention(nn.Module):
    """A weighted mean over the picture; what a place weighs is learned from its features.

    Every weight is the product of what two small layers say of the place, of which one is a gate.

    Reference:
        Ilse, Tomczak, Welling, Attention-based Deep Multiple Instance Learning, 2018.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        """For maps of `width` features; nearly equal weights to start with."""
        super().__init__()
        self.width = width
        self.says, self.gate = nn.Conv2d(width, hidden, 1), nn.Conv2d(width, hidden, 1)
        self.weighs = nn.Conv2d(hidden, 1, 1, bias=False)
        nn.init.normal_(self.weighs.weight, std=0.05)

    def forward(self, features: Map) -> Vector:
        """One vector a case."""
        return (features * self.weights(features)).sum((2, 3))

    def weights(self, features: Map) -> Float[Tensor, "case 1 height width"]:
        """What every place weighs; all of a case sum to 1."""
        said = torch.tanh(self.says(features)) * torch.sigmoid(self.gate(features))
        return self.weighs(said).flatten(2).softmax(2).view(len(features), 1, *features.shape[2:])


class Own(nn.Module):
    """The pooling of the backbone itself, which hands on a vector."""

    def __init__(self, width: int) -> None:
        """For vectors of `width` features."""
        super().__init__()
        self.width = width

    def forward(self, features: Vector) -> Vector:
        """The vector."""
        return features


Pool = GeM | AverageMax | Attention | Own


@runtime_checkable
class Outputs(Protocol):
    """What an approach asks for."""

    def start(self, share: Sequence[float]) -> list[float]:
        """The logits of a network that knows only the share of every grade or label, one each."""
        ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number: the grade itself."""

    def start(self, share: Sequence[float]) -> list[float]:
        """The mean grade."""
        return [sum(k * p for k, p in enumerate(share))]


@dataclass(frozen=True, slots=True)
class Steps:
    """One logit for each question "is the grade above k?"."""

    def start(self, share: Sequence[float]) -> list[float]:
        """The log odds of passing each step."""
        above = [min(max(sum(share[k + 1 :]), 0.01), 0.99) for k in range(len(share) - 1)]
        return torch.logit(torch.tensor(above)).tolist()


@dataclass(frozen=True, slots=True)
class Classes:
    """One logit a grade."""

    def start(self, share: Sequence[float]) -> list[float]:
        """The log of every share."""
        return torch.tensor(share).clamp(min=0.01).log().tolist()


@dataclass(frozen=True, slots=True)
class Labels:
    """One logit a label; a case has any number of them."""

    def start(self, share: Sequence[float]) -> list[float]:
        """The log odds of every label."""
        return torch.logit(torch.tensor(share).clamp(0.01, 0.99)).tolist()


@dataclass(frozen=True, slots=True)
class Head:
    """Pooling, dropout and one linear layer.

    Attributes:
        outputs: What the approach asks for.
        pool: `GeM`, `AverageMax` or `Attention`; None leaves it to the backbone.
        dropout: Share of features dropped in training.
    """

    outputs: Outputs
    pool: type[Pool] | None = None
    dropout: float = 0.0

    def build(self, width: int, share: Sequence[float]) -> nn.Sequential:
        """Make the head for `width` features and the share of every grade."""
        start = torch.tensor(self.outputs.start(share))
        pool = (self.pool or Own)(width)
        linear = nn.Linear(pool.width, len(start))
        nn.init.normal_(linear.weight, std=0.01)
        with torch.no_grad():
            linear.bias.copy_(start)
        return nn.Sequential(pool, nn.Dropout(self.dropout), linear)


class SteadyNorm(nn.BatchNorm1d):
    """Batch norm that uses its running statistics where a batch is one case."""

    def forward(self, input: Vector) -> Vector:
        """One vector a case; the name of the argument is torch's."""
        if self.training and len(input) == 1:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(input, mean, variance, self.weight, self.bias)
        return super().forward(input)


@dataclass(frozen=True, slots=True)
class Embedding:
    """Pooling, dropout, one linear layer and a norm without a shift: a place in space.

    Attributes:
        width: Numbers of the embedding.
        pool: `GeM`, `AverageMax` or `Attention`; None leaves it to the backbone.
        dropout: Share of features dropped in training.
    """

    width: int = 256
    pool: type[Pool] | None = GeM
    dropout: float = 0.0

    def build(self, features: int) -> nn.Sequential:
        """Make the head for so many features."""
        pool = (self.pool or Own)(features)
        linear = nn.Linear(pool.width, self.width, bias=False)
        norm = SteadyNorm(self.width)
        norm.bias.requires_grad = False
        return nn.Sequential(pool, nn.Dropout(self.dropout), linear, norm)
