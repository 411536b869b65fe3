"""A file of tasks is taken whole or refused with what is wrong in it, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaclaw.errors import ConfigError
from metaclaw.rollout.tasks import Message, Task, read_tasks


def written(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "TASKS.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_the_short_forms_are_the_long_ones(tmp_path: Path) -> None:
    """SPEC A12: the reference's tasks are ``{task_id, instruction}``."""
    path = written(
        tmp_path, {"task_id": "a", "instruction": "Do it."}, "",
        {"id": "b", "messages": ["Do it.", {"content": "More.", "verifier": {"contains": "yes"}}], "tools": ["shell"]},
    )  # fmt: skip
    first, second = read_tasks(path)
    assert first == Task(id="a", messages=(Message(content="Do it."),))
    assert (second.tools, [one.content for one in second.messages]) == (("shell",), ["Do it.", "More."])
    assert second.messages[1].verifier is not None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "x", "messages": ["a"]', "line 2: column 30: not JSON"),
        ("[]", "line 2: Input should be a valid dictionary"),
        ({"id": "x"}, "line 2: messages: Field required"),
        ({"id": "x", "messages": []}, "line 2: messages"),
        ({"id": "x", "messages": [""]}, "line 2: messages.0.content"),
        ({"id": "x", "messages": ["a"], "tool": ["shell"]}, "line 2: tool: Extra inputs are not permitted"),
        ({"id": "x", "messages": ["a"], "tools": ["browser"]}, "line 2: tools.0: Input should be 'shell' or 'files'"),
        (
            {"id": "x", "messages": ["a"], "files": {"../y": ""}},
            "line 2: files.../y: Value error, '../y' is not a path",
        ),
        ({"id": "x", "messages": ["a"], "verifier": {}}, "line 2: verifier: Value error, write either 'command'"),
        ({"id": "x", "messages": ["a"], "verifier": {"contains": "a", "graded": True}}, "belong to 'command'"),
        ({"id": "x", "messages": ["a"], "agent": "../root"}, "line 2: agent: Value error"),
        ({"id": "x", "messages": ["a"], "max_turns": 0}, "line 2: max_turns"),
        ({"id": "good", "messages": ["a"]}, "line 2: id: 'good' is the id of line 1 already"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: object, said: str) -> None:
    path = written(tmp_path, {"id": "good", "messages": ["a"]}, line)
    with pytest.raises(ConfigError, match=r"TASKS\.jsonl: line 2") as caught:
        read_tasks(path)
    assert said in str(caught.value)


def test_every_wrong_line_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 1: .*; line 3: "):
        read_tasks(written(tmp_path, "{", {"id": "x", "messages": ["a"]}, {"id": "y"}))
    with pytest.raises(ConfigError, match="has no task"):
        read_tasks(written(tmp_path, "", " "))


def test_a_folder_of_tasks_is_answered_with_the_files_in_it(tmp_path: Path):
    """SPEC A12: the reference system named the folder."""
    written(tmp_path, {"task_id": "a", "instruction": "Say hello."})
    name = next(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=f"is a folder; name one file of tasks: {name}"):
        read_tasks(tmp_path)
