"""What a finding is worded with, so that every check names pictures alike."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 10
"""Names that a finding lists."""


def listed(names: Sequence[str]) -> str:
    """The first names, and dots where there are more.

    Example:
        >>> listed(["a", "b"])
        'a, b'
    """
    return ", ".join(names[:MOST]) + (" ..." if len(names) > MOST else "")
