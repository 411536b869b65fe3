"""Which of an agent's units have a word, while the index of words is being made anew.

Owns joining what the index has with a look at units that are not in it yet; refuses to know why the index is not whole.
Invariants: what the index has is found whoever has it, also in a former form as far as the word is the same; of the
other units the newest ``LOOKED_AT`` are read for each question, and no more, so that nobody waits for an answer longer
the more there are; and how well a unit fits is told by its own text.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from metaclaw.memory.word_index import WordIndex, index_words, made_down_to
from metaclaw.retrieval.scripts import one_spelling
from metaclaw.retrieval.words import words_of

LOOKED_AT = 10_000  # units, about 0.1 s of a processor
_LONG = 4  # letters: of a longer word the last may be another in the text ("story", "stories")


class UnindexedWords:
    """As ``WordIndex``, for one question."""

    def __init__(self, index: WordIndex, question: str) -> None:
        self.connection: sqlite3.Connection = index.connection
        self._index = index
        self._down_to = made_down_to(index.connection)
        self._stems = _stems(words_of(question))
        self._rows: dict[str, Mapping[str, Sequence[int]]] = {}  # by agent and word

    def num_units(self, agent: str) -> int:
        """How many units ``agent`` has, within a few per cent."""
        return self._index.num_units(agent)

    def nums_having(self, agent: str, words: Iterable[str]) -> dict[str, int]:
        """About how many of ``agent``'s units have each of ``words``."""
        read = self._read(agent)
        indexed = self._index.nums_having(agent, words)
        return {word: max(number, len(read.get(word, ()))) for word, number in indexed.items()}

    def rows_having(self, agent: str, word: str) -> list[int]:
        """The rows of units that have ``word``, and of some that have one that begins like it."""
        return list({*self._index.rows_having(agent, word), *self._read(agent).get(word, ())})

    def words_of(self, agent: str, rows: Sequence[int]) -> dict[int, list[str]]:
        """What each of the units in ``rows`` is or would be indexed by."""
        texts = self.connection.execute(
            "SELECT seq, text || ' ' || subject FROM units WHERE seq IN (SELECT value FROM json_each(?)) AND agent = ?"
            " AND seq < ?",
            (json.dumps(rows), agent, self._down_to),
        ).fetchall()
        unindexed = {row: list(index_words(text)) for row, text in texts}
        return self._index.words_of(agent, [row for row in rows if row >= self._down_to]) | unindexed

    def _read(self, agent: str) -> Mapping[str, Sequence[int]]:
        if agent not in self._rows:
            self._rows[agent] = self._looked_through(agent) if self._stems else {}
        return self._rows[agent]

    def _looked_through(self, agent: str) -> Mapping[str, Sequence[int]]:
        newest = self.connection.execute(
            "SELECT seq, text || ' ' || subject FROM units WHERE agent = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            (agent, self._down_to, LOOKED_AT),
        ).fetchall()
        # Looked through as one text, which takes a tenth of the time that one at a time would.
        texts = [one_spelling(text) for _, text in newest]
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        rows: dict[str, list[int]] = defaultdict(list)
        everything = "\n".join(texts)
        for stem, words in self._stems.items():
            for place in _places(everything, stem, starts):
                for word in words:
                    rows[word].append(newest[place][0])
        return rows


def _places(everything: str, stem: str, starts: Sequence[int]) -> Iterator[int]:
    """Which of the texts that begin at ``starts`` have a word that begins with ``stem``."""
    at = everything.find(stem)
    while at >= 0:
        if stem.isascii() and at and everything[at - 1].isalnum():
            at = everything.find(stem, at + 1)
            continue
        place = bisect_right(starts, at) - 1
        yield place
        at = everything.find(stem, starts[place + 1])


def _stems(words: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """How a text that has one of ``words`` has it, as far as it is sure."""
    stems: dict[str, list[str]] = defaultdict(list)
    for word in dict.fromkeys(words):
        stems[word[:-1] if word.isascii() and len(word) > _LONG else word].append(word)
    return stems
