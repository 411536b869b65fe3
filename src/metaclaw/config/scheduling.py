"""Settings of when training may run.

Owns `scheduler`; refuses to know how it is found out whether the user is there.
"""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from metaclaw.config_types import ApiKey, OptionalPath, SecretUrl, Section

_MINUTES_A_DAY = 24 * 60


def _clock_text(value: object) -> object:
    # Some writers of YAML leave out the quotes, and some readers take 23:00 for a number in base 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MINUTES_A_DAY:
        return f"{value // 60:02d}:{value % 60:02d}"
    return value


def _clock(value: str) -> str:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})(?::00)?", value.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise ValueError("write a time of the day, for example '23:00'")
    return f"{int(found[1]):02d}:{found[2]}"


def _zone(value: str) -> str:
    if value:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"{value!r} is no time zone that is known here; write one like 'Europe/Vienna'") from None
    return value


ClockTime = Annotated[str, BeforeValidator(_clock_text), AfterValidator(_clock)]


class CalendarSettings(Section):
    """A calendar that says when the user is in a meeting. One of `url`, `path` and `credentials_path`."""

    enabled: bool = Field(default=False, description="Train while the calendar says that you are busy.")
    url: SecretUrl = Field(
        default=SecretStr(""), description="Address of an ICS file, or of a CalDAV collection; often a secret itself."
    )
    username: str = Field(default="", description="User name for the URL.")
    password: ApiKey = Field(default=SecretStr(""), description="Password for the URL, best one for this alone.")
    path: OptionalPath = Field(default=None, description="An ICS file on this machine.")
    credentials_path: OptionalPath = Field(
        default=None, description="Google Calendar: the OAuth client's JSON file (`metaclaw scheduler login`)."
    )
    token_path: OptionalPath = Field(
        default=None, description="Google Calendar: where its token is kept; default METACLAW_HOME/calendar_token.json."
    )

    @model_validator(mode="after")
    def _one_calendar(self) -> CalendarSettings:
        given = [bool(self.url.get_secret_value()), self.path is not None, self.credentials_path is not None]
        if self.enabled and sum(given) == 0:
            raise ValueError("calendar.enabled needs one of calendar.url, calendar.path and calendar.credentials_path")
        if sum(given[:2]) > 1:
            raise ValueError("give one of calendar.url and calendar.path, not both")
        return self


class SchedulerSettings(Section):
    """When training may run: while you sleep, are idle, or in a meeting. Mode auto keeps to it; rl where `enabled`."""

    enabled: bool = Field(default=False, description="Train in windows only in mode rl too; mode auto always does.")
    sleep_start: ClockTime = Field(default="23:00", description="When you go to sleep; the same as sleep_end is never.")
    sleep_end: ClockTime = Field(default="07:00", description="When you get up.")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="", description="Where those times are meant, like 'Europe/Vienna'; empty is this machine's zone."
    )
    idle_threshold_minutes: float = Field(
        default=30.0, gt=0, description="Minutes without a touch of keyboard or pointer after which you are idle."
    )
    idle_source: Literal["auto", "requests"] = Field(
        default="auto",
        description="auto: what this machine's desktop says, without one requests; requests: to the agent, alone.",
    )
    min_window_minutes: float = Field(
        default=15.0, ge=0, description="Sleep hours and meetings with fewer minutes left open no window."
    )
    resume_after_minutes: float = Field(
        default=5.0, ge=0, description="After a request to the agent nothing is trained for so many minutes."
    )
    calendar: CalendarSettings = Field(default_factory=CalendarSettings)

    @property
    def sleep(self) -> tuple[time, time]:
        """The two times of `sleep_start` and `sleep_end`."""
        return time.fromisoformat(self.sleep_start), time.fromisoformat(self.sleep_end)

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone of those times; ``None`` is the machine's."""
        return ZoneInfo(self.time_zone) if self.time_zone else None
