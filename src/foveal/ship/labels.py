"""The answer to "which labels?": columns of 0 and 1, or words, as the table had them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from foveal.files import csv_text, write_text
from foveal.manifest import Truth
from foveal.predictions import Predictions
from foveal.targets.labels import joined_up
from foveal.task import Asked, Given


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A CSV of id and labels, under the table's own column names and in its form.

    With scores it also has the probability of every label, as `LABEL_p`.

    Attributes:
        names: Of the labels.
        at_least_one: Whether a case of which nothing is known has the most frequent label.
        words: Whether the table has a column of words, though it may be called like a label.
    """

    suffix: ClassVar[str] = ".csv"

    names: tuple[str, ...]
    at_least_one: bool = False
    words: bool = False

    def prior(
        self, truth: Int[np.ndarray, "case label"], weight: Float[np.ndarray, " case"]
    ) -> dict[str, Any]:
        """How often each label occurs; those of more than half of the cases are given."""
        share = (weight @ truth) / weight.sum()
        given = share > 0.5
        given[share.argmax()] |= self.at_least_one
        return {"labels": given.tolist(), "probabilities": share.tolist()}

    def files(self, path: Path, asked: Asked) -> list[Path]:
        """The table alone."""
        return [path]

    def write(self, path: Path, asked: Asked, given: Given) -> None:
        """Write the answer; a case of which nothing is known gets the prior one."""
        header = [asked.id_column, *asked.target_columns]
        header += [f"{name}_p" for name in self.names] if asked.scores else []
        prior = self._row(asked, given.prior["labels"], given.prior["probabilities"])
        rows = dict.fromkeys(asked.ids, prior)
        shares = self._shares(given)
        for name, labels, share in zip(given.ids, given.labels.tolist(), shares, strict=True):
            rows[name] = self._row(asked, labels, share)
        write_text(path, csv_text([header, *([name, *rows[name]] for name in asked.ids)]))

    def out_of_fold(
        self, labels: Bool[np.ndarray, "case label"], predictions: Predictions, truth: Truth
    ) -> dict[str, list]:
        """The labels that are true, those given, the weight, and the score of each."""
        scores = predictions.matrix().values.T
        return {
            "truth": [self._words(row) for row in (truth.target != 0).tolist()],
            "label": [self._words(row) for row in labels.tolist()],
            "weight": [f"{weight:.6g}" for weight in truth.weight.tolist()],
            **{
                f"score:{self._shown(name)}": [f"{score:.6g}" for score in column]
                for name, column in zip(self.names, scores.tolist(), strict=True)
            },
        }

    def _row(self, asked: Asked, labels: list[bool], shares: list[float]) -> list[object]:
        is_words = self.words or asked.target_columns != self.names
        told = [self._words(labels)] if is_words else [int(has) for has in labels]
        return [*told, *(f"{share:.6g}" for share in shares if asked.scores)]

    def _words(self, labels: list[bool]) -> str:
        named = zip(self.names, labels, strict=True)
        return " ".join(self._shown(name) for name, has in named if has)

    def _shown(self, name: str) -> str:
        """A name as it is listed: a column's with spaces becomes one word."""
        return name if self.words else joined_up(name)

    def _shares(self, given: Given) -> list[list[float]]:
        if given.predictions is None:
            return [given.prior["probabilities"]] * len(given.ids)
        return given.probabilities(given.predictions).tolist()
