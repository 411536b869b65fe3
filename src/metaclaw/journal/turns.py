"""``turns.db``: what was asked, what was answered, what the policy drew.

The public names of this half of the journal: ``TurnJournal`` writes (the gateway alone), ``TurnReader`` reads.
"""

from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import (
    MEMORY_ITEM,
    POLICY,
    BlockKey,
    Cost,
    EndState,
    Feedback,
    ItemKind,
    NewTurn,
    Outcome,
    PolicySample,
    RawAnswer,
    RecallBlock,
    RecordedExchange,
    RecordedTurn,
    TurnEnd,
    TurnKind,
    TurnState,
    Weighed,
    exchange_key,
)
from metaclaw.journal.turn_writer import TurnJournal

__all__ = [
    "MEMORY_ITEM",
    "POLICY",
    "BlockKey",
    "Cost",
    "EndState",
    "Feedback",
    "ItemKind",
    "NewTurn",
    "Outcome",
    "PolicySample",
    "RawAnswer",
    "RecallBlock",
    "RecordedExchange",
    "RecordedTurn",
    "TurnEnd",
    "TurnJournal",
    "TurnKind",
    "TurnReader",
    "TurnState",
    "Weighed",
    "exchange_key",
]
