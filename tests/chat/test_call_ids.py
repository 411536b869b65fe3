"""Ids of tool calls that other models gave, before Claude."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.anthropic.call_ids import with_ids_for_claude
from metaclaw.chat.anthropic.dialect import DIALECT
from tests.chat.anthropic_material import Json, assistant, call, request, result, use, user

IDS = st.sampled_from(["", "a", "b", "a.0", "a:0", "a_0", "a_0_2", "é", "toolu_1"])


def rounds_of(body: Json) -> list[tuple[list[str], list[str]]]:
    """The ids of each answer's calls and of the results that follow, both in order."""
    ids = [
        [block["id"] if block["type"] == "tool_use" else block["tool_use_id"] for block in message["content"]]
        for message in body["messages"]
    ]
    return list(zip(ids[::2], ids[1::2], strict=True))


@given(st.lists(st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_whoever_called_claude_takes_the_ids_and_each_result_stays_with_its_call(rounds: list[list[str]]) -> None:
    body = request(
        *(
            message
            for uids in rounds
            for message in (assistant([*map(use, uids)]), user([result(uid, "done") for uid in uids]))
        )
    )
    given = rounds_of(with_ids_for_claude(body))
    made = [uid for calls, _ in given for uid in calls]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", uid) for uid in made)
    assert all(calls == results for calls, results in given)
    again = request(*body["messages"], assistant([use("new")]), user([result("new", "done")]))
    assert rounds_of(with_ids_for_claude(again))[: len(given)] == given  # so that its prompt cache holds


def test_ids_that_claude_takes_are_not_touched() -> None:
    body = request(user("look"), assistant([use("toolu_1"), use("toolu_2")]), user([result("toolu_2", "x")]))
    assert with_ids_for_claude(body) is body


def test_results_that_come_in_another_order_find_their_calls() -> None:
    body = request(assistant([use("f.a:0"), use("f.b:1")]), user([result("f.b:1", "b"), result("f.a:0", "a")]))
    told = with_ids_for_claude(body)["messages"][1]["content"]
    assert [(block["tool_use_id"], block["content"]) for block in told] == [("f_b_1", "b"), ("f_a_0", "a")]


def test_a_chat_whose_calls_are_counted_anew_in_each_answer_reaches_claude() -> None:
    """OpenRouter's Kimi, say, before Claude takes over."""
    steps = [
        message
        for said in ("one", "two")
        for message in (
            {"role": "assistant", "content": None, "tool_calls": [call("functions.ls:0")]},
            {"role": "tool", "tool_call_id": "functions.ls:0", "content": said},
        )
    ]
    told = DIALECT.from_chat({"model": "m", "messages": [user("look"), *steps]})["messages"]
    assert [message["content"][0]["id"] for message in told[1::2]] == ["functions_ls_0", "functions_ls_0_2"]
    answered = [(block["tool_use_id"], block["content"]) for message in told[2::2] for block in message["content"]]
    assert answered == [("functions_ls_0", "one"), ("functions_ls_0_2", "two")]
