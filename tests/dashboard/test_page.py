"""What the dashboard answers, over HTTP, to the owner and to everybody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from metaclaw.dashboard.app import PAGE
from metaclaw.journal.turns import TurnJournal
from tests.cli.programs import ask, metaclaw, started, status, until, upstream
from tests.dashboard.conftest import HOSTILE, Served, dashboard
from tests.journal.test_turns import new_turn, user

FACTS = ("overview", "turns", "turns/t1", "policies", "skills", "memories")
ROUTES = ("/", "/main.js", "/style.css", *(f"/api/{name}" for name in FACTS))


def get(served: Served, path: str, **parts: Any) -> Any:
    with served.client() as client:
        answer = client.get(f"/api/{path}", params=parts)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_answered_without_the_key(full: Served, path: str) -> None:
    for headers in ({}, {"Cookie": "metaclaw_dashboard=x; ;;=,"}, {"Authorization": "Bearer x"}):
        answer = httpx2.get(full.url + path, headers=headers)
        assert answer.status_code == 401, path
        assert "metaclaw dashboard" in answer.text
    assert httpx2.get(f"{full.url}/enter?key=").status_code == 401
    assert httpx2.get(f"{full.url}/enter?key=%C3%A9").status_code == 401


@pytest.mark.parametrize("path", ["/enter", *ROUTES])
def test_a_name_that_was_pointed_at_this_machine_reaches_nothing(full: Served, path: str) -> None:
    with full.client() as client:
        answer = client.get(path, headers={"Host": "evil.example"})
        assert answer.status_code == 403
        assert client.get("/", headers={"Host": "localhost:1"}).status_code == 200  # as through an SSH tunnel


@pytest.mark.parametrize("path", ROUTES)
def test_it_only_shows_and_a_browser_may_do_nothing_else_with_it(full: Served, path: str) -> None:
    with full.client() as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.request(method, path).status_code == 405
        answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_the_key_is_in_a_cookie_that_no_script_and_no_other_site_has(full: Served) -> None:
    cookie = httpx2.get(full.address).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize("other", ['a={"x": 1}', "a=b c", "a[b]=1", "a", 'a="1'])
def test_a_cookie_of_another_program_on_this_machine_locks_nobody_out(full: Served, other: str) -> None:
    ours = httpx2.get(full.address).headers["set-cookie"].partition(";")[0]
    for both in (f"{other}; {ours}", f"{ours}; {other}"):
        assert httpx2.get(f"{full.url}/api/skills", headers={"Cookie": both}).status_code == 200


def test_what_a_browser_is_started_with_lets_nobody_in_after_it(tmp_path: Path) -> None:
    """All users of a machine can read the command lines of its programs. And some browsers end only when closed."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(
        f"#!{sys.executable}\nimport http.client, pathlib, sys, urllib.parse\n"
        "address = urllib.parse.urlsplit(sys.argv[1])\n"
        "client = http.client.HTTPConnection(address.netloc, timeout=20)\n"
        "client.request('GET', f'{address.path}?{address.query}')\n"
        f"pathlib.Path({str(seen)!r}).write_text(f'{{client.getresponse().status}} {{sys.argv[1]}}')\n"
    )
    browser.chmod(0o700)
    with dashboard(tmp_path / "home", "--open", BROWSER=f"{browser} %s", DISPLAY=":0") as served:
        until(seen.exists)
        until(lambda: bool(seen.read_text()))
        status_code, address = seen.read_text().split()
        assert status_code == "303"
        assert httpx2.get(address).status_code == 401
        assert httpx2.get(served.address).status_code == 303


@pytest.mark.parametrize(
    "path", ["/..%2fapp.py", "/app.py", "/..%2f..%2f__init__.py", "/%2fetc%2fpasswd", "/.", "/%00"]
)
def test_only_files_of_the_page_are_given(full: Served, path: str) -> None:
    with full.client() as client:
        answer = client.get(path)
        assert answer.status_code == 404 or answer.content == (PAGE / "index.html").read_bytes()


def test_the_overview_has_what_was_recorded_and_learned(full: Served) -> None:
    told = get(full, "overview")
    assert told["troubles"] == []
    assert told["instance"] is None
    main = [day for day in told["days"] if day["agent"] == "main"]
    assert [day["turns"] for day in main] == [60, 1]
    assert [(day["agent"], day["failed"]) for day in told["days"]][-1] == ("research", 1)
    assert [(one["agent"], one["serving"], one["judged"]) for one in told["learning"]] == [("main", 1, 1)]
    assert [(one["judged"], one["mean_score"]) for one in told["scores"]] == [(1, 0.5)]
    assert len(told["last_days"]) == 30
    assert sorted({day["day"] for day in told["days"]}) == [told["last_days"][-4], told["last_days"][-1]]


def test_turns_come_a_page_at_a_time_and_each_once(full: Served) -> None:
    seen: list[str] = []
    before: int | None = None
    while True:
        told = get(full, "turns", **({} if before is None else {"before": before}))
        seen += [turn["id"] for turn in told["turns"]]
        before = told["next"]
        if before is None:
            break
    assert seen == ["t2", "t1", *(f"side{number}" for number in reversed(range(60)))]
    of_one = get(full, "turns", agent="research")["turns"]
    assert [(turn["id"], turn["state"], turn["error"]) for turn in of_one] == [("t2", "failed", "it is down")]
    assert get(full, "turns", agent="main", session="s")["turns"][0]["took_s"] == 2.5
    assert get(full, "turns", agent="main", session="none")["turns"] == []


