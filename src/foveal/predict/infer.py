"""Scores of cases from a model, its views merged.

The same function scores a held-out fold and new cases, so that what was measured is what is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveal.errors import Stopped
from foveal.train.loop import laid_out


@runtime_checkable
class View(Protocol):
    """A way to look at a batch, and the way back for its scores."""

    @property
    def forward(self) -> Callable[[Tensor], Tensor]:
        """From images to images."""
        ...

    @property
    def inverse(self) -> Callable[[Tensor], Tensor]:
        """From scores to scores."""
        ...


def score(
    model: nn.Module,
    batches: Iterable[Tensor],
    to_scores: Callable[[Tensor], Tensor],
    *,
    views: Sequence[View],
    device: str = "cpu",
    precision: str = "32-true",
    channels_last: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Float[np.ndarray, "case column"]:
    """Score batches of pictures; the mean over views of the scores brought back.

    Raises:
        Stopped: The signal came between two batches.
    """
    model = laid_out(model.to(device), channels_last=channels_last).eval()
    kind = torch.device(device).type
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = []
    with torch.inference_mode():
        for images in batches:
            if should_stop():
                raise Stopped("stopped while scoring; the same call goes on")
            images = images.to(device).to(torch.float32).contiguous(memory_format=layout)
            seen = []
            for view in views:
                with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    logits = model(view.forward(images))
                seen.append(view.inverse(to_scores(logits.float())))
            out.append(torch.stack(seen).mean(0).cpu())
    values = torch.cat(out).numpy() if out else np.zeros((0, 0), dtype=np.float32)
    return values[:, None] if values.ndim == 1 else values
