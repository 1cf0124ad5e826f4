"""Numbers as people read them, in answers, on the page and on the console."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def short(value: float) -> str:
    """With as many digits as an answer has; the shortest way to write them."""
    return f"{value:.6g}"


def number(value: float | None, digits: int = 3) -> str:
    """With a few digits behind the point; a dash where there is none."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "-"


def metric_name(name: str) -> str:
    """A metric as people write it, at the beginning of a line.

    Example:
        >>> metric_name("quadratic_kappa"), metric_name("macro_f1")
        ('Quadratic kappa', 'Macro F1')
        >>> metric_name("map_at_5"), metric_name("f_0.5")
        ('MAP@5', 'F0.5')
    """
    words = re.sub(r"(^|_)f_?(?=[\d.])", r"\1F", name.replace("map_at_", "MAP@"))
    return words[:1].upper() + words[1:].replace("_", " ")


def span(interval: Sequence[float | None]) -> str:
    """From where to where, or that nobody can tell.

    Example:
        >>> span((0.25, 0.5)), span((math.nan, math.nan))
        ('0.250 to 0.500', 'too few groups')
    """
    low, high = map(number, interval)
    return "too few groups" if "-" in (low, high) else f"{low} to {high}"
