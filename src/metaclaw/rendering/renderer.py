"""Messages to tokens, and tokens back to what they are: the model family's own chat template, nothing else.

Owns rendering and the kinds of answer tokens; refuses to know sampling and HTTP. Invariant: the same messages,
tools and ``digest`` give the same tokens, and no text of a message ever becomes a special token: those are the
template's alone, or any web page could write a system turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError

from metaclaw.errors import ContextLengthError, InvalidRequestError
from metaclaw.rendering.detokenizer import Detokenizer
from metaclaw.rendering.messages import template_messages
from metaclaw.rendering.special_text import SpecialTextGuard
from metaclaw.rendering.tokenizer import Tokenizer, digest_of, load_tokenizer

Span = tuple[Literal["text", "end"], int, int]  # kind and the half-open range of tokens


class Renderer:
    """One tokenizer with its chat template."""

    def __init__(self, tokenizer: Tokenizer, digest: str) -> None:
        self.tokenizer = tokenizer
        self.digest = digest
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
        """The prompt that asks for the next assistant message. Raises ``InvalidRequestError``.

        Text that ``max_tokens`` tokens could never hold is a ``ContextLengthError`` before it is tokenised.
        Templates run in the jinja2 sandbox of transformers. Special tokens written out in a message stay text.
        """
        if not self.tokenizer.chat_template:
            raise InvalidRequestError("this model has no chat template; send token ids to the Tinker API instead")
        guarded, cut = self._guard.guard({"messages": template_messages(messages), "tools": list(tools)})
        try:
            text = self.tokenizer.apply_chat_template(
                guarded["messages"], tools=guarded["tools"] or None, add_generation_prompt=True, tokenize=False
            )
        except (TemplateError, TypeError) as error:  # TypeError: a template that adds None to text
            raise InvalidRequestError(f"the model's chat template refuses these messages: {error}") from error
        if max_tokens is not None and len(text) > max_tokens * self.longest_token:
            raise ContextLengthError(
                f"the prompt has {len(text)} characters; this model reads at most {max_tokens} tokens, the answer "
                "included",
                param="messages",
            )
        pieces = text.split(cut) if cut else [text]
        return [token for piece in pieces for token in self.tokenizer.encode(piece, add_special_tokens=False)]

    def spans(self, tokens: Sequence[int], end_tokens: Collection[int]) -> list[Span]:
        """``tokens`` of an answer cut into text and the token that ended it. Thinking and calls are text for now."""
        num_text = len(tokens) - 1 if tokens and tokens[-1] in end_tokens else len(tokens)
        spans: list[Span] = [("text", 0, num_text)] if num_text else []
        return spans if num_text == len(tokens) else [*spans, ("end", num_text, len(tokens))]

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


def load_renderer(directory: Path) -> Renderer:
    """The renderer of the model in ``directory``."""
    return Renderer(load_tokenizer(directory), digest_of(directory))


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte-level alphabet, backwards: printable bytes stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
