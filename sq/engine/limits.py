"""How fast an endpoint may be asked, and how long to wait before asking again."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random


class RateLimiter:
    """So much a minute, evenly: each caller waits for its turn. None: no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 60.0 / per_minute if per_minute else 0.0
        self._free = 0.0

    async def turn(self, cost: float = 1.0) -> None:
        """Wait until `cost` may be spent."""
        if not self._seconds:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self._free)
        self._free = start + cost * self._seconds
        if start > now:
            await asyncio.sleep(start - now)

    def correct(self, cost: float) -> None:
        """Account for `cost` more than was waited for; less, where it is negative."""
        self._free += cost * self._seconds


def delay(attempt: int, *, first: float, longest: float, asked: str | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    They double from `first` up to `longest`, with jitter of up to a half, so that many that failed together do not
    come back together. What the server asked for (its Retry-After: seconds, or a date) is never undercut.
    """
    own = min(longest, first * 2.0 ** min(attempt - 1, 30))
    jittered = own * random.uniform(0.5, 1.0)
    wanted = retry_after(asked)
    return jittered if wanted is None else wanted + random.uniform(0.0, min(first, own))


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; none where there is none, or none that can be read."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
        seconds = (when - datetime.datetime.now(datetime.UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None  # NaN compares false too
