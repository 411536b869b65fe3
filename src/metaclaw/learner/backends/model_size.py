"""How large a base model is, as whoever trains it says.

Owns reading it from the server's capabilities, and from the model's name where a server does not say; refuses to know
what it is used for. Invariant: what cannot be found out is ``None``, and never an error: no update fails for it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import aiohttp

from metaclaw.upstreams.session import new_session

_log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)
_UNITS = {"B": 1e9, "M": 1e6}


async def num_parameters(url: str, api_key: str, base_model: str) -> int | None:
    """The number of parameters of ``base_model`` at ``url``; ``None`` where nothing tells it."""
    return await _stated(url, api_key, base_model) or named(base_model)


def named(base_model: str) -> int | None:
    """What the last part of a name says: ``Qwen/Qwen3-30B-A3B`` has 30 billion, of which 3 are active."""
    found = _IN_NAME.search(base_model.rstrip("/").rpartition("/")[2])
    return round(float(found[1]) * _UNITS[found[2].upper()]) if found else None


async def _stated(url: str, api_key: str, base_model: str) -> int | None:
    # The SDK drops what it does not know of the answer, so this is asked for without it.
    address = f"{url.rstrip('/')}/api/v1/get_server_capabilities"
    try:
        async with (
            new_session() as session,
            session.get(address, headers={"X-API-Key": api_key}, timeout=_TIMEOUT, allow_redirects=False) as answer,
        ):
            answer.raise_for_status()
            told: Any = await answer.json(content_type=None)
        found = {model["model_name"]: model.get("num_parameters") for model in told["supported_models"]}
    except (TimeoutError, aiohttp.ClientError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log.info("%s does not say how large its models are: %r", url, error)
        return None
    size = found.get(base_model)
    return size if isinstance(size, int) and size > 0 else None
