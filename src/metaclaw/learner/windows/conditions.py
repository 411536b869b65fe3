"""Whether a window is open, and when the next one will be.

Owns the rule over what is known at a moment; refuses to know how any of it was found out. Invariant: what is unknown
never opens a window.

A window is open while the user sleeps, or was idle for long, or is in a meeting; and nobody asks anything of the agent.
Scheduled time is opened only if enough of it is left, and then used to its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaclaw.learner.windows.spans import Span, first_long_enough, joined, span_at

Name = Literal["sleep", "idle", "calendar", "requests"]
HORIZON_S = 2 * 86_400.0  # how far ahead the next window is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits, in seconds."""

    idle_s: float
    min_window_s: float
    resume_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known at ``now``. Of ``busy`` and ``idle_s``, ``None`` is unknown.

    ``quiet_s`` is how long ago the last request of a user was in progress; infinite when there was none.
    """

    now: float
    sleep: Sequence[Span]
    busy: Sequence[Span] | None
    idle_s: float | None
    quiet_s: float
    idle_source: str
    calendar_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition. ``until`` is when it ends, where that is known."""

    name: Name
    is_met: bool | None
    says: str
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A window, or none.

    ``closes_at`` is known of a window that was scheduled. Of none, ``next_at`` is when the next scheduled one opens,
    and ``idle_at`` when one does if nobody touches anything from now on.
    """

    at: float
    is_open: bool
    why: str
    conditions: tuple[Condition, ...]
    closes_at: float | None
    next_at: float | None
    idle_at: float | None


def weigh(facts: Facts, rules: Rules, *, was_open: bool) -> Verdict:
    """Decide whether a window is open; ``was_open`` says whether one was a moment before."""
    scheduled = joined([*facts.sleep, *(facts.busy or ())])
    current = span_at(scheduled, facts.now)
    conditions = (_sleep(facts), _idle(facts, rules), _calendar(facts), _requests(facts, rules))
    is_quiet = _is_quiet(facts, rules)
    is_idle = conditions[1].is_met is True
    is_scheduled = current is not None and (was_open or current.end - facts.now >= rules.min_window_s)
    is_open = is_quiet and (is_idle or is_scheduled)
    quiet_at = facts.now if is_quiet else facts.now + rules.resume_after_s - facts.quiet_s
    following = first_long_enough(scheduled, after=quiet_at, at_least_s=rules.min_window_s)
    return Verdict(
        at=facts.now,
        is_open=is_open,
        why=_why(conditions, is_open=is_open, is_quiet=is_quiet, current=current, rules=rules, now=facts.now),
        conditions=conditions,
        closes_at=current.end if is_open and not is_idle and current is not None else None,
        next_at=None if is_open or following is None else following.start,
        idle_at=None if is_open or facts.idle_s is None else max(quiet_at, facts.now + rules.idle_s - facts.idle_s),
    )


def _why(
    conditions: tuple[Condition, ...], *, is_open: bool, is_quiet: bool, current: Span | None, rules: Rules, now: float
) -> str:
    met = [condition for condition in conditions[:3] if condition.is_met]
    if is_open:
        return "; ".join(condition.says for condition in met)
    if not is_quiet:
        return conditions[3].says
    if current is not None:
        return f"{met[0].says}, but only {_minutes(current.end - now)} are left of {_minutes(rules.min_window_s)}"
    return "; ".join(condition.says for condition in conditions[:3])


def _is_quiet(facts: Facts, rules: Rules) -> bool:
    # An answer that is being given is never quiet, however soon training may go on after it.
    return facts.quiet_s > 0 and facts.quiet_s >= rules.resume_after_s


def _sleep(facts: Facts) -> Condition:
    night = span_at(facts.sleep, facts.now)
    if night is None:
        return Condition(name="sleep", is_met=False, says="these are no sleep hours")
    return Condition(name="sleep", is_met=True, says="these are sleep hours", until=night.end)


def _idle(facts: Facts, rules: Rules) -> Condition:
    if facts.idle_s is None:
        return Condition(name="idle", is_met=None, says=f"whether the user is idle is unknown ({facts.idle_source})")
    if math.isinf(facts.idle_s):
        return Condition(name="idle", is_met=True, says="the agent was never asked anything")
    is_met = facts.idle_s >= rules.idle_s
    limit = "" if is_met else f", of {_minutes(rules.idle_s)}"
    return Condition(
        name="idle", is_met=is_met, says=f"the user is idle for {_minutes(facts.idle_s)}{limit} ({facts.idle_source})"
    )


def _calendar(facts: Facts) -> Condition:
    if not facts.calendar_source:
        return Condition(name="calendar", is_met=None, says="no calendar is read")
    if facts.busy is None:
        return Condition(name="calendar", is_met=None, says=f"the calendar is unknown ({facts.calendar_source})")
    meeting = span_at(joined(facts.busy), facts.now)
    if meeting is None:
        return Condition(name="calendar", is_met=False, says="the calendar is free")
    return Condition(name="calendar", is_met=True, says="the calendar is busy", until=meeting.end)


def _requests(facts: Facts, rules: Rules) -> Condition:
    if _is_quiet(facts, rules):
        return Condition(name="requests", is_met=True, says="nobody asks the agent anything")
    left = rules.resume_after_s - facts.quiet_s
    return Condition(
        name="requests",
        is_met=False,
        says=f"the agent was asked something {_minutes(facts.quiet_s)} ago",
        until=facts.now + left,
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
