"""Tokens: who is let in, how soon that changes, and what a flood gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metaclaw.errors import AuthenticationError, BudgetError, RateLimitError
from metaclaw.gateway.access import Access, new_token
from metaclaw.gateway.access_keeper import AccessKeeper
from metaclaw.http.auth import digest
from metaclaw.journal.access_store import AccessStore, AccessToken, Limits, Usage

pytestmark = pytest.mark.anyio

NOW = 1_796_000_000.0


@asynccontextmanager
async def access(home: Path, owner_limits: Limits = Limits()) -> AsyncGenerator[Access]:  # noqa: B008 - frozen
    async with AccessKeeper(home / "access.db") as keeper:
        yield Access(owner_token="owners", owner_limits=owner_limits, keeper=keeper, clock=lambda: NOW)


def make(home: Path, name: str = "anna", agent: str | None = None, **limits: float) -> tuple[str, AccessToken]:
    store, secret = AccessStore.open(home / "access.db"), new_token()
    token = store.create(name, digest=digest(secret), agent=agent, limits=Limits(**limits), now=NOW)  # pyright: ignore
    store.close()
    return secret, token


def revoke(home: Path, name: str) -> None:
    store = AccessStore.open(home / "access.db")
    store.revoke(name, NOW)
    store.close()


def used(home: Path) -> dict[str, Usage]:
    store = AccessStore.open(home / "access.db")
    usage = store.usage()
    store.close()
    return usage


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def is_let_in(door: Access, secret: str) -> bool:
    try:
        await door.authenticate(bearer(secret))
    except AuthenticationError:
        return False
    return True


async def test_a_token_lets_in_whom_it_names_either_way_and_nothing_like_it_does(tmp_path: Path) -> None:
    secret, token = await asyncio.to_thread(make, tmp_path, agent="ops")
    async with access(tmp_path) as door:
        for headers in (bearer(secret), {"x-api-key": secret}):
            principal = await door.authenticate(headers)
            assert (principal.id, principal.name, principal.agent) == (token.id, "anna", "ops")
        owner = await door.authenticate(bearer("owners"))
        assert (owner.name, owner.agent) == ("owner", None)
        for wrong in (secret[:-1], secret + "0", secret.removeprefix("mc-"), token.id, "anna", "owner", "\ud800"):
            with pytest.raises(AuthenticationError, match="not valid here"):
                await door.authenticate(bearer(wrong))
        with pytest.raises(AuthenticationError, match="a token is required"):
            await door.authenticate({})


async def test_an_empty_owners_token_lets_nobody_in(tmp_path: Path) -> None:
    async with AccessKeeper(tmp_path / "access.db") as keeper:
        door = Access(owner_token="", owner_limits=Limits(), keeper=keeper, clock=lambda: NOW)
        with pytest.raises(AuthenticationError):
            await door.authenticate({"x-api-key": " "})


async def test_a_new_token_works_at_once_and_a_revoked_one_soon_no_more(tmp_path: Path) -> None:
    async with access(tmp_path) as door:
        secret, _ = await asyncio.to_thread(make, tmp_path)
        assert (await door.authenticate(bearer(secret))).name == "anna"
        await asyncio.to_thread(revoke, tmp_path, "anna")
        async with asyncio.timeout(30):
            while await is_let_in(door, secret):  # noqa: ASYNC110 - another thread polls the file
                await asyncio.sleep(0.01)


async def test_the_tokens_of_a_file_that_was_put_back_count_and_what_was_used_is_kept(tmp_path: Path) -> None:
    """A backup was put back while the gateway ran: it went on with the file of before, so that no token that was made
    let anybody in until the next start, and none that was revoked was refused."""
    here, backup = tmp_path / "access.db", tmp_path / "backup.db"
    anna, _ = await asyncio.to_thread(make, tmp_path)
    await asyncio.to_thread(here.rename, backup)
    ben, _ = await asyncio.to_thread(make, tmp_path, "ben")
    async with access(tmp_path) as door:
        assert await is_let_in(door, ben)
        door.admit(await door.authenticate(bearer("owners"))).charge(tokens=7, usd=0.0)
        await asyncio.to_thread(backup.replace, here)
        assert await is_let_in(door, anna)
        assert not await is_let_in(door, ben)
        await asyncio.to_thread(revoke, tmp_path, "anna")
        async with asyncio.timeout(30):
            while await is_let_in(door, anna):  # noqa: ASYNC110 - another thread polls the file
                await asyncio.sleep(0.01)
    assert (await asyncio.to_thread(used, tmp_path))["owner"].day_tokens == 7


async def test_a_flood_gets_no_more_through_than_the_limit_of_requests(tmp_path: Path) -> None:
    secret, _ = await asyncio.to_thread(make, tmp_path, requests_per_minute=50, max_concurrent=7)
    running = most = 0

    async def ask(door: Access) -> bool:
        nonlocal running, most
        principal = await door.authenticate(bearer(secret))
        try:
            admission = door.admit(principal)
        except RateLimitError:
            return False
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        admission.release()
        return True

    async def client(door: Access) -> int:
        return sum([await ask(door) for _ in range(20)])

    async with access(tmp_path) as door:
        admitted = sum(await asyncio.gather(*(client(door) for _ in range(40))))
    assert admitted == 50
    assert most <= 7
    async with access(tmp_path) as restarted:
        principal = await restarted.authenticate(bearer(secret))
        with pytest.raises(RateLimitError):
            restarted.admit(principal)


async def test_a_budget_is_overrun_by_no_more_than_was_under_way(tmp_path: Path) -> None:
    secret, token = await asyncio.to_thread(make, tmp_path, tokens_per_day=1000, max_concurrent=5)
    async with access(tmp_path) as door:
        principal = await door.authenticate(bearer(secret))
        for _ in range(3):  # 900 after ten, and then the five that were let in before 1000 was reached
            for admission in [door.admit(principal) for _ in range(5)]:
                admission.release()
                admission.charge(tokens=90, usd=0.25)
        with pytest.raises(BudgetError, match="1000 tokens a day"):
            door.admit(principal)
    assert (await asyncio.to_thread(used, tmp_path))[token.id].day_tokens == 15 * 90
    async with access(tmp_path) as restarted:
        with pytest.raises(BudgetError):
            restarted.admit(await restarted.authenticate(bearer(secret)))


async def test_an_admission_is_released_once_and_charged_once(tmp_path: Path) -> None:
    async with access(tmp_path, Limits(max_concurrent=1)) as door:
        owner = await door.authenticate(bearer("owners"))
        admission = door.admit(owner)
        with pytest.raises(RateLimitError):
            door.admit(owner)
        for _ in range(2):
            admission.release()
            admission.charge(tokens=5, usd=None)
        second = door.admit(owner)
        with pytest.raises(RateLimitError):
            door.admit(owner)
        second.release()
    assert (await asyncio.to_thread(used, tmp_path))["owner"].day_tokens == 5


async def test_a_file_that_cannot_be_written_costs_counts_and_lets_in_whom_it_knew(tmp_path: Path) -> None:
    secret, _ = await asyncio.to_thread(make, tmp_path)
    async with AccessKeeper(tmp_path / "access.db") as keeper:
        door = Access(owner_token="owners", owner_limits=Limits(), keeper=keeper, clock=lambda: NOW)
        await asyncio.to_thread(_break, tmp_path)
        door.admit(await door.authenticate(bearer(secret))).charge(tokens=1, usd=None)
        await keeper.refresh()
        assert keeper.num_failures > 0
        assert (await door.authenticate(bearer(secret))).name == "anna"


def _break(home: Path) -> None:
    store = AccessStore.open(home / "access.db")
    store._connection.execute(  # pyright: ignore[reportPrivateUsage]
        "CREATE TRIGGER full BEFORE INSERT ON usage BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
    )
    store.close()
