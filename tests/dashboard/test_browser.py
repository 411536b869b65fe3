"""The page in a real browser: what a person sees, and what strangers' text cannot do there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.programs import ask, metaclaw, started, upstream
from tests.dashboard.conftest import HOSTILE, Served, dashboard

pytestmark = pytest.mark.browser


def shown(served: Served, page: str, profile: Path, *, zone: str | None = None) -> str:
    """The document of ``page`` once its scripts have run, as the browser writes it; it may be in another time zone."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "these tests need Chromium: apt-get install chromium"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom", f"{served.address}#/{page}",
        ],
        capture_output=True, text=True, timeout=90, check=True, env={**os.environ, **({"TZ": zone} if zone else {})},
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not errors, errors
    return done.stdout


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("", ["MetaClaw is not running here", "62, 1 failed", "+0.50 of 1 judged", "version 1", "research"]),
        ("turns", ["failed 502", "older", "&lt;script&gt;"]),
        ("turns?agent=research", ["other", "failed 502"]),
        ("turn?id=t1", ["Hi there.", "+0.50", "version 1 was trained on it", "recalled", "m1"]),
        ("policies", ["1 (serves)", "KL 0.010"]),
        ("skills", ["<td>starter</td>", "None was written yet."]),
        ("memories", ["likes tea"]),
        ("memories?words=tea", ["likes tea", "score"]),
        ("nowhere", ["There is no such page."]),
        ("turn?id=none", ["there is no turn"]),
    ],
)
def test_each_page_shows_what_is_there(full: Served, tmp_path: Path, page: str, words: list[str]) -> None:
    document = shown(full, page, tmp_path)
    missing = [text for text in words if text not in document]
    assert not missing, document
    assert "MetaClaw</title>" in document


@pytest.mark.parametrize("page", ["turns", "turn?id=t1", "memories"])
def test_what_strangers_wrote_stays_text(full: Served, tmp_path: Path, page: str) -> None:
    document = shown(full, page, tmp_path)
    assert "taken</title>" not in document
    assert "<img" not in document
    assert HOSTILE[:40].replace("<", "&lt;").replace(">", "&gt;") in document


def test_the_days_are_those_of_the_machine_that_recorded_them(full: Served, tmp_path: Path) -> None:
    """Through a tunnel from further west, the newest bar was missing as long as its day had not begun there."""
    here = shown(full, "", tmp_path).count('class="bar"')
    assert here == shown(full, "", tmp_path, zone="Pacific/Pago_Pago").count('class="bar"') > 0


def test_who_has_no_key_is_told_what_to_do(full: Served, tmp_path: Path) -> None:
    refused = Served(address=f"{full.url}/enter?key=wrong", url=full.url)
    assert "metaclaw dashboard" in shown(refused, "", tmp_path)


def test_a_running_metaclaw_and_the_models_behind_it_are_shown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with upstream() as url:
        flags = ("--api-base", url, "--api-key", "sk-x", "--model-id", "m", "--port", "0")
        assert metaclaw(home, "setup", "--yes", *flags).returncode == 0
        with started(home), dashboard(home) as served:
            ask(home)
            document = shown(served, "", tmp_path / "profile")
    for words in ("answers</strong> on http://127.0.0.1:", "Models behind it", "llm.api_key", ">ready</span>"):
        assert words in document, words
