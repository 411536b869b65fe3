"""Requests that wait for their turn, shared out between those who sent them.

Owns the order in which waiting requests begin; refuses to know what they are. Invariant: within a share requests
begin in the order of arrival; between shares the one that holds the fewest rows is next, and among equals the one
that was served longest ago, so that a flood from one delays the others by one row's turnover at most.
"""

# pyright: basic

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable

from metaclaw.training.samplers.requests import Request


class FairQueue:
    """Waiting requests by share."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Request]] = OrderedDict()  # served longest ago first

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def add(self, request: Request) -> None:
        """Queue behind its share's other requests."""
        self._queues.setdefault(request.share, deque()).append(request)

    def next(self, holders: Iterable[str]) -> Request | None:
        """The request that begins next, left in the queue. ``holders`` names the share of each row in use."""
        if not self._queues:
            return None
        held = Counter(holders)
        share = min(self._queues, key=lambda name: held[name])  # the first of equals
        return self._queues[share][0]

    def remove(self, request: Request) -> None:
        """Take out a request that ``next`` returned; its share goes behind the others."""
        queue = self._queues.pop(request.share)
        queue.remove(request)
        if queue:
            self._queues[request.share] = queue

    def forget_ended(self) -> None:
        """Take out what was cancelled or failed."""
        for share, queue in list(self._queues.items()):
            if any(request.is_over for request in queue):
                alive = deque(request for request in queue if not request.is_over)
                if alive:
                    self._queues[share] = alive
                else:
                    del self._queues[share]
