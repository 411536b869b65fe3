"""Ids of turns."""

from __future__ import annotations

from metaclaw.gateway.reception import turn_id_at

MS = 1_000_000
NOW = 1_780_000_000_000 * MS


def test_a_later_turn_sorts_behind_and_none_has_anothers_id() -> None:
    ids = [turn_id_at(NOW + number * MS) for number in range(1000)]
    assert ids == sorted(ids)
    assert len({turn_id_at(NOW) for _ in range(1000)}) == 1000
    assert {len(one) for one in ids} == {len("turn-") + 32}
