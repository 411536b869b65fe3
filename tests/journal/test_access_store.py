"""``access.db``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metaclaw.errors import ConflictError, InvalidRequestError, JournalError, NotFoundError
from metaclaw.journal.access_store import AccessStore, AccessToken, Limits, Usage

DIGEST = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AccessStore]:
    opened = AccessStore.open(tmp_path / "access.db")
    yield opened
    opened.close()


def create(store: AccessStore, name: str = "anna", digest: bytes = DIGEST, **limits: int) -> AccessToken:
    return store.create(name, digest=digest, agent="ops", limits=Limits(**limits), now=1.0)


def test_a_token_in_use_is_found_by_its_digest_until_it_is_revoked(store: AccessStore):
    token = create(store, requests_per_minute=3)
    assert store.in_use() == {DIGEST: token}
    assert store.revoke(token.id, 2.0).revoked_at == 2.0
    assert store.in_use() == {}
    with pytest.raises(NotFoundError, match="tokens list"):
        store.revoke("anna", 3.0)
    again = create(store, digest=DIGEST[::-1])
    assert [listed.id for listed in store.all() if listed.revoked_at is None] == [again.id]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
def test_a_name_is_printable_and_short(store: AccessStore, name: str):
    with pytest.raises(InvalidRequestError, match="no name"):
        create(store, name)


def test_a_name_is_in_use_once(store: AccessStore):
    create(store)
    with pytest.raises(ConflictError, match="'anna'"):
        create(store, digest=DIGEST[::-1])


def test_usage_is_read_back_as_it_was_and_the_newest_counts(store: AccessStore):
    used = Usage(admitted=(1.5, 2.25), day="2026-11-25", day_requests=2, day_tokens=9, month="2026-11", month_usd=0.5)
    store.save_usage({"owner": Usage(), "tok-1": Usage()})
    store.save_usage({"tok-1": used})
    assert store.usage() == {"owner": Usage(), "tok-1": used}


def test_a_write_of_another_connection_changes_the_version_and_ones_own_does_not(store: AccessStore, tmp_path: Path):
    before = store.version()
    create(store)
    assert store.version() == before
    other = AccessStore.open(tmp_path / "access.db")
    create(other, "bert", DIGEST[::-1])
    other.close()
    assert store.version() != before


def test_a_file_that_is_none_is_refused_and_kept(tmp_path: Path):
    (tmp_path / "access.db").write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError):
        AccessStore.open(tmp_path / "access.db")
    assert (tmp_path / "access.db").read_bytes() == b"not a database" * 100
