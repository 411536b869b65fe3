"""Datasets in the layout of MetaClaw-Bench: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaclaw.bench.days import read_dataset
from metaclaw.errors import ConfigError

Json = dict[str, Any]

WORK: Json = {"id": "r1", "type": "file_check", "question": "Do it.", "eval": {"command": "true"}}
CHOICE: Json = {
    "id": "r2", "type": "multi_choice", "question": "Which?", "unknown": 1,
    "eval": {"options": {"a": "one", "B": "two"}, "answer": "a, b"},
}  # fmt: skip


def write(root: Path, questions: Any, **index: Any) -> Path:
    """As the reference has it: paths from the project's root, the index some folders below it."""
    data = root / "benchmark" / "data" / "set"
    (data / "eval" / "d1").mkdir(parents=True, exist_ok=True)
    (data / "workspaces" / "shared").mkdir(parents=True, exist_ok=True)
    (data / "eval" / "d1" / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    whole = {
        "workspace_src": "${METACLAW_ROOT}/benchmark/data/set/workspaces/shared",
        "eval_dir": "benchmark/data/set/eval",
        "openclaw_config_file": "of another program",
        "test": [{"id": "d1", "eval": "d1", "agent": "a", "session": "main"}],
    }
    path = data / "all_tests.json"
    path.write_text(json.dumps({**whole, **index}), encoding="utf-8")
    return path


def test_the_references_layout_is_read_from_wherever_it_lies(tmp_path: Path) -> None:
    state = tmp_path / "benchmark" / "data" / "set" / "state"
    sessions = state / "agents" / "a" / "sessions"
    sessions.mkdir(parents=True)
    entries = [
        {"type": "session", "id": "x"},
        {"type": "message", "message": {"role": "user", "content": [{"type": "text", "text": "You are Kit."}]}},
        {"type": "message", "message": {"role": "assistant", "content": "I am."}},
        {"type": "message", "message": {"role": "toolResult", "content": []}},
    ]
    (sessions / "main.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n\n", encoding="utf-8")
    path = write(tmp_path, [{"id": "g", "rounds": [WORK, CHOICE]}], openclaw_state_dir="benchmark/data/set/state")
    for given in (path, path.parent):
        [day] = read_dataset(given).days
        assert [one.id for one in day.rounds] == ["r1", "r2"]
        assert day.said == ({"role": "user", "content": "You are Kit."}, {"role": "assistant", "content": "I am."})
    choice = day.rounds[1].eval
    assert (choice.answer, set(choice.options)) == (frozenset("AB"), {"A", "B"})


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([{**WORK, "type": "essay"}], "does not match any of the expected tags"),
        ([{**WORK, "eval": {}}], "rounds.0.file_check.eval.command: Field required"),
        ([WORK, WORK], "round 'r1' is there twice"),
        ([{**CHOICE, "eval": {"options": {"A": "x"}, "answer": ["C"]}}], "none of the options"),
        ([{**WORK, "update": [{"action": "new", "path": "x"}]}], "'new' needs a 'source'"),
        ([{**WORK, "update": [{"action": "new", "path": "x", "source": "s"}]}], "there is no .*/eval/d1/s"),
        ([{**WORK, "update": [{"action": "new", "path": "../x", "source": "s"}]}], "not a path below"),
        ([{**WORK, "eval": {"command": "x", "expect_stdout": "(", "expect_stdout_regex": True}}], "no pattern"),
        ([{**WORK, "update": [{"action": "delete", "path": "x", "param": {"lines": ["0:99999999999"]}}]}], "lines"),
        ([], "at least 1 item"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(tmp_path: Path, rounds: list[Json], said: str) -> None:
    with pytest.raises(ConfigError, match=f"questions.json.*{said}"):
        read_dataset(write(tmp_path, {"rounds": rounds}))


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a\nb", "d" * 250, ".."])
def test_a_day_has_a_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    """Its results are kept under it, once it has been played."""
    with pytest.raises(ConfigError, match=r"test\.0\.id"):
        read_dataset(write(tmp_path, {"rounds": [WORK]}, test=[{"id": name, "eval": "d1"}]))


def test_what_tells_of_the_answers_is_hidden_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, {"rounds": [WORK]})
    dataset = read_dataset(path)
    for one in (dataset.workspace, *(day.sources for day in dataset.days)):
        assert any(one.resolve().is_relative_to(place.resolve()) for place in dataset.hidden)
    same = read_dataset(path).digest
    (dataset.days[0].sources / "questions.json").write_text(json.dumps({"rounds": [{**WORK, "question": "Other"}]}))
    assert dataset.digest == same != read_dataset(path).digest


def test_every_day_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    tests = [{"id": "d1", "eval": "d1"}, {"id": "d2", "eval": "d2"}, {"id": "d3", "eval": "d3"}]
    with pytest.raises(ConfigError, match=r"there is no .*d2/questions\.json; there is no .*d3/questions\.json"):
        read_dataset(write(tmp_path, {"rounds": [WORK]}, test=tests))
    with pytest.raises(ConfigError, match="the id 'd1' is given twice"):
        read_dataset(write(tmp_path, {"rounds": [WORK]}, test=[tests[0], tests[0]]))
    with pytest.raises(ConfigError, match="there is no folder 'nowhere'"):
        read_dataset(write(tmp_path, {"rounds": [WORK]}, workspace_src="nowhere"))
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"there is no .*other/all_tests\.json"):
        read_dataset(tmp_path / "other")
