"""Two names are never one agent, and no name is a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaclaw.errors import InvalidRequestError, SkillError
from metaclaw.identity import agent_id, session_id
from metaclaw.skills.layout import is_agent, skill_folder, skill_folders
from metaclaw.skills.retired import set_retired

TRICKS = (
    "../main",
    "..",
    "a..b",
    "a/b",
    "a\\b",
    "%2e%2e",
    "main%00",
    "main\x00",
    "main.",
    "main..",
    " .main",
    ".main",
    "-main",
    "_shared",
    "_starter",
    "mаin",
    "ｍain",
    "ma\u0131n",
    "\u212aate",
    "ſam",
    "main\u200b",
    "main\u3000",
    "main\xa0",
    "main\x1c",
    "main\u2028",
    "ma\nin",
    "",
    ".",
    "~",
    "*",
    "x" * 65,
    "con:",
    "a b",
    "main|",
    "main\ud800",
)
_anything = st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9._\-%/\\ \u212a\uff4d]{1,20}", fullmatch=True)


def accepted(name: str) -> str | None:
    try:
        return agent_id(name)
    except InvalidRequestError:
        return None


@pytest.mark.parametrize("name", TRICKS)
def test_what_only_looks_like_a_name_is_none(name: str) -> None:
    assert accepted(name) is None
    assert not is_agent(name)


@settings(max_examples=300)
@given(_anything)
@example("\u212aate")
def test_a_name_that_is_taken_is_what_was_said_but_for_ascii_capitals_and_blanks(name: str) -> None:
    """So two names that mean one agent differ in nothing that a person would not take for the same."""
    if (taken := accepted(name)) is not None:
        said = name.strip(" \t\r\n")
        assert said.isascii()
        assert taken == said.lower()
        assert len(taken) <= 64
        assert accepted(taken) == taken
        assert Path("x", taken).name == taken, "one segment of a path"
        assert not taken.endswith("."), "a file system that drops the dot would make two agents one"


@settings(max_examples=200)
@given(_anything, _anything)
@example("../x", "tea")
@example("main", "../../tea")
def test_a_skill_lies_below_its_owners_folder_or_nowhere(owner: str, name: str) -> None:
    root = Path("/skills")
    try:
        folder = skill_folder(root, owner, name)
    except SkillError:
        return
    assert folder.relative_to(root).parts == (owner, name)
    assert ".." not in folder.parts


def test_a_folder_that_is_spelled_otherwise_is_nobodys(tmp_path: Path) -> None:
    """On a file system that knows no capitals, ``Ops`` would be the folder of the agent ``ops``."""
    for owner in ("Ops", "OPS.", "\u212aate", "ops"):
        skill = tmp_path / owner / "tea"
        skill.mkdir(parents=True)
        (skill / "SKILL.md").write_text("---\nname: tea\ndescription: Brew tea\n---\nGreen.\n")
    assert [owner for _, owner, _ in skill_folders(tmp_path)] == ["ops"]
    for agent in ("../ops", "Ops", "ops/tea", "ops\n*"):
        with pytest.raises(SkillError):
            set_retired(tmp_path, agent, "tea", retired=True)


@pytest.mark.parametrize("session", ["s\u3000", "s\x1c", "\u212a", "a b", "s\x00", "", "x" * 201])
def test_two_sessions_are_never_one_by_what_cannot_be_seen(session: str) -> None:
    with pytest.raises(InvalidRequestError):
        session_id(session)
