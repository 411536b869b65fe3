"""Conversations of real agent programs with a gateway before a model, and what each side saw of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.config_file import read_settings
from metaclaw.journal.turns import RecordedTurn, TurnReader
from tests.agents.programs import Gateway, Program, Said
from tests.cli.programs import metaclaw, started, status
from tests.fakes.agent_model import MODEL, Fault, Seen, agent_model

Json = dict[str, Any]
FIRST = "What are the facts in facts.txt? Read it with your tool."
SECOND = "And what is the colour of the kettle among the facts?"
FACT = "The first fact: the kettle is blue."
SKILL = "read-the-facts"
RECALLED = "Quote every fact word for word."
_OPENCLAWS_OWN = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Two turns with a program: what it answered, what the model was sent, what the journal has."""

    said: list[Said]
    seen: list[Seen]
    turns: list[RecordedTurn]

    @property
    def of_the_agent(self) -> list[Json]:
        """The requests of the agent's own loop, which has tools; not those for a title and the like."""
        return [body for seen in self.seen if (body := seen.body).get("tools")]

    @property
    def main(self) -> list[RecordedTurn]:
        return [turn for turn in self.turns if turn.kind == "main"]


def converse(
    root: Path,
    program: Callable[[Path, Gateway], Program],
    speaks: str,
    *,
    faults: Sequence[Fault] = (),
    otherwise: str = "",
) -> Conversation:
    """Two turns through ``metaclaw start``, before a model that speaks ``speaks`` and first fails as told.

    The gateway asks the model once, so that the program has every failure to deal with.
    """
    home, place = root / "home", root / "program"
    with agent_model(place / "work" / "facts.txt") as model:
        done = metaclaw(
            home, "setup", "--yes", "--api-base", f"{model.url}/v1", "--api-key", "sk-x", "--model-id", MODEL,
            "--port", "0",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for name, value in (("llm.dialects", speaks), ("llm.max_attempts", "1"), ("skills.starter", "false")):
            assert metaclaw(home, "config", name, value).returncode == 0
        write_skill(home)
        with started(home):
            token = read_settings(home, {})[0].proxy.api_key.get_secret_value()
            gateway = Gateway(url=status(home)["url"], token=token, home=home)
            talking = program(place, gateway)
            model.facts.write_text(f"{FACT}\n")
            model.faults.extend(faults)
            model.otherwise = otherwise or model.otherwise
            said = [talking.say(FIRST), talking.say(SECOND)]
            talking.disconnect(gateway)
        seen = list(model.seen)
    with TurnReader.open(home / "turns.db") as reader:
        return Conversation(said=said, seen=seen, turns=reader.turns())


def without_what_moves(body: Json, leaves_out: Collection[str] = ()) -> tuple[str, list[str]]:
    """The instructions and tools of a request, and its conversation, piece by piece, each as JSON.

    Left out: marks for the provider's cache, which move to the newest message, whether a text stands alone or in a
    list, and the state that OpenClaw moves to the end of every request.
    """
    head = {key: body.get(key) for key in ("instructions", "tools")}
    head["system"] = [_unmarked(part) for part in _shown(body.get("system"))]
    pieces: list[Json] = []
    for message in body.get("messages") or body["input"]:
        shown = _shown(message.get("content"))
        rest = {key: value for key, value in message.items() if key != "content" and key not in leaves_out}
        pieces += [{**rest, "content": _unmarked(part)} for part in shown]
    return json.dumps(head), [piece for piece in map(json.dumps, pieces) if _OPENCLAWS_OWN not in piece]


def _shown(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or [None]


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items() if key != "cache_control"}
    return value


def write_skill(home: Path) -> None:
    """A skill of the user's own that fits what is asked here."""
    folder = home / "skills" / SKILL
    folder.mkdir(parents=True)
    text = (
        f"---\nname: {SKILL}\ndescription: Use when the user asks about the facts in a facts file.\n---\n{RECALLED}\n"
    )
    (folder / "SKILL.md").write_text(text)
