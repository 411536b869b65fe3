"""What ``metaclaw status`` says of the models behind a running gateway.

Owns the wording; refuses to know how a key fares, which the gateway says. Invariant: a key that is well makes no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaclaw.config import Settings


def upstreams_of(settings: Settings, url: str) -> list[dict[str, Any]]:
    """Every key of the gateway at ``url``; none where it cannot be asked."""
    from metaclaw.config_keyring import resolve_secrets
    from metaclaw.errors import MetaClawError
    from metaclaw.processes.instance import read_upstreams

    try:
        token = resolve_secrets(settings).proxy.api_key.get_secret_value()
    except MetaClawError:  # a keyring that is locked: what else there is to say is said
        return []
    return read_upstreams(url, token)


def upstream_lines(upstreams: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each key that is left alone or on probation."""
    return [_line(state) for state in upstreams if state.get("state") != "ready"]


def _line(state: dict[str, Any]) -> str:
    failures = ", ".join(f"{kind} {number}" for kind, number in sorted(state["failures"].items()))
    left_s = float(state["cooldown_left_s"])
    for_how_long = f"is left alone for {_duration(left_s)}" if left_s > 0 else "is tried again with the next turn"
    return f"UPSTREAM {state['credential']} ({state['upstream']}): {for_how_long}; failures since the start: {failures}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
