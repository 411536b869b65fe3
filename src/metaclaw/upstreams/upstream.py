"""Where a model is and how it is asked.

Owns the facts that a user or a preset gives about one upstream, the paths of the dialects and its request headers;
refuses to know connections. Invariant: of a client's own headers only those of ``PASSED_ON`` reach a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject

# native: as the makers of a dialect want it, which those who speak it after them understand too.
Auth = Literal["native", "bearer", "x-api-key"]

# Below a base URL that ends in /v1.
PATHS: Mapping[str, str] = {
    "openai.chat": "/chat/completions",
    "openai.responses": "/responses",
    "openai.completions": "/completions",
    "openai.embeddings": "/embeddings",
    "anthropic.messages": "/messages",
    "anthropic.count_tokens": "/messages/count_tokens",
}

PASSED_ON = ("anthropic-version", "anthropic-beta", "openai-beta")
_PASSED_ON = frozenset(PASSED_ON)

Headers = tuple[tuple[str, str], ...]

_ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """``first_byte_s`` runs from sending the request, the retry included, to the first byte of the body; ``gap_s``
    between two chunks. A model sends the first byte of a plain answer when it has all of it: ``plain_s``, if longer."""

    connect_s: float = 10.0
    first_byte_s: float = 120.0
    gap_s: float = 120.0
    plain_s: float = 0.0

    def begins_s(self, *, is_stream: bool) -> float:
        """How long an answer may take to begin."""
        return self.first_byte_s if is_stream else max(self.first_byte_s, self.plain_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a model is. ``key_setting`` names the setting that a user mends when the key is refused."""

    name: str
    base_url: str  # ends in /v1
    api_key: SecretStr
    key_setting: str
    timeouts: Timeouts
    dialects: tuple[str, ...] = ("openai.chat",)
    auth: Auth = "native"
    model_id: str = ""
    is_strict: bool = False  # refuses chat requests with anything that OpenAI's own chat API does not know
    bases: Mapping[str, str] = field(default_factory=dict[str, str])  # of dialects that are spoken elsewhere
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    extra_body: JsonObject = field(default_factory=dict[str, object])  # keys that a client's own win over

    def url(self, dialect: str) -> str:
        """Where to post a request of ``dialect``."""
        return self.bases.get(dialect, self.base_url) + PATHS[dialect]

    def request_headers(self, dialect: str | None, passed: Headers = ()) -> Headers:
        """What is sent with a request; ``dialect`` is ``None`` for the list of models, which each maker has.

        ``passed`` is what ``passed_on`` found.
        """
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **self.headers}
        is_anthropic = (dialect or self.dialects[0]).startswith("anthropic.")
        if is_anthropic:
            headers["anthropic-version"] = _ANTHROPIC_VERSION
        headers.update(passed)
        if key := self.api_key.get_secret_value():
            by_header = is_anthropic if self.auth == "native" else self.auth == "x-api-key"
            headers |= {"x-api-key": key} if by_header else {"Authorization": f"Bearer {key}"}
        return tuple(headers.items())


def passed_on(client: Mapping[str, str]) -> Headers:
    """What of a client's own headers is for a model. ``client`` has lower-case names."""
    if _PASSED_ON.isdisjoint(client):
        return ()
    return tuple((name, client[name]) for name in PASSED_ON if name in client)
