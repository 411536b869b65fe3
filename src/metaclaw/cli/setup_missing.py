"""``metaclaw setup``: what the model that answers lacks, said before a client hears of it.

Owns the two sentences and when they hold; refuses to ask anybody. Invariant: what may work is not complained of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metaclaw.config import LlmSettings


def missing_in(llm: LlmSettings) -> Iterator[str]:
    """A line for a key and one for a model, where it is known that they are needed."""
    from metaclaw.upstreams.presets import find_preset, has_subscription

    preset = find_preset(llm.provider)
    is_keyless = llm.auth_method == "oauth_token" or preset is None or preset.is_local
    if preset is not None and not is_keyless and not (llm.api_key.get_secret_value() or llm.api_keys):
        or_else = ", or for a subscription `metaclaw config llm.auth_method oauth_token`"
        yield (
            f"NO KEY: {preset.title} answers nobody without one: `metaclaw config llm.api_key -`"
            f"{or_else if has_subscription(llm.provider) else ''}"
        )
    if not llm.model_id and (preset is not None or llm.api_base):
        yield (
            "NO MODEL: a client must name one that is known there; `metaclaw config llm.model_id NAME` puts one behind "
            "the name 'metaclaw'"
        )
