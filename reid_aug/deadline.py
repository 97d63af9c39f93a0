"""Work that stops by itself, to be continued by the next call."""

from __future__ import annotations

import time


class Deadline:
    """A point in time ``minutes`` from now; None is never."""

    def __init__(self, minutes: float | None):
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def minutes_left(self) -> float | None:
        """0 once it has passed, None if it never comes."""
        return None if self._end is None else max(0.0, self._end - time.monotonic()) / 60

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.minutes_left == 0.0
