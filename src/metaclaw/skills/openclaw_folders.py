"""Where OpenClaw looks for skills.

Owns finding that out from its environment and its settings; refuses to write there. Invariant: a folder is named only
when OpenClaw would read it; where that cannot be known, the error says how to name it by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from metaclaw.errors import SkillError
from metaclaw.identity import DEFAULT_AGENT


def openclaw_skills(agent: str | None, *, env: Mapping[str, str], home: Path) -> Path:
    """The folder of skills of one of OpenClaw's agents, or of all of them. Raises ``SkillError``."""
    state = Path(env.get("OPENCLAW_STATE_DIR") or home / ".openclaw").expanduser()
    if not state.is_dir():
        raise SkillError(f"OpenClaw has no folder {state} here; set OPENCLAW_STATE_DIR, or name the place with --to")
    if agent is None:
        return state / "skills"
    config = Path(env.get("OPENCLAW_CONFIG_PATH") or state / "openclaw.json").expanduser()
    workspace = _workspace(agent, state, _agents(config), config, home)
    if not workspace.is_dir():
        raise SkillError(f"the workspace of OpenClaw's agent {agent!r}, {workspace}, is not there; use --to")
    return workspace / "skills"


def _workspace(agent: str, state: Path, agents: Mapping[str, Any], config: Path, home: Path) -> Path:
    entries = _mapping(agents, "entries")
    if agent not in entries and agent != DEFAULT_AGENT:
        raise SkillError(f"{config} names no agent {agent!r} under agents.entries; use --to")
    named: object = _mapping(entries, agent).get("workspace")
    if named is None and agent == DEFAULT_AGENT:
        named = _mapping(agents, "defaults").get("workspace")
    if isinstance(named, str) and named:
        return home / named.removeprefix("~/") if named.startswith("~/") else Path(named)
    return state / ("workspace" if agent == DEFAULT_AGENT else f"workspace-{agent}")


def _agents(config: Path) -> Mapping[str, Any]:
    try:
        settings: Any = json.loads(config.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SkillError(f"{config} cannot be read as JSON ({error}); name the place with --to") from error
    return _mapping(settings, "agents")


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    found: object = cast(dict[str, Any], value).get(key) if isinstance(value, dict) else None
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}
