"""The index of words: which of an agent's units have a word.

Owns the form in which units are indexed and how frequent a word is; refuses to know what is asked. Invariants: a word
is one word of one agent, so that nobody's question costs more, or finds other words rare, for what others have; and
what a unit is indexed by follows from its text alone.

Beside the words that carry meaning there are weaker ones, each with a mark of its own in front, so that none is taken
for a word: how a long word begins and ends (declension, compounds), the words that bind others together, and one for
every "not" and one for every "my", in any language.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from metaclaw.memory.negations import num_negations
from metaclaw.memory.persons import speaks_of_oneself
from metaclaw.retrieval.words import VERSION, binding_words_of, characters_of, spaced_words_of, words_of

# Letters for private use: no text that is written has them.
DENIED, OWN = "\ue000", "\ue001"
_BINDING, _BEGINNING, _END, _BEHIND_OWNER = "\ue002", "\ue003", "\ue004", "\ue005"
_PART = 5  # letters: what is left of a word in most European languages when endings are cut
_FREQUENT = 100  # units that have a word: it is not counted again soon
_GROWTH = 1.05  # of an agent's units, until frequent words are counted again
_NUM_KEPT = 20_000
_NUMBERS = (
    "SELECT vocabulary.term, vocabulary.doc FROM json_each(?) AS wanted"
    " CROSS JOIN vocabulary ON vocabulary.term = wanted.value"
)


@lru_cache(maxsize=4096)
def index_words(text: str) -> tuple[str, ...]:
    """All that a unit with ``text`` is found by."""
    parts = [part for word in spaced_words_of(text) for part in parts_of(word)]
    return (*words_of(text), *characters_of(text), *parts, *binding_words(text), *marks_of(text))


def marks_of(text: str) -> list[str]:
    """Whether something is denied in ``text``, and whether somebody speaks of themselves."""
    return ([DENIED] if num_negations(text) else []) + ([OWN] if speaks_of_oneself(text) else [])


def binding_words(text: str) -> list[str]:
    """The words of ``text`` that carry no meaning."""
    return [_BINDING + word for word in binding_words_of(text)]


def parts_of(word: str) -> tuple[str, ...]:
    """How a long word begins and ends."""
    return (_BEGINNING + word[:_PART], _END + word[-_PART:]) if len(word) >= _PART else ()


def index_body(agent: str, text: str) -> str:
    """What the index has of a unit: one string, spaces between."""
    owner = _owner(agent)
    return " ".join(owner + word for word in index_words(text))


def put_into_index(connection: sqlite3.Connection, seq: int, agent: str, text: str) -> None:
    """Within a transaction, index the unit in row ``seq``, whether or not it was."""
    connection.execute("DELETE FROM words WHERE rowid = ?", (seq,))
    connection.execute("INSERT INTO words (rowid, body) VALUES (?, ?)", (seq, index_body(agent, text)))


def is_index_whole(connection: sqlite3.Connection) -> bool:
    """Whether each unit is in the index by the words that it is looked for by now."""
    return connection.execute("SELECT max(version) FROM index_version").fetchone()[0] == VERSION


def made_down_to(connection: sqlite3.Connection) -> int:
    """The row from which on units are in an index that is not whole by the words that they are looked for by now."""
    # Who only reads may meet a store that no writer has brought to this form yet.
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'index_progress'").fetchone():
        row = connection.execute("SELECT down_to FROM index_progress WHERE version = ?", (VERSION,)).fetchone()
        if row is not None:
            return int(row[0])
    return int(connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM units").fetchone()[0])


def note_index_of_nothing(connection: sqlite3.Connection) -> None:
    """Of a store without a unit the index is whole: note that. Of another it says nothing, and writes nothing."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM units)").fetchone()[0]:
        connection.execute(
            "INSERT INTO index_version SELECT ? WHERE NOT EXISTS (SELECT 1 FROM index_version)"
            " AND NOT EXISTS (SELECT 1 FROM units)",
            (VERSION,),
        )


class WordIndex:
    """Of one store, for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._numbers: OrderedDict[str, int] = OrderedDict()  # of units that have a frequent word
        self._sizes: dict[str, tuple[int, int]] = {}  # by agent: the store's newest row then, and its number of units

    def num_units(self, agent: str) -> int:
        """How many units ``agent`` has, within a few per cent."""
        (newest,) = self.connection.execute("SELECT coalesce(max(seq), 0) FROM units").fetchone()
        known, number = self._sizes.get(agent, (-1, 0))
        if not known <= newest <= known * _GROWTH:
            row = self.connection.execute("SELECT count(*) FROM units WHERE agent = ?", (agent,)).fetchone()
            number = int(row[0])
            self._sizes[agent] = newest, number
            self._numbers.clear()
        return number

    def nums_having(self, agent: str, words: Iterable[str]) -> dict[str, int]:
        """How many of ``agent``'s units have each of ``words``; of a frequent one within a few per cent."""
        owner = _owner(agent)
        terms = {word: owner + word for word in words}
        unknown = [term for term in terms.values() if term not in self._numbers]
        counted: dict[str, int] = {}
        if unknown:
            counted = dict(self.connection.execute(_NUMBERS, (json.dumps(unknown),)).fetchall())
        numbers: dict[str, int] = {}
        for word, term in terms.items():
            if (number := self._numbers.get(term)) is None:
                number = counted.get(term, 0)
            if number >= _FREQUENT:
                self._numbers[term] = number
                self._numbers.move_to_end(term)
            numbers[word] = number
        while len(self._numbers) > _NUM_KEPT:
            self._numbers.popitem(last=False)
        return numbers

    def rows_having(self, agent: str, word: str) -> list[int]:
        """The rows of ``agent``'s units that have ``word``."""
        term = (_owner(agent) + word).replace('"', '""')
        # All in one: with each row of an answer the interpreter changes hands, and there may be thousands.
        ((rows,),) = self.connection.execute(
            "SELECT json_group_array(rowid) FROM words WHERE words MATCH ?", (f'"{term}"',)
        ).fetchall()
        return json.loads(rows)

    def words_of(self, agent: str, rows: Sequence[int]) -> dict[int, list[str]]:
        """What each of ``agent``'s units in ``rows`` is indexed by, as of ``index_words``."""
        owner = _owner(agent)
        # All in one here too, from the table under the index: asked through the index itself, a row takes five times
        # as long. A word is of letters, so that none has a line's end.
        ((found, bodies),) = self.connection.execute(
            "SELECT json_group_array(unit.id), group_concat(unit.c0, char(10)) FROM json_each(?) AS wanted"
            " CROSS JOIN words_content AS unit ON unit.id = wanted.value",
            (json.dumps(rows),),
        ).fetchall()
        each = zip(json.loads(found), bodies.split("\n") if bodies else (), strict=True)
        return {row: body.removeprefix(owner).split(f" {owner}") for row, body in each}


@lru_cache(maxsize=1024)
def _owner(agent: str) -> str:
    return hashlib.sha256(agent.encode("utf-8", "surrogatepass")).hexdigest()[:8] + _BEHIND_OWNER
