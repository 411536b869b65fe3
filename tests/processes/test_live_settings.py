"""What is said of settings that change while MetaClaw runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from metaclaw.config import Settings
from metaclaw.config_file import config_path, read_settings, set_values
from metaclaw.processes.live_settings import keep_settings


async def said_of(home: Path, changes: dict[str, object], *, port: int) -> list[str]:
    """The reports after ``changes``, of an instance that listens on ``port``."""
    said: list[str] = []
    running = read_settings(home, {})[0]
    running = running.model_copy(update={"proxy": running.proxy.model_copy(update={"port": port})})

    def take_up(changed: Settings) -> None:
        raise AssertionError(f"{changed!r} is nothing new")

    keeping = asyncio.create_task(
        keep_settings(
            running,
            reread=lambda: read_settings(home, {})[0],
            take_up=take_up,
            note_trouble=lambda _: None,
            report=said.append,
        )
    )
    await asyncio.sleep(0.1)  # it has looked at the file
    set_values(home, changes)
    for _ in range(30):
        await asyncio.sleep(0.05)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    return said


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("before", "after", "is_said"), [(30000, 30001, True), (0, 30001, True), (30000, 0, False), (0, 0, False)]
)
async def test_another_port_counts_from_the_next_start_on_and_is_said_to(
    tmp_path: Path, before: int, after: int, is_said: bool
):
    set_values(tmp_path, {"proxy.port": before, "llm.api_base": "http://127.0.0.1:9/v1", "proxy.api_key": "k"})
    assert config_path(tmp_path).exists()
    said = await said_of(tmp_path, {"proxy.port": after, "max_context_tokens": 9000}, port=before or 40000)
    names = "max_context_tokens, proxy" if is_said else "max_context_tokens"
    assert said == [f"these changes of config.yaml count from the next start on: {names}"]


@asynccontextmanager
async def kept(
    home: Path, said: list[str], note_trouble: Callable[[str], None] = lambda _: None
) -> AsyncGenerator[list[Settings]]:
    """What is taken up of the file of ``home`` while the block runs."""
    taken_up: list[Settings] = []
    running = read_settings(home, {})[0]
    keeping = asyncio.create_task(
        keep_settings(
            running,
            reread=lambda: read_settings(home, {})[0],
            take_up=taken_up.append,
            note_trouble=note_trouble,
            report=said.append,
        )
    )
    await asyncio.sleep(0.1)  # it has looked at the file
    yield taken_up
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def until_said(said: list[str], words: str) -> None:
    await until(lambda: any(words in line for line in said))


WHOLE = """\
proxy: {api_key: k}
llm: {api_base: "http://127.0.0.1:9/v1"}
agents:
  private:
    llm: {api_base: "http://127.0.0.1:10/v1", model_id: at-home}
"""


@pytest.mark.anyio
async def test_half_of_a_file_is_never_taken_up(tmp_path: Path):
    """An agent whose own model stood in the other half was sent to the model of all others for that moment."""
    path = config_path(tmp_path)
    path.write_text(WHOLE)
    said: list[str] = []
    async with kept(tmp_path, said) as taken_up:
        for _ in range(15):  # as editors and copies over a network write
            with path.open("w") as file:
                file.write(WHOLE[: WHOLE.index("agents:")])
                file.flush()
                await asyncio.sleep(0.1)
                file.write(WHOLE[WHOLE.index("agents:") :])
        path.write_text(WHOLE.replace("at-home", "another"))
        await until_said(said, "taken up")
    assert [one.agents.named["private"].llm.model_id for one in taken_up] == ["another"]


@pytest.mark.anyio
@pytest.mark.parametrize("broken", ["skills: {dir: 2026-13-45}\n", f"llm: {'[' * 3000}", None])
async def test_a_file_that_cannot_be_understood_or_is_gone_is_said_and_what_comes_after_is_taken_up(
    tmp_path: Path, broken: str | None
):
    """A date that no calendar has ended all looking at the file, without a word."""
    path = config_path(tmp_path)
    path.write_text(WHOLE)
    said: list[str] = []
    async with kept(tmp_path, said) as taken_up:
        if broken is None:
            path.unlink()
        else:
            path.write_text(broken)
        await until_said(said, "NOT taken up, the settings of before stay in force")
        path.write_text(WHOLE.replace("at-home", "another"))
        await until_said(said, "config.yaml is taken up")
    assert len(taken_up) == 1


@pytest.mark.anyio
async def test_what_needs_a_setting_that_counts_from_the_next_start_on_says_to_start_again(tmp_path: Path):
    """The file had a model to train, and it was said to need one."""
    set_values(tmp_path, {"llm.api_base": "http://127.0.0.1:9/v1", "proxy.api_key": "k"})
    said: list[str] = []
    troubles: list[str] = []
    async with kept(tmp_path, said, troubles.append):
        set_values(tmp_path, {"mode": "rl"})
        await until(lambda: bool(troubles) and "needs rl.model" in troubles[-1])
        set_values(tmp_path, {"rl.model": "base"})
        await until(lambda: troubles[-1].endswith("start again"))
        set_values(tmp_path, {"mode": "skills_only"})
        await until(lambda: not troubles[-1])
    assert sum("NOT taken up" in line for line in said) == 2


@pytest.mark.anyio
async def test_a_link_that_leads_elsewhere_by_now_is_followed(tmp_path: Path):
    """So a mounted ConfigMap and the tools for dotfiles change a file: each change after the first went unseen."""
    home = tmp_path / "home"
    home.mkdir()
    said: list[str] = []

    def point_to(version: str) -> None:
        (tmp_path / version).write_text(WHOLE.replace("at-home", version))
        (home / "new").symlink_to(tmp_path / version)
        (home / "new").replace(home / "config.yaml")

    point_to("first")
    async with kept(home, said) as taken_up:
        for number, version in enumerate(("second", "third"), start=1):
            point_to(version)
            await until(lambda: len(taken_up) == number)  # noqa: B023 - it is called within this round alone
    assert [one.agents.named["private"].llm.model_id for one in taken_up] == ["second", "third"]
