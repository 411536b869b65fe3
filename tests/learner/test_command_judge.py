"""A command as the judge: real commands, shut in where this machine can."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import JudgeSettings
from metaclaw.errors import ConfigError, JudgeError
from metaclaw.learner.judges.command import read_answer
from metaclaw.learner.judges.judge import Exchange, JudgeUnavailableError
from metaclaw.learner.judges.loading import load_judge
from metaclaw.processes.confinement import SandboxError, choose_confinement
from metaclaw.upstreams.session import new_session

pytestmark = pytest.mark.anyio


def _is_shut_in() -> bool:
    try:
        choose_confinement()
    except SandboxError:
        return False
    return True


SHUT_IN = _is_shut_in()
needs_a_sandbox = pytest.mark.skipif(not SHUT_IN, reason="nothing can be shut in on this machine")


def exchange(answer: str = "hi", feedback: float | None = None) -> Exchange:
    return Exchange(
        id="x", agent="main", session="s", turn_ids=("t",), prompt="ask", answer=answer, messages=(),
        finish_reason="stop", feedback=feedback,
    )  # fmt: skip


async def score_of(command: str, judged: Exchange | None = None, home: Path | None = None, **settings) -> float | None:
    values = {"command": command, "command_unconfined": not SHUT_IN, "timeout_s": 20, **settings}
    async with new_session() as session:
        judge = load_judge(JudgeSettings(**values), session, home=home)
        assert judge is not None
        assert not judge.needs_followup
        return (await judge.judge(judged or exchange())).score


async def test_a_command_reads_the_exchange_and_writes_a_score(tmp_path: Path):
    (script := tmp_path / "judge.py").write_text(
        "import json, sys\nsaid = json.load(sys.stdin)\n"
        "print('looking', file=sys.stderr)\nprint(0.5 if said['answer'] == 'né\\ud800' else 'none')\n"
    )
    assert await score_of(f"python3 {script}", exchange("né\ud800")) == 0.5
    assert await score_of(f"python3 {script}", exchange("other")) is None


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo 1; exit 1", "status 1"),
        ("echo 1; echo why >&2; exit 3", "status 3: why"),
        ("echo 1 2", "one number"),
        ("cat", "one number"),
        ("true", "one number"),
        ("echo 2", "not in"),
        ("kill -9 $$", "status 137"),
        ("yes", "output"),
    ],
)
async def test_whatever_else_a_command_does_is_an_error_never_a_score(command: str, says: str):
    with pytest.raises(JudgeError, match=says) as raised:
        await score_of(command)
    assert not isinstance(raised.value, JudgeUnavailableError)


async def test_a_command_that_hangs_is_ended_and_one_may_ask_to_be_run_later():
    with pytest.raises(JudgeError, match=r"0\.3 s \(rl\.judge\.timeout_s\)"):
        await score_of("sleep 60 & sleep 60", timeout_s=0.3)
    with pytest.raises(JudgeUnavailableError, match="again later: no licence"):
        await score_of("echo no licence >&2; exit 75")


@needs_a_sandbox
async def test_a_command_sees_neither_our_home_nor_our_keys_but_its_own_file_in_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("METACLAW_RL_JUDGE_API_KEY", "a-secret")
    (tmp_path / "config.yaml").write_text("a-secret")
    (script := tmp_path / "judge.sh").write_text(f"cat {tmp_path}/config.yaml 2>/dev/null; env | grep secret; echo 1")

    assert await score_of(f"sh {script}", home=tmp_path) == 1.0


async def test_a_command_that_nothing_can_shut_in_is_refused_unless_that_is_allowed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("metaclaw.processes.confinement._problem_of", lambda way: "not permitted")
    async with new_session() as session:
        with pytest.raises(ConfigError, match=r"rl\.judge\.command.*install bubblewrap.*command_unconfined"):
            load_judge(JudgeSettings(command="echo 1"), session)
    assert await score_of("echo 1", command_unconfined=True) == 1.0


def test_a_command_that_is_no_shell_command_names_the_setting():
    with pytest.raises(ConfigError, match=r"rl\.judge\.command"):
        load_judge(JudgeSettings(command="echo 'half", command_unconfined=True), None)  # type: ignore[arg-type]


@given(st.text(max_size=12))
def test_only_a_plain_number_is_an_answer(output: str):
    try:
        score = read_answer(output)
    except JudgeError:
        return
    assert output.strip() == "none" if score is None else -1 <= score <= 1
    assert set(output.strip()) <= set("none+-.0123456789")
