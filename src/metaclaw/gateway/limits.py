"""What one token, or one agent, has used, against what it may use.

Owns the windows and the counting; refuses to know whose they are, files and HTTP. Invariant: in any 60 seconds no more
requests are admitted than the limit says, and no more at a time; what an answer cost is known only after it, so a
budget is overrun by what was under way when it was reached, and by no request after that.

The minute slides. Days and months are those of UTC. Time comes in as an argument (Unix seconds); a clock that is set
back opens no window anew, and one that was far ahead keeps none open until its time comes: what was used then counts
for today.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta

from metaclaw.errors import BudgetError, RateLimitError
from metaclaw.journal.access_store import Limits, Usage

_MINUTE_S = 60.0
_DAY_S = 86_400.0
_CONCURRENT_RETRY_S = 1.0


class Meter:
    """Counts for one token or agent. One thread uses it, another may read ``usage``; each method takes microseconds."""

    def __init__(self, limits: Limits, used: Usage | None = None, *, whose: str = "this token") -> None:
        used = used or Usage()
        self.limits = limits
        self._whose = whose
        self._admitted = deque(used.admitted)
        self._day, self._day_requests, self._day_tokens = used.day, used.day_requests, used.day_tokens
        self._month, self._month_tokens, self._month_usd = used.month, used.month_tokens, used.month_usd
        self._rolled_at = self._rolled_until = 0.0
        self.num_running = 0

    def admit(self, now: float) -> None:
        """Count a request in, or raise ``RateLimitError`` or ``BudgetError`` and count nothing."""
        self._roll(now)
        self._require_budget(now)
        self._require_room(now)
        self.num_running += 1
        self._day_requests += 1
        if self.limits.requests_per_minute is not None:
            self._admitted.append(now)

    def release(self) -> None:
        """Count a request out."""
        self.num_running -= 1

    def charge(self, now: float, *, tokens: int, usd: float) -> None:
        """Count what a request used."""
        self._roll(now)
        self._day_tokens += tokens
        self._month_tokens += tokens
        self._month_usd += usd

    def usage(self) -> Usage:
        """What is to be kept through a restart."""
        return Usage(
            admitted=tuple(self._admitted),  # one step of the interpreter: nothing changes within it
            day=self._day,
            day_requests=self._day_requests,
            day_tokens=self._day_tokens,
            month=self._month,
            month_tokens=self._month_tokens,
            month_usd=self._month_usd,
        )

    def _roll(self, now: float) -> None:
        if self._rolled_at <= now < self._rolled_until:
            return
        self._rolled_at, self._rolled_until = now, now + _until_next_day(now)
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        # Further ahead than a clock is set back at midnight: it was wrong, and its day may be years away.
        tomorrow = datetime.fromtimestamp(now + _DAY_S, UTC).date().isoformat()
        if self._day > tomorrow:
            self._day = day
        if self._month > tomorrow[:7]:
            self._month = day[:7]
        if day > self._day:
            self._day, self._day_requests, self._day_tokens = day, 0, 0
        if day[:7] > self._month:
            self._month, self._month_tokens, self._month_usd = day[:7], 0, 0.0

    def _require_budget(self, now: float) -> None:
        limits = self.limits
        if limits.tokens_per_day is not None and self._day_tokens >= limits.tokens_per_day:
            raise BudgetError(
                f"{self._whose} has used {self._day_tokens} of its {limits.tokens_per_day} tokens a day; "
                "a new day begins at 00:00 UTC",
                retry_after_s=_until_next_day(now),
            )
        if limits.usd_per_month is not None and self._month_usd >= limits.usd_per_month:
            raise BudgetError(
                f"{self._whose} has used {self._month_usd:.2f} of its {limits.usd_per_month:.2f} US dollars a month; "
                "a new month begins at 00:00 UTC of its first day",
                retry_after_s=_until_next_month(now),
            )

    def _require_room(self, now: float) -> None:
        limits = self.limits
        if limits.max_concurrent is not None and self.num_running >= limits.max_concurrent:
            raise RateLimitError(
                f"{self._whose} may have {limits.max_concurrent} requests running at once, which it has",
                retry_after_s=_CONCURRENT_RETRY_S,
            )
        if limits.requests_per_minute is None:
            return
        # One that is later than now was noted before the clock was set back; it would block for as long as that.
        while self._admitted and not now - _MINUTE_S < self._admitted[0] <= now:
            self._admitted.popleft()
        if len(self._admitted) >= limits.requests_per_minute:
            raise RateLimitError(
                f"{self._whose} may make {limits.requests_per_minute} requests a minute, which it has made",
                retry_after_s=self._admitted[0] + _MINUTE_S - now,
            )


def _until_next_day(now: float) -> float:
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight.timestamp() - now


def _until_next_month(now: float) -> float:
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1).timestamp() - now
