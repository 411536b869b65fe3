"""Messages to tokens, and tokens back to what they are: the model family's own chat template, nothing else.

Owns rendering and the kinds of answer tokens; refuses to know sampling and HTTP. Invariant: the same messages,
tools and ``digest`` give the same tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError

from metaclaw.errors import InvalidRequestError
from metaclaw.rendering.detokenizer import Detokenizer
from metaclaw.rendering.messages import template_messages
from metaclaw.rendering.tokenizer import Tokenizer, digest_of, load_tokenizer

Span = tuple[Literal["text", "end"], int, int]  # kind and the half-open range of tokens


class Renderer:
    """One tokenizer with its chat template."""

    def __init__(self, tokenizer: Tokenizer, digest: str) -> None:
        self.tokenizer = tokenizer
        self.digest = digest

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """The prompt that asks for the next assistant message. Raises ``InvalidRequestError``.

        Templates run in the jinja2 sandbox of transformers. Special tokens written out in a message become the
        special tokens, as in every implementation of these templates.
        """
        if not self.tokenizer.chat_template:
            raise InvalidRequestError("this model has no chat template; send token ids to the Tinker API instead")
        try:
            text = self.tokenizer.apply_chat_template(
                template_messages(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False
            )
        except (TemplateError, TypeError) as error:  # TypeError: a template that adds None to text
            raise InvalidRequestError(f"the model's chat template refuses these messages: {error}") from error
        return self.tokenizer.encode(text, add_special_tokens=False)

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
