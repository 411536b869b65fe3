"""Writing the events of a stream.

Owns their numbering and their bytes; refuses to know what they say. Invariant: ``sequence_number`` counts from zero
without a gap.
"""

from __future__ import annotations

import json
from typing import Any

from metaclaw.chat.sse import encode_event


class EventWriter:
    """One stream's worth."""

    def __init__(self) -> None:
        self._num_written = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        """The next event."""
        data = json.dumps({"type": kind, "sequence_number": self._num_written, **fields}, separators=(",", ":"))
        self._num_written += 1
        return encode_event(data, kind)
