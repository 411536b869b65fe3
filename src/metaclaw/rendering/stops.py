"""Stop strings while text arrives.

Owns where an answer's text ends; refuses to know tokens. Invariant: what was given out never contains a stop string
nor any beginning of one that later came true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class StopCutter:
    """Cuts an answer's text before the first stop string, holding back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """Take more text; return what can no longer belong to a stop string."""
        if self.has_stopped:
            return ""
        self._held += text
        found = [index for stop in self._stops if (index := self._held.find(stop)) >= 0]
        if found:
            self.has_stopped = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        num_safe = len(self._held) - self._longest_beginning()
        safe, self._held = self._held[:num_safe], self._held[num_safe:]
        return safe

    def finish(self) -> str:
        """The text that was held back in vain."""
        text, self._held = self._held, ""
        return text

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text with which some stop string begins."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for length in range(min(len(self._held), longest - 1), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


class MarkedStopCutter:
    """Cuts text in which single characters (marks) stand for tags, as if the tags were written out.

    A stop string may hold a tag or a part of one: the sampler, which decides when to stop, sees them written out.
    """

    def __init__(self, stops: Sequence[str], letters: Mapping[str, str]) -> None:
        self._cutter = StopCutter(stops)
        self._letters = letters
        self._held = ""
        self._num_due = 0  # characters, written out, that may be given out

    @property
    def has_stopped(self) -> bool:
        return self._cutter.has_stopped

    def push(self, text: str) -> str:
        """Take more text; return what can no longer belong to a stop string."""
        if self.has_stopped:
            return ""
        self._held += text
        written = "".join(self._letters.get(character, character) for character in text) if self._letters else text
        return self._given_out(len(self._cutter.push(written)))

    def finish(self) -> str:
        """The text that was held back in vain."""
        return self._given_out(len(self._cutter.finish()))

    def _given_out(self, count: int) -> str:
        self._num_due += count
        place = 0
        while place < len(self._held):
            width = len(self._letters.get(self._held[place], "x"))
            if width > self._num_due:
                break
            self._num_due -= width
            place += 1
        out, self._held = self._held[:place], self._held[place:]
        if self.has_stopped:  # within a tag, perhaps: then what comes before the stop string is no tag any more
            out += self._letters.get(self._held[:1], "")[: self._num_due]
            self._held, self._num_due = "", 0
        return out
