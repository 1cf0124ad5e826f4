"""A limit on the clock, with something kept in hand."""

from __future__ import annotations

import time
from dataclasses import dataclass

RESERVE_SHARE = 0.1
RESERVE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop working and answer with what there is.

    A tenth of the limit, three seconds at least, is kept in hand for the last write.

    Attributes:
        limit_seconds: From the start of the process.
        started: The monotonic clock at that start.
    """

    limit_seconds: float
    started: float

    @property
    def end(self) -> float:
        """The monotonic clock when work must stop."""
        reserve = max(RESERVE_SHARE * self.limit_seconds, RESERVE_SECONDS)
        return self.started + self.limit_seconds - reserve

    def passed(self) -> bool:
        """Whether work must stop now."""
        return time.monotonic() >= self.end
