"""The process that has the SDK: its secrets, its end, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from metaclaw.clouds.child import SdkChild, SdkError
from metaclaw.clouds.cloud import Cloud, cloud_of
from metaclaw.config import RlSettings
from metaclaw.errors import ConfigError, MissingExtraError

pytestmark = pytest.mark.anyio

KEY = "tml-a-key-that-nobody-may-see"
NOBODY = "http://127.0.0.1:9"  # refused on any machine that tests run on


def child(python: Path | str = sys.executable, *, timeout_s: float = 60.0) -> SdkChild:
    return SdkChild(Cloud(name="tinker", api_key=KEY, base_url=NOBODY, python=Path(python), timeout_s=timeout_s))


def our_children() -> list[psutil.Process]:
    found = list[psutil.Process]()
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            found += [each] if "metaclaw.clouds" in " ".join(each.cmdline()) else []
    return found


async def test_the_key_is_in_neither_arguments_nor_environment_and_the_credential_command_is_gone(
    monkeypatch, tmp_path
):
    """A server's answer can make the SDK run that command in a shell."""
    monkeypatch.setenv("TINKER_CREDENTIAL_CMD", f"touch {tmp_path}/ran")
    monkeypatch.setenv("METACLAW_RL_API_KEY", KEY)
    asked = child()
    with pytest.raises(SdkError, match="no such operation"):
        await asked.call("nothing")
    (process,) = our_children()
    assert KEY not in " ".join(process.cmdline())
    environment = process.environ()
    assert not [name for name, value in environment.items() if KEY in value or name.startswith("METACLAW")]
    assert "TINKER_CREDENTIAL_CMD" not in environment
    assert environment["TINKER_TELEMETRY"] == "0"
    await asked.close()
    assert our_children() == []
    assert not (tmp_path / "ran").exists()


async def test_who_waits_when_it_dies_is_told_and_the_next_call_starts_another():
    asked = child()
    waiting = asyncio.create_task(asked.call("models"))  # the SDK tries for minutes to reach it
    while not our_children():  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(0.01)
    assert not waiting.done()
    our_children()[0].kill()
    with pytest.raises(SdkError, match="its process ended"):
        await waiting
    with pytest.raises(SdkError, match="started anew, what it held is lost"):
        await asked.call("optim_step", generation=1, run=1)
    with pytest.raises(SdkError, match="no such operation"):
        await asked.call("nothing")
    assert asked.generation == 2
    await asked.close()


async def test_a_cloud_that_does_not_answer_is_given_up_in_time_and_an_sdk_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SdkError, match=r"models at tinker \(http://127.0.0.1:9\) took too long \(rl\.remote_timeout_s"):
        await (slow := child(timeout_s=1.0)).call("models")
    await slow.close()
    with pytest.raises(SdkError, match=r"nothing-here cannot be started"):
        await child(tmp_path / "nothing-here").call("models")
    empty = tmp_path / "python"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    empty.chmod(0o755)
    with pytest.raises(
        SdkError, match=r"starting the SDK of tinker with .*: it has no SDK \(No module.*rl\.sdk_python"
    ):
        await child(empty).call("models")
    assert our_children() == []


def test_what_is_missing_is_named_with_the_setting_that_changes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("METACLAW_CACHE", str(tmp_path))
    key = SecretStr("sk-1")
    assert cloud_of(RlSettings()) is None
    with pytest.raises(ConfigError, match=r"rl\.api_key is empty: write your key of mint, or set MINT_API_KEY"):
        cloud_of(RlSettings(backend="mint"))
    with pytest.raises(
        MissingExtraError, match=r"`metaclaw sdk prepare weaver`, or name .*nex-weaver.* rl\.sdk_python"
    ):
        cloud_of(RlSettings(backend="weaver", api_key=key))
    with pytest.raises(ConfigError, match=r"rl\.sdk_python: there is no program"):
        cloud_of(RlSettings(backend="weaver", api_key=key, sdk_python=tmp_path / "python"))
    cloud = cloud_of(RlSettings(backend="tinker", api_key=key))
    assert cloud is not None
    assert cloud.python == Path(sys.executable)
    assert "sk-1" not in repr(cloud)
