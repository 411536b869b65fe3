"""The former names of what is in ``http_model`` and ``upstream``, until nobody asks for them any more.

Owns nothing; refuses to grow. Invariant: every name here is the very class of its new module.
"""

from __future__ import annotations

from metaclaw.upstreams.http_model import HttpModel as OpenAICompatible
from metaclaw.upstreams.http_reply import HttpReply as UpstreamReply
from metaclaw.upstreams.upstream import Timeouts, Upstream

__all__ = ["OpenAICompatible", "Timeouts", "Upstream", "UpstreamReply"]
