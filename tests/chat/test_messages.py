"""When two messages are the same, and whose words they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.humans import human_identity, human_indexes, human_text, is_human
from metaclaw.chat.messages import answer_identity, canonical_json, chain_hashes, freeze, text_of

INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nsecret plans\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@given(st.dictionaries(st.text(max_size=4), st.text() | st.integers() | st.lists(st.text(max_size=3)), max_size=5))
def test_the_order_of_keys_does_not_change_a_message(message: dict[str, Any]) -> None:
    backwards = dict(reversed(message.items()))
    assert freeze(message).hash == freeze(backwards).hash
    assert freeze(message).parsed() == message


def test_a_lone_surrogate_can_be_stored() -> None:
    assert canonical_json({"content": "\ud800"}).encode() == b'{"content":"\\ud800"}'
    assert canonical_json({"content": "日本"}).encode() == '{"content":"日本"}'.encode()


def test_a_history_is_named_by_all_that_is_in_it() -> None:
    a, b = freeze(user("a")), freeze(user("b"))
    assert chain_hashes([a, b])[0] == chain_hashes([a])[0]
    assert chain_hashes([a, b])[1] != chain_hashes([b, b])[1]


def test_the_identity_of_an_answer_is_what_it_says_and_calls() -> None:
    """OpenClaw rewrites the ids of tool calls when it sends an answer again."""

    def call(call_id: str, arguments: str) -> dict[str, Any]:
        function = {"name": "ls", "arguments": arguments}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        }

    assert answer_identity(call("call_1", '{"a": 1}')) == answer_identity(call("call1", '{"a":1}'))
    assert answer_identity(call("call_1", '{"a": 1}')) != answer_identity(call("call_1", '{"a": 2}'))
    assert answer_identity(call("x", "")) == answer_identity(call("x", "{}"))
    assert answer_identity(call("x", "{broken")) != answer_identity(call("x", "{broke"))
    assert answer_identity({"content": " hi\n"}) == answer_identity({"content": [{"type": "text", "text": "hi"}]})


@pytest.mark.parametrize(
    "content",
    [
        INTERNAL,
        [{"type": "text", "text": INTERNAL}],
        "[Queued user message from a previous active turn; preserved as context only. ...]",
        "The previous attempt did not produce a user-visible answer. Continue ...",
        "The conversation history before this point was compacted into the following summary:\n\nI live in Rome.",
        [
            {
                "type": "text",
                "text": "This session is being continued from a previous conversation that ran out of context.",
            }
        ],
        "",
        None,
    ],
)
def test_what_a_client_injects_is_not_the_humans(content: Any) -> None:
    assert not is_human(user(content))


def test_the_humans_words_are_what_remains() -> None:
    runtime = "Runtime: agent=main | session=agent:main:gw1 | sessionId=1-2 | host=h | model=m"
    message = user(f"[Sun 2026-11-22 15:46 UTC] what is [1]?\n\n{INTERNAL}\n{runtime}")
    assert human_text(message) == "what is [1]?"
    assert human_text(user([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}])) == "see"
    assert is_human(user([{"type": "image_url", "image_url": {"url": "data:"}}]))


def test_a_message_keeps_its_identity_when_the_client_writes_it_in_another_form() -> None:
    """OpenClaw sends the newest message as a string and may send it as parts later."""
    text = "[Sun 2026-11-22 15:46 UTC] hello"
    assert human_identity(user(text)) == human_identity(user([{"type": "text", "text": text}]))
    assert human_identity(user(text)) == human_identity(user(f"{text}\n\n{INTERNAL}"))
    image = {"type": "image_url", "image_url": {"url": "data:1"}}
    assert human_identity(user([{"type": "text", "text": text}, image])) != human_identity(user(text))


def test_a_message_that_openclaw_sends_again_after_an_error_is_the_same_message() -> None:
    """As it came after a 503: with a time of its own, a line before the human's words and a paragraph after them."""
    runtime = "\n\nRuntime: agent=main | session=agent:main:gw1 | sessionId=1-2 | host=h | model=m"
    again = user(
        "[Sun 2026-11-22 15:47 UTC] [Queued user message from a previous active turn; preserved as context only. "
        "Continue with the active prompt below.]\nread it\n\nand tell me\n\nContinue the current task from the "
        "existing transcript, preserving completed work. If an action was interrupted, inspect its state." + runtime
    )
    assert human_text(again) == "read it\n\nand tell me"
    assert human_identity(again) == human_identity(user("[Sun 2026-11-22 15:46 UTC] read it\n\nand tell me" + runtime))


def test_an_open_mark_swallows_nothing() -> None:
    text = "what does <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> mean?"
    assert human_text(user(text)) == text
    assert human_text(user("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>" * 50_000)) != ""


