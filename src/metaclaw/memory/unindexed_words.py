"""Which of an agent's units have a word, while the index of words is being made anew.

Owns reading the units themselves; refuses to know why the index is not whole. Invariant: what it finds the index would
find, by the words of a question and not by what is weaker than a word; each question reads every unit once, which takes
about as many microseconds as there are units, times five.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence

from metaclaw.memory.word_index import index_words
from metaclaw.retrieval.scripts import one_spelling
from metaclaw.retrieval.words import words_of

_LONG = 4  # letters: of a longer word the last may be another in the text ("story", "stories")


class UnindexedWords:
    """As ``WordIndex``, for one question."""

    def __init__(self, connection: sqlite3.Connection, question: str) -> None:
        self.connection = connection
        self._stems = _stems(words_of(question))
        self._rows: dict[str, dict[str, list[int]]] = {}  # by agent and word

    def num_units(self, agent: str) -> int:
        """How many units ``agent`` has."""
        return self.connection.execute("SELECT count(*) FROM units WHERE agent = ?", (agent,)).fetchone()[0]

    def num_having(self, agent: str, word: str) -> int:
        """About how many of ``agent``'s units have ``word``, which is one of the question's."""
        return len(self.rows_having(agent, word))

    def rows_having(self, agent: str, word: str) -> list[int]:
        """The rows of units that have ``word`` or one that begins like it."""
        if agent not in self._rows:
            self._rows[agent] = self._read(agent)
        return self._rows[agent].get(word, [])

    def words_of(self, agent: str, rows: Sequence[int]) -> dict[int, list[str]]:
        """What each of the units in ``rows`` would be indexed by."""
        texts = self.connection.execute(
            "SELECT seq, text || ' ' || subject FROM units WHERE seq IN (SELECT value FROM json_each(?)) AND agent = ?",
            (json.dumps(rows), agent),
        ).fetchall()
        return {row: list(index_words(text)) for row, text in texts}

    def _read(self, agent: str) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = defaultdict(list)
        if not self._stems:
            return rows
        # The longest first: where a word begins like another, it is the longer one that is there.
        longest_first = sorted(self._stems, key=len, reverse=True)
        anywhere = re.compile("|".join(rf"\b{stem}" if stem.isascii() else re.escape(stem) for stem in longest_first))
        texts = self.connection.execute("SELECT seq, text || ' ' || subject FROM units WHERE agent = ?", (agent,))
        for row, text in texts:
            for stem in set(anywhere.findall(one_spelling(text))):
                for word in self._stems[stem]:
                    rows[word].append(row)
        return rows


def _stems(words: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """How a text that has one of ``words`` has it, as far as it is sure."""
    stems: dict[str, list[str]] = defaultdict(list)
    for word in dict.fromkeys(words):
        stems[word[:-1] if word.isascii() and len(word) > _LONG else word].append(word)
    return stems
