"""What a request's history says about the conversation that it belongs to.

Owns the hashes by which a later request is found to continue an earlier one; refuses to know sessions. Invariant: only
what people, models and tools said counts: not the system prompt, not what a client writes in the user's name, not ids
of tool calls and not white space; and nothing of one scope is ever equal to anything of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from metaclaw.chat.humans import identity_if_human, is_scripted
from metaclaw.chat.messages import answer_identity, canonical_json, text_of
from metaclaw.fixed import fixed

_SIZE = 16
_WINDOW = 3
_SHORT = 2048  # characters of a message that is remembered


@fixed
class History:
    """A history in hashes.

    ``request`` is all of it, ``window`` the end of what it says without tool calls and results. ``before`` and
    ``window_before`` are the same of what precedes the last answer, and ``answer`` is the identity of that: ``None``
    when there is no answer yet. ``evidence`` counts the characters in the last window and the last answer. ``said`` is
    the text of an answer that calls nothing. ``begun`` is what the client wrote in the model's name for it to go on
    from, which is then no part of the rest.
    """

    request: bytes
    window: bytes
    context: bytes
    before: bytes | None = None
    window_before: bytes | None = None
    answer: bytes | None = None
    answer_index: int = -1
    evidence: int = 0
    said: str = ""
    begun: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    identity: bytes
    is_answer: bool
    length: int


def read_history(scope: bytes, messages: Sequence[Mapping[str, Any]], *, is_begun: bool = False) -> History:
    """The history that ``messages`` are. ``scope`` is whose it is.

    ``is_begun``: an answer at the end is the beginning of the one to come.
    """
    begun: Sequence[Mapping[str, Any]] = _beginning(messages) if is_begun else ()
    messages = messages[: len(messages) - len(begun)]
    last = next((index for index in range(len(messages) - 1, -1, -1) if _is_answer(messages, index)), -1)
    node, spine = _hash(scope), list[_Said]()
    context = hashlib.blake2b(digest_size=_SIZE)
    before: bytes | None = None
    window_before: bytes | None = None
    evidence = 0
    for index, message in enumerate(messages):
        if message["role"] in ("system", "developer"):
            context.update(text_of(message.get("content")).encode("utf-8", "surrogatepass"))
            continue
        said = None if is_scripted(messages, index) else _said(message)
        if said is None:
            continue
        if index == last:
            before, window_before = node, _window(scope, spine)
            evidence = said.length + sum(part.length for part in _end(spine))
        node = _hash(node + said.identity)
        if message["role"] in ("assistant", "user"):
            if said.is_answer and spine and spine[-1].is_answer:
                spine.pop()  # of a tool loop only the last answer stays, for clients that forget the others
            spine.append(said)
    return History(
        request=node,
        window=_window(scope, spine),
        context=context.digest(),
        before=before,
        window_before=window_before,
        answer=answer_identity(messages[last]) if last >= 0 else None,
        answer_index=last,
        evidence=evidence,
        said=text_of(messages[last].get("content")).strip()
        if last >= 0 and not messages[last].get("tool_calls")
        else "",
        begun="".join(text_of(message.get("content")) for message in begun),
    )


def _beginning(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    size = 0
    for message in reversed(messages):
        if message["role"] != "assistant" or message.get("tool_calls"):
            break
        size += 1
    return messages[len(messages) - size :]


def _is_answer(messages: Sequence[Mapping[str, Any]], index: int) -> bool:
    return messages[index]["role"] == "assistant" and not is_scripted(messages, index)


def _said(message: Mapping[str, Any]) -> _Said | None:
    content = message.get("content")
    if isinstance(content, str) and len(content) <= _SHORT and not message.get("tool_calls"):
        return _said_shortly(message["role"], content)
    return _read(message)


@lru_cache(maxsize=2048)
def _said_shortly(role: str, content: str) -> _Said | None:
    # A client sends its whole history with each request: all but the last of it was read a moment ago.
    return _read({"role": role, "content": content})


def _read(message: Mapping[str, Any]) -> _Said | None:
    role, content = message["role"], message.get("content")
    if role == "assistant":
        return _Said(answer_identity(message), True, len(text_of(content)))
    if role == "user":
        identity = identity_if_human(message)
        return None if identity is None else _Said(identity, False, len(text_of(content)))
    return _Said(_hash(b"tool" + _result(content)), False, 0)


def _result(content: object) -> bytes:
    text = text_of(content).strip()
    return (text or canonical_json(content)).encode("utf-8", "surrogatepass")


def _end(spine: Sequence[_Said]) -> Sequence[_Said]:
    asked = spine[:-1] if spine and spine[-1].is_answer else spine
    return asked[-_WINDOW:]


def _window(scope: bytes, spine: Sequence[_Said]) -> bytes:
    return _hash(b"window" + scope + b"".join(said.identity for said in _end(spine)))


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SIZE).digest()