def test_humans_are_found_among_all_roles() -> None:
    assert human_indexes([{"role": "system", "content": "x"}, user("a"), user(INTERNAL), user("b")]) == [1, 3]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_content_breaks_the_reading_of_it(content: Any) -> None:
    message = user(content)
    assert isinstance(text_of(content), str)
    assert is_human(message) in (True, False)
    human_text(message)
    human_identity(message)
    answer_identity(message)


@pytest.mark.parametrize("depth", [990, 5_000, 100_000])
def test_arguments_that_are_nested_without_end_count_as_their_text(depth: int) -> None:
    def calling(arguments: str) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}

    nested = "[" * depth + "]" * depth
    assert answer_identity(calling(nested)) == answer_identity(calling(nested))
    assert answer_identity(calling(nested)) != answer_identity(calling("[]"))
    assert answer_identity(calling('{"a":1,"b":2}')) == answer_identity(calling('{ "b": 2, "a": 1 }'))


def test_a_reminder_in_a_message_is_not_the_humans_word() -> None:
    """Claude Code puts them beside what the user typed, and changes them from request to request."""
    reminder = "<system-reminder>\nToday is Monday.\n</system-reminder>"
    with_it = user([{"type": "text", "text": reminder}, {"type": "text", "text": f"fix the bug\n{reminder}"}])
    assert human_text(with_it) == "fix the bug"
    assert human_identity(with_it) == human_identity(user("fix the bug"))
    assert not is_human(user(reminder))
    assert human_text(user("what is <system-reminder>?")) == "what is <system-reminder>?"


@pytest.mark.parametrize(
    "block",
    [
        "<memory-context>\n[System note: The following is recalled memory context, NOT new user input.]\n\nx\n"
        "</memory-context>",
        "[Runtime Context \u2014 metadata only, not instructions]\nChannel: cli\n[/Runtime Context]",
    ],
    ids=["Hermes", "nanobot"],
)
def test_what_an_agent_adds_to_the_newest_message_changes_no_humans_words(block: str) -> None:
    """Hermes leaves it out again once the message is a part of the history."""
    assert human_text(user(f"fix the bug\n\n{block}")) == "fix the bug"
    assert human_identity(user(f"fix the bug\n\n{block}")) == human_identity(user("fix the bug"))


@pytest.mark.parametrize(
    "text",
    [
        "[CONTEXT COMPACTION \u2014 REFERENCE ONLY] Earlier turns were compacted into the summary below.",
        "[System: Your previous response was truncated by the output length limit. Continue exactly",
        "You just executed tool calls but returned an empty response. Please process the tool results above",
        "[Subagent 'find it' completed]\n\nTask: find it",
        "# AGENTS.md instructions for /repo\n\n<INSTRUCTIONS>\nUse tabs.\n\n</INSTRUCTIONS>",
        "<environment_context>\n  <cwd>/repo</cwd>\n  <shell>bash</shell>\n</environment_context>",
        "<subagent_notification>\n{}\n</subagent_notification>",
        "[Request interrupted by user for tool use]",
        "Continue if you have next steps, or stop and ask for clarification if you are unsure how to proceed.",
        "I spoke to you previously about a number of things.\nI asked you to",
        "I have *added these files to the chat* so you can go ahead and edit them.\n\n*Trust this message",
        "Here are summaries of some files present in my git repository.\nDo not propose changes",
        "I am not sharing any files that you can edit yet.",
        "I committed the changes with git hash 1a2b3c & commit msg: feat: add a test",
    ],
)
def test_what_other_agents_write_in_the_users_name_is_no_humans(text: str) -> None:
    """It was searched for memories of what the user had said (PITFALLS B4-1)."""
    assert not is_human(user(text))


def test_what_aider_repeats_behind_a_message_is_not_the_users_word() -> None:
    rules = "# *SEARCH/REPLACE block* Rules:\n\nEvery *SEARCH/REPLACE block* must use this format:"
    assert human_text(user(f"rename it\n\n{rules}")) == "rename it"
    assert human_text(user(rules)) == rules, "somebody asks about them"


def test_a_picture_is_the_same_wherever_a_client_marks_its_cache() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    marks = {"cache_control": {"type": "ephemeral"}, "prompt_cache_breakpoint": {"mode": "explicit"}}
    marked = {"role": "user", "content": [{**picture, **marks}]}
    assert human_identity(marked) == human_identity({"role": "user", "content": [picture]})


def test_whoever_begins_as_a_program_does_and_says_something_else_is_heard() -> None:
    assert is_human(user("I am not sharing any files until the contract is signed."))
    assert is_human(user("I committed the changes with git hash 1a2b3c, now write the release notes."))
    wrapped = user("<user_instructions>\nBe brief.\n</user_instructions>\n\nWhat is a monad?")
    assert human_text(wrapped) == "What is a monad?"


@pytest.mark.parametrize("prefix", ["", "[Sun 2026-11-22 15:46 UTC] "])
def test_the_task_of_a_subagent_is_not_a_humans(prefix: str) -> None:
    assert not is_human(user(f"{prefix}[Subagent Context] You are one. [Subagent Task] count"))
