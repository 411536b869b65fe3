"""What was said in a session before its day began.

Owns reading OpenClaw's transcripts; refuses to know what follows. Invariant: entries that are no messages of the user
or the agent are passed over, a line that cannot be read is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from metaclaw.errors import ConfigError

Json = dict[str, Any]


class _Part(BaseModel):
    type: str = ""
    text: str = ""


class _Message(BaseModel):
    role: str = ""
    content: str | list[_Part] | None = None

    @property
    def words(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _Entry(BaseModel):
    type: str = ""
    message: _Message | None = None


def said_before(state: Path, *, agent: str, session: str) -> tuple[Json, ...]:
    """The messages in the transcript of ``session``, none where there is no transcript. Raises ``ConfigError``."""
    path = state / "agents" / agent / "sessions" / f"{session}.jsonl"
    if not session or not path.is_file():
        return ()
    said = list[Json]()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = _Entry.model_validate_json(line)
        except ValidationError as error:
            raise ConfigError(f"{path}: line {number}: {error.errors()[0]['msg']}") from error
        if entry.type == "message" and entry.message and entry.message.role in ("user", "assistant"):
            said.append({"role": entry.message.role, "content": entry.message.words})
    return tuple(said)
