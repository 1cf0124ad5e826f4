"""A grade a case."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import TargetError
from foveal.manifest import Manifest, Truth
from foveal.split.record import Split

MOST_GRADES = 100
"""More are years, or the numbers of cases."""

NUMBER_THEM = (
    "number words 0, 1, 2, ... in their order, or a recipe for classes where they have none"
)
POINT_THEM = "a point in place of a decimal comma"
CORRECT_THEM = (
    "correct what is no whole number of 0 or more, or number the steps of another scale 0, 1, ..."
)
LOWER_THEM = "correct what is too large, or grades=K for K grades"


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One grade a case, 0 to grades-1."""

    grades: int

    @staticmethod
    def measure(manifest: Manifest) -> dict[str, Any]:
        """The number of grades that the column suggests: the largest + 1."""
        found = [_number(v) for v in manifest.target[:, 0].tolist()]
        whole = [int(v) for v in found if v >= 0 and v == int(v)] if found else []
        return {"grades": max(whole, default=0) + 1}

    def encode(self, manifest: Manifest) -> Int[np.ndarray, " case"]:
        """The grade of every case.

        Raises:
            TargetError: A grade is empty, no number, negative, fractional or too large, or all
                cases have the same one.
        """
        texts = manifest.only_target().tolist()
        wrong = [(k, *self._trouble(text)) for k, text in enumerate(texts)]
        culprits = [f"{manifest.name(k)}: {why}" for k, why, _ in wrong if why]
        column = manifest.target_columns[0]
        if self.grades > MOST_GRADES:
            raise TargetError(
                f'column "{column}" would have grades 0 to {self.grades - 1}; a scale has at most '
                f"{MOST_GRADES}; cure: number the grades 0, 1, 2, ..., or another --target"
            )
        if culprits:
            is_large = any(cure == LOWER_THEM for _, _, cure in wrong)
            scale = f" of 0 to {self.grades - 1}" if is_large else ""
            cures = dict.fromkeys(cure for _, _, cure in wrong if cure)
            raise TargetError(
                f'{len(culprits)} values of column "{column}" are no grades{scale}; '
                f"cure: {'; '.join(cures)}",
                culprits,
            )
        grades = np.array([int(float(text)) for text in texts], dtype=np.int64)
        counted = grades[manifest.weight > 0]
        if len(np.unique(counted)) == 1:
            which = "cases" if len(counted) == len(grades) else "cases that count"
            raise TargetError(
                f'all {len(counted)} {which} have grade {counted[0]} in column "{column}"; there '
                "is nothing to learn; cure: another --target"
            )
        return grades

    def _trouble(self, text: str) -> tuple[str, str]:
        """Why a text is no grade, and what to do about it; empty if it is one."""
        value = _number(text)
        if not text.strip():
            return "the cell is empty", "leave rows with an empty cell out"
        if math.isnan(value):
            is_comma = not math.isnan(_number(text.replace(",", ".", 1)))
            return f'"{text}" is no number', POINT_THEM if is_comma else NUMBER_THEM
        if value < 0:
            return f"{text} is negative", CORRECT_THEM
        if value != int(value):
            return f"{text} is fractional", CORRECT_THEM
        if value >= self.grades:
            return f"{text} is too large", LOWER_THEM
        return "", ""

    def remarks(
        self, encoded: Int[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> list[str]:
        """Grades that no case has, or none that counts."""
        missing = sorted(set(range(self.grades)) - set(encoded[weight > 0].tolist()))
        counts = " of a weight above 0" if (weight == 0).any() else ""
        told = ", ".join(map(str, missing))
        return [f"no case{counts} has grade {told}"] if missing else []

    def train(self, encoded: Int[np.ndarray, " case"]) -> Float[np.ndarray, "case grade"]:
        """One distribution over grades a case."""
        return np.eye(self.grades, dtype=np.float32)[encoded]

    def truth(self, manifest: Manifest, encoded: Int[np.ndarray, " case"], split: Split) -> Truth:
        """The grade of every case."""
        return split.truth(manifest, encoded)


def _number(text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # 1_0 is ten to Python alone
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