def test_a_turn_has_all_that_is_known_of_it(full: Served) -> None:
    turn = get(full, "turns/t1")
    assert [(one["role"], one["text"]) for one in turn["messages"]] == [("user", f"{HOSTILE}\ud800")]
    assert [one["text"] for one in turn["answers"]] == ["Hi there."]
    assert [(one["item"], one["outcome"]) for one in turn["weighed"]] == [("m1", "recalled")]
    assert (turn["verdict"]["score"], turn["policy"]["trained_in"], turn["held_out"]) == (0.5, 1, False)
    assert turn["lessons"][0]["gap"] is None
    with full.client() as client:
        assert client.get("/api/turns/none").status_code == 404


def test_what_is_shown_of_a_turn_has_a_bound(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "a" * 30_000}}
    loop = (user("x" * 30_000), {"role": "assistant", "content": None, "tool_calls": [call] * 500})

    async def record() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await journal.open_turn(new_turn("first", *loop[:1]))
            await journal.open_turn(new_turn("then", *loop))

    asyncio.run(record())
    with dashboard(tmp_path) as served:
        said, asked = get(served, "turns/then")["messages"], get(served, "turns")["turns"]
    assert said[0]["text"].endswith("… and 10,000 characters more")
    assert (len(said[1]["calls"]), said[1]["calls"][-1]) == (21, "… and 480 calls more")
    assert [(turn["id"], turn["human"]) for turn in asked] == [("then", "x" * 200), ("first", "x" * 200)]


def test_policies_skills_and_memories_are_those_of_the_home(full: Served) -> None:
    (policy,) = get(full, "policies")
    assert (policy["agent"], policy["serving"]) == ("main", 1)
    assert policy["versions"][-1]["metrics"] == {"gate/kl": 0.01}
    assert {skill["owner"] for skill in get(full, "skills")["skills"]} == {"_starter"}
    assert [one["id"] for one in get(full, "memories")] == ["m1"]
    assert [one["id"] for one in get(full, "memories", words="who likes tea?")] == ["m1"]
    assert get(full, "memories", agent="research") == []


@pytest.mark.parametrize(
    ("path", "status"),
    [("turns?before=x", 422), ("turns?before=99999999999999999999", 422), ("turns?agent=%2f..", 400)],
)
def test_what_makes_no_sense_is_refused(full: Served, path: str, status: int) -> None:
    with full.client() as client:
        assert client.get(f"/api/{path}").status_code == status


def test_nothing_in_the_home_is_changed(make_home: Callable[[], Path]) -> None:
    home = make_home()
    before = _contents(home)
    with dashboard(home) as served, served.client() as client:
        for name in FACTS:
            assert client.get(f"/api/{name}").status_code == 200
    assert _contents(home) == before


def test_a_home_in_which_nothing_happened_yet_is_shown(tmp_path: Path) -> None:
    with dashboard(tmp_path / "none") as served, served.client() as client:
        told = {name: client.get(f"/api/{name}") for name in FACTS if name != "turns/t1"}
        assert {answer.status_code for answer in told.values()} == {200}
        assert told["turns"].json() == {"turns": [], "next": None}
        assert client.get("/api/turns/t1").status_code >= 400


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(make_home: Callable[[], Path]) -> None:
    home = make_home()
    (home / "learning.db").write_bytes(b"this is no database at all, and long enough to be looked at" * 20)
    with dashboard(home) as served:
        told = get(served, "overview")
        assert "learning.db" in told["troubles"][0]
        assert len(told["days"]) == 3
        assert len(get(served, "turns")["turns"]) == 50
        with served.client() as client:
            assert client.get("/api/policies").status_code == 500
            assert "learning.db" in client.get("/api/policies").json()["error"]["message"]


def test_settings_are_read_anew(make_home: Callable[[], Path]) -> None:
    home = make_home()
    with dashboard(home) as served:
        assert get(served, "overview")["modes"] == {"": "skills_only"}
        (home / "config.yaml").write_text(json.dumps({"mode": "rl", "agents": {"research": {"mode": "skills_only"}}}))
        assert get(served, "overview")["modes"] == {"": "rl", "research": "skills_only"}
        (home / "config.yaml").write_text("nonsense: 1")
        told = get(served, "overview")
        assert "unknown key 'nonsense'" in told["troubles"][0]
        assert (told["modes"][""], len(told["days"])) == ("rl", 3), "the rest is shown as before"
        assert len(get(served, "turns")["turns"]) == 50


def test_what_runs_is_shown_while_it_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with upstream() as url:
        flags = ("--api-base", url, "--api-key", "sk-secret", "--model-id", "m", "--port", "0")
        assert metaclaw(home, "setup", "--yes", *flags).returncode == 0
        with started(home), dashboard(home) as served:
            ask(home)
            until(lambda: [turn["state"] for turn in get(served, "turns")["turns"]] == ["done"])
            told = get(served, "overview")
            assert told["instance"]["url"] == status(home)["url"]
            assert told["health"]["status"] == "ok"
            assert [day["turns"] for day in told["days"]] == [1]
            assert [(one["credential"], one["state"]) for one in told["upstreams"]] == [("llm.api_key", "ready")]
            assert "sk-secret" not in json.dumps(told)
        until(lambda: get_overview_when_stopped(home)["instance"] is None)


def get_overview_when_stopped(home: Path) -> Any:
    with dashboard(home) as served:
        return get(served, "overview")


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = metaclaw(tmp_path, "dashboard", "--no-open", "--port", str(port))
    assert said.returncode == 1
    assert said.stderr.startswith(f"metaclaw: port {port} of 127.0.0.1 cannot be opened")


def _contents(home: Path) -> dict[str, str]:
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
