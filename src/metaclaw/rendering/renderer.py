"""Messages to tokens, and tokens back to what they are: the model family's own chat template, nothing else.

Owns rendering and the kinds of answer tokens; refuses to know sampling and HTTP. Invariant: the same messages,
tools and ``digest`` give the same tokens, and no text of a message ever becomes a special token: those are the
template's alone, or any web page could write a system turn.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import ContextLengthError, InvalidRequestError
from metaclaw.rendering.answer_format import answer_format
from metaclaw.rendering.answer_reader import AnswerReader, tools_by_name
from metaclaw.rendering.detokenizer import Detokenizer
from metaclaw.rendering.messages import template_messages
from metaclaw.rendering.recorded import RecordedAnswer, RecordedAnswers, with_tokens
from metaclaw.rendering.special_text import SpecialTextGuard, unused_characters
from metaclaw.rendering.splicing import Piece, cut_at_sentinels, place_sentinels
from metaclaw.rendering.tokenizer import Tokenizer, digest_of, load_tokenizer

Options = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is given, and how it came about."""

    tokens: list[int]
    starts_thinking: bool = False  # the template has opened the thinking for the model
    num_spliced: int = 0
    num_splice_misses: int = 0


class Renderer:
    """One tokenizer with its chat template."""

    def __init__(self, tokenizer: Tokenizer, digest: str) -> None:
        self.tokenizer = tokenizer
        self.digest = digest
        self.answer_format = answer_format(tokenizer)
        self._recorded = RecordedAnswers(tokenizer, self.answer_format, digest)
        self._guard = SpecialTextGuard(
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special
        )

    @cached_property
    def longest_token(self) -> int:
        """The most characters that one token can stand for (a byte-level symbol is never longer than its bytes)."""
        return max(map(len, self.tokenizer.get_vocab()))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        max_tokens: int | None = None,
    ) -> list[int]:
        """The tokens of ``prompt``."""
        return self.prompt(messages, tools, max_tokens=max_tokens).tokens

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        options: Options | None = None,
        max_tokens: int | None = None,
    ) -> Prompt:
        """The prompt that asks for the next assistant message. Raises ``InvalidRequestError``.

        Recorded tokens of past answers (``token_ids``) go in as they are where they say what their message says.
        ``options`` go to the template. Text that ``max_tokens`` tokens could never hold is a ``ContextLengthError``
        before it is tokenised. Templates run in the jinja2 sandbox of transformers. Special tokens written out in a
        message stay text.
        """
        if not self.tokenizer.chat_template:
            raise InvalidRequestError("this model has no chat template; send token ids to the Tinker API instead")
        conversation = _Conversation(
            messages=template_messages(messages), tools=list(tools), options=self._checked(options or {})
        )
        offered = with_tokens(messages)
        pieces = self._spliced(conversation, self._standing_for(messages, conversation, offered), max_tokens)
        num_spliced = sum(isinstance(piece, tuple) for piece in pieces)
        return Prompt(
            tokens=[token for piece in pieces for token in self._encoded(piece)],
            starts_thinking=self._starts_thinking(pieces),
            num_spliced=num_spliced,
            num_splice_misses=len(offered) - num_spliced,
        )

    def num_tokens(self, text: str) -> int:
        """How many tokens ``text`` takes inside a message."""
        guarded, cut = self._guard.guard(text)
        pieces: list[str] = guarded.split(cut) if cut else [guarded]
        return sum(len(self.tokenizer.encode(piece, add_special_tokens=False)) for piece in pieces)

    def reader(
        self,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        end_tokens: Collection[int] = (),
        stops: Sequence[str] = (),
        starts_thinking: bool = False,
        max_calls: int | None = None,
    ) -> AnswerReader:
        """A fresh reader for one answer to a prompt with ``tools``."""
        return AnswerReader(
            self.tokenizer, self.answer_format, tools=tools_by_name(tools), end_tokens=end_tokens, stops=stops,
            starts_thinking=starts_thinking, max_calls=max_calls,
        )  # fmt: skip

    def detokenizer(self) -> Detokenizer:
        """A fresh incremental detokeniser for one answer."""
        return Detokenizer(self.tokenizer)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that ``token`` stands for, also when they are a part of a character."""
        symbol = self.tokenizer.convert_ids_to_tokens(token) or ""
        text = self.tokenizer.decode([token])
        if "\ufffd" in text and all(character in _BYTE_OF for character in symbol):
            return bytes(_BYTE_OF[character] for character in symbol)
        return text.encode()

    def _checked(self, options: Options) -> Options:
        for name in options:
            if name in self._reserved or name.endswith("_token"):
                raise InvalidRequestError(
                    f"chat_template_kwargs may not set {name!r}: that is the server's", param="chat_template_kwargs"
                )
        return options

    @cached_property
    def _reserved(self) -> frozenset[str]:
        # A client's own template would be its program on our machine, its own messages would pass every check by.
        return frozenset({"messages", *inspect.signature(self.tokenizer.apply_chat_template).parameters})

    @cached_property
    def _encodes_pieces(self) -> bool:
        """Whether text encoded in pieces is the text: old sentencepiece models put a space before every piece."""
        first = self.tokenizer.encode("x", add_special_tokens=False)[:1]
        return not any((self.tokenizer.convert_ids_to_tokens(token) or "").startswith("\u2581") for token in first)

    def _standing_for(
        self, messages: Sequence[Mapping[str, Any]], conversation: _Conversation, offered: Sequence[int]
    ) -> dict[int, RecordedAnswer]:
        if not self._encodes_pieces:
            return {}
        tools = tools_by_name(conversation.tools)
        found = {index: self._recorded.standing_for(messages[index], conversation.messages[index], tools)
                 for index in offered}  # fmt: skip
        return {index: answer for index, answer in found.items() if answer is not None}

    def _spliced(
        self, conversation: _Conversation, recorded: Mapping[int, RecordedAnswer], max_tokens: int | None
    ) -> list[Piece]:
        """The prompt's pieces with as many recorded answers in it as the template leaves a clear place for."""
        while recorded:
            try:
                pieces, unclear = self._pieces(conversation, recorded, max_tokens)
            except ContextLengthError:
                raise
            except InvalidRequestError:
                break  # a template that wants to see the calls themselves
            if not unclear:
                return pieces
            recorded = {index: answer for index, answer in recorded.items() if index not in unclear}
        return self._pieces(conversation, {}, max_tokens)[0]

    def _pieces(
        self, conversation: _Conversation, recorded: Mapping[int, RecordedAnswer], max_tokens: int | None
    ) -> tuple[list[Piece], set[int]]:
        messages, sentinels = place_sentinels(
            conversation.messages, recorded, unused_characters([conversation.messages, conversation.tools])
        )
        guarded, cut = self._guard.guard(
            {"messages": messages, "tools": conversation.tools, "options": dict(conversation.options)}
        )
        text = self._templated(guarded)
        if max_tokens is not None and len(text) > max_tokens * self.longest_token:
            raise ContextLengthError(
                f"the prompt has {len(text)} characters; this model reads at most {max_tokens} tokens, the answer "
                "included",
                param="messages",
            )
        pieces, unclear = cut_at_sentinels(text, recorded, sentinels, self.answer_format.think)
        if cut:
            pieces = [part for piece in pieces for part in (piece.split(cut) if isinstance(piece, str) else [piece])]
        return pieces, unclear

    def _templated(self, guarded: JsonObject) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                guarded["messages"], tools=guarded["tools"] or None, add_generation_prompt=True, tokenize=False,
                **guarded["options"],
            )  # fmt: skip
        except (TemplateError, TypeError) as error:  # TypeError: a template that adds None to text
            raise InvalidRequestError(f"the model's chat template refuses these messages: {error}") from error

    def _encoded(self, piece: Piece) -> Sequence[int]:
        return piece if isinstance(piece, tuple) else self.tokenizer.encode(piece, add_special_tokens=False)

    def _starts_thinking(self, pieces: Sequence[Piece]) -> bool:
        think, last = self.answer_format.think, pieces[-1]
        return think is not None and isinstance(last, str) and last.rstrip().endswith(think.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversation:
    """What the template is given."""

    messages: list[JsonObject]
    tools: list[Any]
    options: Options


def load_renderer(directory: Path) -> Renderer:
    """The renderer of the model in ``directory``."""
    return Renderer(load_tokenizer(directory), digest_of(directory))


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte-level alphabet, backwards: printable bytes stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
