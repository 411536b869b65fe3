"""``GET /v1/models``.

Owns what a client may ask for by name; refuses to know how a name is served. Invariant: ``metaclaw`` is listed
wherever it can be asked for.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.gateway.policy import Policy
from metaclaw.gateway.routing import OUR_MODEL
from metaclaw.upstreams.pool import UpstreamPool


async def list_models(agent: str, *, policy: Policy | None, models: UpstreamPool | None) -> JsonObject:
    """The list in OpenAI's shape: the agent's policy, or the models of the upstream behind our own name."""
    ours: JsonObject = {"id": OUR_MODEL, "object": "model", "created": 0, "owned_by": OUR_MODEL}
    if policy is not None:
        version = await policy.serving_version(agent)
        return {"object": "list", "data": [{**ours, "policy": f"{agent}@{version}"}]}
    if models is None:
        return {"object": "list", "data": []}
    theirs = await models.models()
    return {"object": "list", "data": [ours, *theirs] if models.preferred.model_id else theirs}
