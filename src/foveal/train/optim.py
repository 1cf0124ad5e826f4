"""Optimisers, the learning-rate curve, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of weights with two or more axes; biases and norms are left alone.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """

    lr: float = 1e-3
    weight_decay: float = 0.02

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a model's parameters."""
        return torch.optim.AdamW(decay_groups(model, self.weight_decay), lr=self.lr, fused=True)


@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent with Nesterov momentum."""

    lr: float = 0.05
    weight_decay: float = 1e-4
    momentum: float = 0.9

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a model's parameters."""
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0, fused=True
        )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameters with two or more axes decay, the others do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def warm_up_and_cosine(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate at a step: a line up, then half a cosine down to zero.

    Example:
        >>> [round(warm_up_and_cosine(s, 10, 2), 3) for s in (0, 1, 2, 6, 10)]
        [0.333, 0.667, 1.0, 0.5, 0.0]
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warm_up) / max(steps - warm_up, 1), 1.0)))


class Average:
    """Exponential moving average of a model's weights; counters are copied.

    Early on it forgets faster, `min(decay, (1 + t) / (10 + t))`, so that short trainings are
    averaged too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start at the model's own weights; a decay of 0 follows the model."""
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        live = model.state_dict()
        self._names = [k for k, v in live.items() if v.is_floating_point()]
        self._copied = [k for k in live if k not in set(self._names)]
        self._live = [live[k] for k in self._names]
        self._mine = [self.state[k] for k in self._names]
        self._counters = [(self.state[k], live[k]) for k in self._copied]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model after a step (counted from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._mine, self._live, 1 - keep)
        for mine, live in self._counters:
            mine.copy_(live)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, value in self.state.items():
            value.copy_(state[name])
