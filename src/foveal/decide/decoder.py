"""What every rule from scores to labels is: fitted on out-of-fold scores, applied to any."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from foveal.manifest import Text, Truth
from foveal.predictions import Predictions


@runtime_checkable
class FittedDecoder(Protocol):
    """From scores, and the site of every case where it is known, to labels."""

    def __call__(self, predictions: Predictions, site: Text | None = None) -> Any:
        """The label of every case: an array, or a plane each."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """A rule from scores to labels that is fitted on out-of-fold scores."""

    def fit(self, predictions: Predictions, truth: Truth) -> FittedDecoder:
        """Fit on out-of-fold predictions."""
        ...
