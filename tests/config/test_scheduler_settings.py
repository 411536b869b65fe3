"""The settings of training windows: times as people write them, an address that is a secret, one calendar."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.config_file import read_settings
from metaclaw.errors import ConfigError


def load(home: Path, text: str):
    (home / "config.yaml").write_text(f"scheduler: {{{text}}}\n")
    (home / "config.yaml").chmod(0o600)
    return read_settings(home, {})[0].scheduler


@pytest.mark.parametrize("text", ["'23:30'", "23:30", "1410", "'23:30:00'"])
def test_a_time_is_read_however_a_file_writes_it(tmp_path: Path, text: str):
    assert load(tmp_path, f"sleep_start: {text}, sleep_end: '6:05'").sleep[0].isoformat() == "23:30:00"
    assert load(tmp_path, "sleep_end: '6:05'").sleep_end == "06:05"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sleep_start: '24:00'", "write a time of the day"), ("sleep_start: 2000", "scheduler.sleep_start"),
        ("time_zone: Vienna", "write one like 'Europe/Vienna'"), ("calendar: {enabled: true}", "needs one of"),
        ("calendar: {url: 'https://x.example/secret.ics', path: a.ics}", "not both"),
        ("calendar: {url: 'secret-feed'}", "scheduler.calendar.url"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_and_no_secret_is_shown(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, text)
    assert "secret" not in str(caught.value)


def test_a_calendars_own_scheme_is_https(tmp_path: Path):
    url = load(tmp_path, "calendar: {url: 'webcal://x.example/a.ics'}").calendar.url
    assert url.get_secret_value() == "https://x.example/a.ics"
