"""A limit on the clock, with something kept in hand."""

from __future__ import annotations

import time
from dataclasses import dataclass

RESERVE_SHARE = 0.1
RESERVE_SECONDS = 3.0

WRITES = 3
"""As long as so many of the longest write so far is kept in hand at least: the next may be longer,
and one may be under way when the time comes."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop working and answer with what there is.

    A tenth of the limit, three seconds at least, is kept in hand for the last write; more where
    writes take long.

    Attributes:
        limit_seconds: From the start of the process.
        started: The monotonic clock at that start.
    """

    limit_seconds: float
    started: float

    def end(self, write_seconds: float = 0.0) -> float:
        """The monotonic clock when work must stop, if a write takes so long."""
        reserve = max(RESERVE_SHARE * self.limit_seconds, RESERVE_SECONDS, WRITES * write_seconds)
        return self.started + self.limit_seconds - reserve

    def passed(self, write_seconds: float = 0.0) -> bool:
        """Whether work must stop now."""
        return time.monotonic() >= self.end(write_seconds)

    def has_time_for(self, seconds: float) -> bool:
        """Whether something that takes so long would end before the limit itself."""
        return time.monotonic() + seconds < self.started + self.limit_seconds
