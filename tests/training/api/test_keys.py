"""Keys: how they are made, stored, found and revoked."""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import resources

import pytest

from metaclaw.errors import AuthenticationError, ConflictError, InvalidRequestError, NotFoundError
from metaclaw.training.api.database import connect, open_database
from metaclaw.training.api.keys import FRESH_S, Keyring, KeyTable
from metaclaw.training.api.tenants import ADMIN, Quotas

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def table(tmp_path):
    connection = connect(tmp_path / "server.db")
    yield KeyTable(connection)
    connection.close()


def create(table, name="anna", **quotas):
    return table.create(name, is_admin=False, quotas=Quotas(**quotas), now=1.0)


def test_a_key_is_shown_once_and_stored_nowhere(table, tmp_path):
    secret, key = create(table, max_models=3)
    assert secret.startswith("tml-")
    assert len(bytes.fromhex(secret.removeprefix("tml-"))) == 32
    assert table.all() == [key]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.removeprefix("tml-").encode() not in stored
    assert bytes.fromhex(secret.removeprefix("tml-")) not in stored


async def test_a_key_is_known_with_and_without_the_prefix_and_nothing_else_is(table, tmp_path):
    secret, key = create(table, max_bytes=5)
    async with open_database(tmp_path / "server.db") as database:
        keyring = Keyring("chosen", database, Clock())
        assert await keyring.tenant(secret) == key.tenant
        assert await keyring.tenant(secret.removeprefix("tml-")) == key.tenant
        assert await keyring.tenant("chosen") is ADMIN
        assert await keyring.tenant("tml-chosen") is ADMIN
        for wrong in ("", "tml-", secret[:-1], secret + "0", key.tenant.key_id, "anna", "\ud800"):
            with pytest.raises(AuthenticationError, match="not valid here"):
                await keyring.tenant(wrong)


async def test_an_empty_admin_key_lets_nobody_in(tmp_path):
    async with open_database(tmp_path / "server.db") as database:
        with pytest.raises(AuthenticationError):
            await Keyring("", database, Clock()).tenant("tml-")


async def test_the_running_server_sees_a_new_key_at_once_and_a_revoked_one_within_a_second(table, tmp_path):
    clock = Clock()
    async with open_database(tmp_path / "server.db") as database:
        keyring = Keyring("chosen", database, clock)
        secret, key = create(table)
        assert await keyring.tenant(secret) == key.tenant
        table.revoke("anna", 2.0)
        clock.now += FRESH_S
        with pytest.raises(AuthenticationError):
            await keyring.tenant(secret)


async def test_a_busy_client_costs_one_look_up_a_second(table, tmp_path):
    secret, _ = create(table)
    clock = Clock()
    async with open_database(tmp_path / "server.db") as database:
        keyring = Keyring("chosen", database, clock)
        statements = []
        database._connection.set_trace_callback(statements.append)
        for _ in range(100):
            clock.now += FRESH_S / 50
            await keyring.tenant(secret)
        assert len(statements) == 2


def test_a_name_is_used_once_at_a_time_and_revoked_by_name_or_id(table):
    _, first = create(table)
    with pytest.raises(ConflictError, match="anna"):
        create(table)
    table.revoke(first.tenant.key_id, 2.0)
    _, second = create(table)
    assert second.tenant.key_id != first.tenant.key_id
    table.revoke("anna", 3.0)
    assert {key.revoked_at for key in table.all()} == {2.0, 3.0}
    for unknown in ("anna", first.tenant.key_id, "nobody"):
        with pytest.raises(NotFoundError, match="keys list"):
            table.revoke(unknown, 4.0)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_that_could_not_be_read_is_refused(table, name):
    with pytest.raises(InvalidRequestError):
        create(table, name)


async def test_a_file_of_the_oldest_schema_is_brought_up_and_what_is_in_it_belongs_to_the_admin(tmp_path):
    path = tmp_path / "server.db"
    await asyncio.to_thread(make_schema_1, path)
    async with open_database(path) as database:
        assert [row["user_version"] for row in await database.all("PRAGMA user_version")] == [3]
        for name in ("sessions", "training_runs", "checkpoints", "sampling_sessions"):
            assert [row["owner"] for row in await database.all(f"SELECT owner FROM {name}")] == [""], name
        assert await database.all("SELECT * FROM keys") == []


def make_schema_1(path):
    old = sqlite3.connect(path)
    old.executescript(resources.files("metaclaw.training.api").joinpath("registry.sql").read_text(encoding="utf-8"))
    old.executescript(
        """
        PRAGMA user_version = 1;
        INSERT INTO sessions VALUES ('s', 1, 1, NULL, NULL, '{}');
        INSERT INTO training_runs VALUES ('m', 's', 2, 1, 1, 1, '{}', 1, 1);
        INSERT INTO checkpoints VALUES ('m', 'weights', 'w', '/w', 2, 1, 1, 1, 'd', 1, 1, NULL, 0, 0, '{}', NULL);
        INSERT INTO sampling_sessions VALUES ('x', 's', 'm', 'w');
        """
    )
    old.close()
