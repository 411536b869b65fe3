"""``GET /v1/models``, and one of them.

Owns what a client may ask for by name; refuses to know how a name is served. Invariant: ``metaclaw`` is listed
wherever it can be asked for.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import NotFoundError, UpstreamError
from metaclaw.gateway.policy import Policy
from metaclaw.gateway.routing import OUR_MODEL
from metaclaw.upstreams.pool import UpstreamPool

_UNKNOWN_TIME = "1970-01-01T00:00:00Z"


async def list_models(agent: str, *, policy: Policy | None, models: UpstreamPool | None) -> JsonObject:
    """The list in OpenAI's shape: the agent's policy, or the models of the upstream behind our own name."""
    ours: JsonObject = {"id": OUR_MODEL, "object": "model", "created": 0, "owned_by": OUR_MODEL}
    if policy is not None:
        version = await policy.serving_version(agent)
        return {"object": "list", "data": [{**ours, "policy": f"{agent}@{version}"}]}
    if models is None:
        return {"object": "list", "data": []}
    if not models.preferred.model_id:
        return {"object": "list", "data": await models.models()}
    try:
        theirs = await models.models()
    except UpstreamError:  # many have no such list, and clients that ask for it first never came to ask a question
        theirs = []
    others = [model for model in theirs if model.get("id") != OUR_MODEL]  # a gateway behind us has our name too
    return {"object": "list", "data": [ours, *others]}


def named(model: str, listed: JsonObject) -> JsonObject:
    """One of a list. Raises ``NotFoundError``."""
    found = next((one for one in listed["data"] if one.get("id") == model), None)
    if found is None:
        raise NotFoundError(f"no model of the name {model!r:.200} is listed by GET /v1/models")
    return found


def in_anthropics_shape(listed: JsonObject) -> JsonObject:
    """A list of models as Anthropic's clients know it."""
    data = [
        {
            "type": "model",
            "id": model.get("id", ""),
            "display_name": model.get("display_name") or model.get("id", ""),
            "created_at": model.get("created_at") or _UNKNOWN_TIME,
        }
        for model in listed["data"]
    ]
    ids = [model["id"] for model in data]
    return {"data": data, "has_more": False, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
