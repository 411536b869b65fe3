"""Edits of YAML, TOML and ``.env`` files: what is put in comes out again, and no other byte moves."""

from __future__ import annotations

from typing import Any

import pytest

from metaclaw.agents.documents import document
from metaclaw.agents.documents.document import Format, Place
from metaclaw.agents.documents.formats import DOTENV, TOML, YAML

HERMES = """\
# Hermes, as I like it    (œuvre)
model:            # what thinks
    default: 'claude-x'   # quoted
    provider: "anthropic"
providers:
    # mine
    local: {base_url: "http://10.0.0.5/v1", api_key: x}   # flow
notes: |
    several lines
      of text

toolsets: [a, b,
    c]
empty:
last:
- one
- two   # no newline at the end"""
CODEX = """\
# Codex
model = "gpt-5.6"   # fast
approval_policy = 'on-request'

[model_providers.corp]   # ours at work
name = "Corp"
base_url="https://corp.example/v1"
headers = { "X-A" = "ü" }

[[things]]
a=1

[mcp_servers.x]
command = "npx"
"""
ENV = """\
# IronClaw
export LLM_BACKEND = "nearai"   # the default
DATABASE_URL='postgres://u:p@h/db?x=1#y'
MULTI="line one
NOT_A_NAME=1
line three"
LLM_MODEL=old # note
LLM_MODEL=newer
EMPTY=
LAST=ü"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("form", "text", "place", "value"),
    [
        (YAML, HERMES, ("providers", "metaclaw"), {"base_url": "http://127.0.0.1:1/v1", "n": 1}),
        (YAML, HERMES, ("model", "default"), "metaclaw"),
        (YAML, HERMES, ("model", "context"), 5),
        (YAML, HERMES, ("providers", "local", "api_key"), "new"),
        (YAML, HERMES, ("providers", "local", "more"), {"a": "é"}),
        (YAML, HERMES, ("notes",), "one line"),
        (YAML, HERMES, ("empty",), {"a": 1}),
        (YAML, HERMES, ("empty", "inside"), 1),
        (YAML, HERMES, ("brand", "new"), "x"),
        (YAML, "", ("a", "b"), 1),
        (YAML, "# nothing but a note\n", ("openai-api-key",), "k"),
        (YAML, "{}\n", ("a",), 1),
        (TOML, CODEX, ("model",), "metaclaw"),
        (TOML, CODEX, ("model_provider",), "metaclaw"),
        (TOML, CODEX, ("model_providers", "metaclaw", "base_url"), "http://x/v1"),
        (TOML, CODEX, ("model_providers", "corp", "base_url"), "http://x/v1"),
        (TOML, CODEX, ("mcp_servers", "x", "args"), ["a", "ü"]),
        (TOML, "", ("model_providers", "metaclaw", "name"), "MetaClaw"),
        (DOTENV, ENV, ("LLM_BACKEND",), "openai_compatible"),
        (DOTENV, ENV, ("LLM_MODEL",), "metaclaw"),
        (DOTENV, ENV, ("EMPTY",), "a b"),
        (DOTENV, ENV, ("LLM_BASE_URL",), "http://127.0.0.1:30000/v1"),
        (DOTENV, "", ("A",), "b"),
    ],
)
def test_what_is_put_in_comes_out_again_and_no_other_line_moves(
    form: Format, text: str, place: Place, value: Any, newline: str
):
    text = (text or "# mine\n").replace("\n", newline)
    before = form.read(text)
    was = document.value_at(before, place)
    after = document.put(form, text, place, value)
    assert document.value_at(form.read(after), place) == value
    assert "\n" not in after.replace(newline, "")
    if was is document.MISSING:
        depth = document.depth_there(before, place)
        back = document.remove(form, after, place[: depth + 1])
        assert form.read(back) == before or not document.value_at(before, place[:depth])
        assert _lines(text) - _lines(after) in (set(), *_only_line_of(text, place[:depth]))
    else:
        back = document.put_source(form, after, place, form.source(text, place), was)
        assert form.read(back) == before
    if was is not document.MISSING or document.value_at(before, place[:-1]):
        assert back.rstrip() == text.rstrip()  # a last line without an end got one


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines()}


def _only_line_of(text: str, place: Place) -> list[set[str]]:
    """Braces, and a group that is empty, are filled on their own line."""
    return [{line} for line in _lines(text) if place == () or str(place[-1]) in line]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (YAML, "a: [1\n"),
        (YAML, "a: 1\n---\nb: 2\n"),
        (YAML, "\ta: 1\n"),
        (TOML, "a = \n"),
        (TOML, "[a]\nb = 1\n[a]\n"),
    ],
)
def test_what_cannot_be_understood_is_refused(form: Format, text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the parser's own
        form.read(text)


def test_an_edit_that_would_change_something_else_is_refused():
    """PITFALLS B6: a line was edited in whichever table it stood."""
    shared = "base: &it {url: a}\nproviders:\n  mine: *it\n  yours:\n    <<: *it\n"
    with pytest.raises(ValueError, match="edited"):  # the anchor's own text is where the alias points
        document.put(YAML, shared, ("providers", "mine", "url"), "b")
    with pytest.raises(ValueError, match=r"edited|merge"):
        document.put_source(YAML, shared, ("providers", "yours", "url"), "b", "b")
    with pytest.raises(ValueError, match=r"\.env"):
        document.put(DOTENV, "", ("A",), "two\nlines")
