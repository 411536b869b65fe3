"""All programs, by name."""

from __future__ import annotations

from metaclaw.agents.program import AgentProgram
from metaclaw.agents.programs.aider import Aider
from metaclaw.agents.programs.claude_code import ClaudeCode
from metaclaw.agents.programs.codex import Codex
from metaclaw.agents.programs.hermes import Hermes
from metaclaw.agents.programs.ironclaw import IronClaw
from metaclaw.agents.programs.nanobot import Nanobot
from metaclaw.agents.programs.nanoclaw import NanoClaw
from metaclaw.agents.programs.nemoclaw import NemoClaw
from metaclaw.agents.programs.none import NoProgram
from metaclaw.agents.programs.openclaw import OpenClaw
from metaclaw.agents.programs.opencode import OpenCode
from metaclaw.agents.programs.picoclaw import PicoClaw
from metaclaw.agents.programs.qwenpaw import QwenPaw
from metaclaw.agents.programs.zeroclaw import ZeroClaw
from metaclaw.config import Settings
from metaclaw.errors import ConfigError, WiringError

_ALL: tuple[AgentProgram, ...] = (
    OpenClaw(), ClaudeCode(), OpenCode(), Codex(), Hermes(), Nanobot(), QwenPaw(), IronClaw(), PicoClaw(), ZeroClaw(),
    NanoClaw(), NemoClaw(), Aider(), NoProgram(),
)  # fmt: skip
PROGRAMS: dict[str, AgentProgram] = {program.name: program for program in _ALL}
_ALSO_CALLED = {"copaw": "qwenpaw", "claude": "claude-code", "claude_code": "claude-code", "hermes-agent": "hermes"}


def find_program(name: str) -> AgentProgram:
    """The program called ``name``. Raises ``WiringError`` that names all of them."""
    wanted = name.strip().lower()
    program = PROGRAMS.get(_ALSO_CALLED.get(wanted, wanted))
    if program is None:
        raise WiringError(f"no agent program is called {name[:80]!r}; there are {', '.join(PROGRAMS)}")
    return program


def chosen_program(name: str | None, settings: Settings) -> AgentProgram:
    """The program called ``name``, else the one that the user said to use. Raises ``MetaClawError``."""
    wanted = name or settings.agent_program
    if not wanted:
        raise ConfigError("which program? `metaclaw programs` lists them; or set agent_program")
    return find_program(wanted)
