"""Tokens to text while they arrive.

Owns what may already be shown; refuses to know stop strings and streams. Invariant: the pieces joined are
the text of all tokens decoded at once, no piece ends inside a character, and special tokens never appear.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.rendering.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"


class Detokenizer:
    """The text of one answer, piece by piece."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # tokens of the last piece: some tokenizers decode a token by what precedes it
        self._held: list[int] = []  # tokens that may be the beginning of a character

    def push(self, tokens: Sequence[int]) -> str:
        """Take the next tokens; return the text that is certain by now."""
        pieces: list[str] = []
        for token in tokens:
            self._held.append(token)
            text = self._text_of_held()
            if text and not text.endswith(_REPLACEMENT):
                pieces.append(text)
                self._context, self._held = self._held, []
        return "".join(pieces)

    def finish(self) -> str:
        """The rest: what never became a whole character is shown as U+FFFD."""
        text = self._text_of_held()
        self._context, self._held = [], []
        return text

    def restart(self, token: int) -> str:
        """``token`` comes, and its text is somebody else's to show; return the rest of what came before it."""
        text = self.finish()
        self._context = [token]
        return text

    def _text_of_held(self) -> str:
        before = self._decode(self._context)
        return self._decode(self._context + self._held)[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True) if tokens else ""
