"""What belongs together, as far as a request tells."""

from __future__ import annotations

from typing import Any

from metaclaw.chat.exchanges import ExchangeClaim, claim_exchange

Json = dict[str, Any]


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def claim(*messages: Json, **ids: str) -> ExchangeClaim:
    return claim_exchange("main", "s", messages, **ids)


LOOP = (user("list"), {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "a.txt"})


def test_a_loop_has_the_key_of_its_beginning_and_goes_on_from_an_answer() -> None:
    begins, goes_on = claim(LOOP[0]), claim(*LOOP)
    assert begins.key == goes_on.key
    assert begins.continues is None
    assert goes_on.continues is not None
    assert begins.first_id("turn-0123456789abcdef") == f"{begins.key}456789abcdef"


def test_what_came_before_tells_equal_words_apart_as_do_agents_and_sessions() -> None:
    messages = (user("a"), said("one"), user("go on"))
    others = [
        claim_exchange("main", "s", (user("a"), said("two"), user("go on"))),
        claim_exchange("main", "t", messages),
        claim_exchange("ops", "s", messages),
    ]
    assert len({claim(*messages).key, *(other.key for other in others)}) == 4


def test_all_turns_of_a_run_are_one_exchange_whatever_a_client_writes_in_the_users_name() -> None:
    turns = [claim(user("a"), run="r"), claim(*LOOP, run="r"), claim(user("a"), said(""), user("carry on"), run="r")]
    assert len({turn.first_id(f"turn-{number}") for number, turn in enumerate(turns)}) == 1
    assert claim(user("a"), run="q").key != turns[0].key
    assert claim_exchange("main", "t", [user("a")], run="r").key != turns[0].key


def test_all_turns_of_a_trace_about_one_message_are_one_exchange() -> None:
    """OpenClaw sends a trace id a run; a program under tracing may put a whole conversation into one."""
    first, loop = claim(LOOP[0], trace="t"), claim(*LOOP, trace="t")
    assert first.first_id("turn-1") == loop.first_id("turn-2")
    assert claim(*LOOP, said("done"), user("next"), trace="t").key != first.key
