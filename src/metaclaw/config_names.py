"""The steps of a dotted name: ``agents.research.v2.lora.rank`` leads through ``agents`` to the agent ``research.v2``.

Owns how a name is taken apart where it holds a number or an agent's id; refuses to know what any key means. Invariant:
an id is one step, whatever dots it has; joined with dots, the steps are the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel

from metaclaw.config.agents import AgentsSettings

NUMBER = "N"  # in place of a number, in the name of what every entry of a list has
ID = "ID"  # in place of an agent's id

_AGENTS = "agents."
_EVERY_AGENT = f"{_AGENTS}{ID}"
_NUMBER = re.compile(r"(?<=\.)(?:0|[1-9][0-9]{0,2})(?=\.|$)")


def steps_of(name: str) -> tuple[str, ...]:
    """The steps from all settings to the one called ``name``."""
    agent, inner = _agent_and_inner(name)
    if agent is None:
        return tuple(name.split("."))
    return ("agents", agent, *(inner.split(".") if inner else ()))


def template_of(name: str) -> str:
    """``name`` with ``N`` for each number and ``ID`` for an agent's id."""
    agent, inner = _agent_and_inner(name)
    if agent is None:
        return _NUMBER.sub(NUMBER, name)
    if inner:
        return f"{_EVERY_AGENT}.{inner}"
    return name if "." in agent else _EVERY_AGENT  # an id with dots, or a mistake inside an agent: nobody can tell


def is_template(name: str) -> bool:
    """Whether ``name`` stands for many."""
    return f".{NUMBER}." in name or name.startswith(f"{_EVERY_AGENT}.")


def _agent_and_inner(name: str) -> tuple[str | None, str]:
    rest = name.removeprefix(_AGENTS)
    if rest == name or rest in AgentsSettings.model_fields:
        return None, ""
    inner = max((known for known in _inside_an_agent() if rest.endswith(f".{known}")), key=len, default="")
    return rest.removesuffix(f".{inner}") if inner else rest, inner


@cache
def _inside_an_agent() -> frozenset[str]:
    return frozenset(_names(AgentsSettings.entry, ""))


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _names(kind, f"{prefix}{name}.")
