"""Paths of another training server whose clients are pointed at this one.

Owns what they are told; refuses to know our routes. Invariant: only a path that is none of ours is looked at.
"""

from __future__ import annotations

_HEALTH = ("/health", "/v1/health", "/v1/healthz")
_WORK = ("/v1/lora/", "/v1/train/", "/v1/weights/", "/v1/checkpoint/")
_SAMPLE = "/v1/sample"


def hint(path: str) -> str:
    """What whoever asks for an unknown ``path`` meant; empty when nobody knows."""
    if path in _HEALTH:
        return ": GET /healthz says whether this server answers, /readyz whether its workers do, /metrics the rest"
    if path == _SAMPLE or path.startswith(_WORK):
        return (
            ": training and sampling go by the Tinker API here, with its SDK: ServiceClient(base_url=..., api_key=...)"
        )
    return ""
