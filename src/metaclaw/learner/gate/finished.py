"""What of an examination is done already.

Owns results by name; refuses to know what they mean. Invariant: what was finished once is never asked for again, and
what failed or was cancelled is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Finished:
    """Results of the parts of one examination, so that one that was interrupted goes on where it was."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, int], Any] = {}

    def __len__(self) -> int:
        return len(self._results)

    async def once(self, part: str, number: int, call: Callable[[], Awaitable[T]]) -> T:
        """The result of ``call``, from an earlier time where ``part`` ``number`` was finished. Raises what it does."""
        key = (part, number)
        if key not in self._results:
            self._results[key] = await call()
        return self._results[key]
