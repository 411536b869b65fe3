"""Services of programs that read their settings once, when they start.

Owns how that is said; refuses to restart what is not ours.
"""

from __future__ import annotations


def restart(command: str, when: str = "if it runs") -> tuple[str, ...]:
    """What is left for the user to do."""
    return (f"it reads its settings when it starts: `{command}` {when}",)
