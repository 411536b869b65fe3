"""What a model family writes into its answers besides text: its tags for thinking and for tool calls.

Owns the choice of the format, by what the chat template and the vocabulary show; refuses to know answers. Invariant:
where the vocabulary has a token for a tag, only that token is the tag, and the same letters in a text are a quotation.

In the text of an answer such a token is a *mark*: one lone surrogate. Decoded text cannot hold one, so a mark is
told from any quotation, and what reads the text needs to know nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from metaclaw.chat.thinking import CLOSES, OPENS
from metaclaw.rendering.calls import CallFormat, JsonCalls, WholeAnswerCalls, XmlCalls
from metaclaw.rendering.tokenizer import Tokenizer

_FIRST_MARK = 0xD800


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkTags:
    """How thinking is opened and closed in an answer's text with marks; ``text`` is the tag that opens, in letters."""

    opens: str
    closes: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """The tags of one model family; ``None`` where it has none."""

    think: ThinkTags | None = None
    calls: CallFormat | None = None
    marks: Mapping[int, str] = field(default_factory=dict[int, str])  # token -> mark
    letters: Mapping[str, str] = field(default_factory=dict[str, str])  # mark -> what the tag looks like

    @property
    def calls_are_marked(self) -> bool:
        return self.calls is not None and self.calls.opens in self.letters

    @property
    def closing_call_token(self) -> int | None:
        """The token that ends a call, where there is one."""
        closes = self.calls.closes if self.calls is not None else None
        return next((token for token, mark in self.marks.items() if mark == closes), None)

    def in_letters(self, text: str) -> str:
        """``text`` as a reader sees it: marks that turned out not to be tags are written out."""
        return text.translate({ord(mark): tag for mark, tag in self.letters.items()}) if self.letters else text


def answer_format(tokenizer: Tokenizer) -> AnswerFormat:
    """The format of ``tokenizer``'s family."""
    template = _template_text(tokenizer)
    tokens = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    calls = _call_format(template, tokens)
    thinks = (OPENS in tokens and CLOSES in tokens) or CLOSES in template
    tags = [*([OPENS, CLOSES] if thinks else []), *([calls.opens, calls.closes] if calls else [])]
    marks = {tag: chr(_FIRST_MARK + place) for place, tag in enumerate(tags) if tag in tokens}
    think = ThinkTags(opens=marks.get(OPENS, OPENS), closes=marks.get(CLOSES, CLOSES), text=OPENS) if thinks else None
    return AnswerFormat(
        think=think,
        calls=calls and _with_marks(calls, marks),
        marks={tokens[tag]: mark for tag, mark in marks.items()},
        letters={mark: tag for tag, mark in marks.items()},
    )


def _call_format(template: str, tokens: Mapping[str, int]) -> JsonCalls | XmlCalls | WholeAnswerCalls | None:
    if "tools" not in template:
        return None
    if "<tool_call>" in template:
        return XmlCalls() if "<function=" in template else JsonCalls()
    return WholeAnswerCalls() if "<|python_tag|>" in tokens else None


def _with_marks(calls: JsonCalls | XmlCalls | WholeAnswerCalls, marks: Mapping[str, str]) -> CallFormat:
    return replace(calls, opens=marks.get(calls.opens, calls.opens), closes=marks.get(calls.closes, calls.closes))


def _template_text(tokenizer: Tokenizer) -> str:
    template = tokenizer.chat_template or ""
    return template if isinstance(template, str) else "\n".join(template.values())
