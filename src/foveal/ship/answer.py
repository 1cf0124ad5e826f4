"""The file a user asked for: one row per row asked for, in its order, whole or not there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.decide.calibrate import expected
from foveal.decide.retrieve import ranked
from foveal.files import csv_text, write_text
from foveal.manifest import Truth
from foveal.predictions import Predictions
from foveal.ship.numbers import short
from foveal.split.identities import share_of_new
from foveal.task import Asked, Given


@dataclass(frozen=True, slots=True)
class GradeTable:
    """A CSV of id and integer grade, under the table's own column names.

    With scores it also has the expected grade and a probability for every grade.
    """

    suffix: ClassVar[str] = ".csv"

    grades: int

    def prior(
        self, truth: Int[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> dict[str, Any]:
        """The mean grade, and the grade nearest to it: the best guess for squared distance."""
        share = np.bincount(truth, weights=weight, minlength=self.grades) / weight.sum()
        mean = float(share @ np.arange(self.grades))
        return {
            "grade": min(math.floor(mean + 0.5), self.grades - 1),
            "expected": mean,
            "probabilities": share.tolist(),
        }

    def files(self, path: Path, asked: Asked) -> list[Path]:
        """The table alone."""
        return [path]

    def write(self, path: Path, asked: Asked, given: Given) -> None:
        """Write the answer; a case of which nothing is known gets the prior one."""
        (target,) = asked.target_columns
        header = [asked.id_column, target]
        rows = self._prior_rows(asked, given)
        for name, label in zip(given.ids, given.labels.tolist(), strict=True):
            rows[name] = [name, label]
        if asked.scores:
            header += [f"{target}_expected", *(f"{target}_p{k}" for k in range(self.grades))]
            for name, score, shares in self._scores(given):
                rows[name] += [f"{score:.6g}", *(f"{p:.6g}" for p in shares)]
        write_text(path, csv_text([header, *(rows[name] for name in asked.ids)]))

    def out_of_fold(
        self, labels: Int[np.ndarray, " case"], predictions: Predictions, truth: Truth
    ) -> dict[str, list]:
        """The true grade, the one that was given, the score it was given for, and the weight."""
        return {
            "truth": truth.target.tolist(),
            "label": labels.tolist(),
            "score": [f"{score:.6g}" for score in expected(predictions)],
            "weight": [short(weight) for weight in truth.weight.tolist()],
        }

    def _prior_rows(self, asked: Asked, given: Given) -> dict[str, list]:
        known = set(given.ids)
        prior = given.prior
        row = [prior["grade"]]
        if asked.scores:
            shares = (f"{p:.6g}" for p in prior["probabilities"])
            row += [f"{prior['expected']:.6g}", *shares]
        return {name: [name] if name in known else [name, *row] for name in asked.ids}

    def _scores(self, given: Given) -> list[tuple[str, float, np.ndarray]]:
        if given.predictions is None:
            return []
        scores = np.clip(expected(given.predictions), 0, self.grades - 1).tolist()
        shares = given.probabilities(given.predictions)
        return list(zip(given.ids, scores, shares, strict=True))


@dataclass(frozen=True, slots=True)
class IdentityTable:
    """A CSV of id and the best k names, best first, with single spaces between them.

    With scores it also has the score of the best individual, 0 to 1, and where somebody may be new
    the probability of that.

    Attributes:
        k: Names in an answer.
        new: The name of somebody new; None where everybody is known.
        new_share: The share of queries that is expected to be new; None for the usual one.
    """

    suffix: ClassVar[str] = ".csv"

    k: int
    new: str | None = None
    new_share: float | None = None

    def prior(
        self, truth: Shaped[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> dict[str, Any]:
        """Those who were seen most often, and somebody new where the share of new ones says."""
        names, place = np.unique(truth, return_inverse=True)
        seen = np.bincount(place, weights=weight)
        is_known = (names != self.new) & (seen > 0)
        names, seen = names[is_known], seen[is_known]
        order = np.argsort(-seen, kind="stable")
        guesses: list[str] = names[order].tolist()
        if self.new is None:
            return {"names": guesses[: self.k], "numbers": [0.0]}
        share = share_of_new(truth, self.new, self.new_share)
        oftener = seen * (1 - share) > share * seen.sum()
        guesses.insert(int(oftener.sum()), self.new)
        return {"names": guesses[: self.k], "numbers": [0.0, share]}

    def files(self, path: Path, asked: Asked) -> list[Path]:
        """The table alone."""
        return [path]

    def write(self, path: Path, asked: Asked, given: Given) -> None:
        """Write the answer; a case of which nothing is known gets the prior one."""
        (target,) = asked.target_columns
        header = [asked.id_column, target, *self._number_names(target)]
        width = len(header) if asked.scores else 2
        prior = (" ".join(given.prior["names"]), *map(short, given.prior["numbers"]))
        rows = {name: (name, *prior) for name in asked.ids}
        for name, labels, numbers in zip(
            given.ids, given.labels.tolist(), self._numbers(given), strict=True
        ):
            rows[name] = (name, " ".join(n for n in labels if n), *map(short, numbers))
        write_text(path, csv_text(row[:width] for row in (header, *(rows[n] for n in asked.ids))))

    def out_of_fold(
        self,
        labels: Shaped[np.ndarray, "case place"],
        predictions: Predictions,
        truth: Truth,
    ) -> dict[str, list]:
        """The true name, the names given, the best individuals and their scores, the weight."""
        names, scores = ranked(predictions, self.k)
        return {
            "truth": truth.target.tolist(),
            "label": [" ".join(n for n in row if n) for row in labels.tolist()],
            "best": [" ".join(n for n in row if n) for row in names.tolist()],
            "score": [short(score) for score in scores[:, 0].tolist()],
            "weight": [short(weight) for weight in truth.weight.tolist()],
        }

    def _number_names(self, target: str) -> list[str]:
        return [f"{target}_score", *([] if self.new is None else [f"{target}_new"])]

    def _numbers(self, given: Given) -> list[tuple[float, ...]]:
        if given.predictions is None:
            return [tuple(given.prior["numbers"])] * len(given.ids)
        best = np.maximum(ranked(given.predictions, 1)[1][:, 0], 0).tolist()
        if self.new is None:
            return [(score,) for score in best]
        return list(zip(best, given.probabilities(given.predictions).tolist(), strict=True))
