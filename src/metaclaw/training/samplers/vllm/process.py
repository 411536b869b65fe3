"""The sampler's process when vLLM makes the tokens: frames in and out, requests to vLLM in between.

Owns the loop and what each command does; refuses to know torch, HTTP and how tokens are made. Invariants: every
command is answered; nothing that one command does ends the loop; and when vLLM can serve no longer, the process says
why and ends, so that its parent starts both again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import aiohttp
from tokenizers import Tokenizer

from metaclaw.errors import EngineError, InvalidRequestError
from metaclaw.rendering.tokenizer import load_tokenizer
from metaclaw.training.commands import (
    Cancel,
    Command,
    Generate,
    LoadAdapter,
    UnloadAdapter,
    WorkerReady,
    parse_command,
)
from metaclaw.training.failures import error_body
from metaclaw.training.model_identity import base_digest, read_facts
from metaclaw.training.samplers.limits import Limits
from metaclaw.training.samplers.vllm.adapters import VllmAdapters
from metaclaw.training.samplers.vllm.generation import Generations
from metaclaw.training.samplers.vllm.options import VllmOptions
from metaclaw.training.samplers.vllm.server import VllmServer
from metaclaw.training.samplers.vllm.turns import Turns

Frame = dict[str, Any]

_DEFAULT_CONTEXT = 2048  # of models that state no limit
_HELD_LORAS = 40  # in vLLM's memory: what the API keeps loaded, and those that are being replaced

_log = logging.getLogger(__name__)


class Frames(Protocol):
    """What the loop needs of ``metaclaw.training.channel.Channel``."""

    def receive(self, timeout_s: float | None = None) -> Frame | None: ...

    def send(self, frame: Frame) -> None: ...


def start_vllm(config: dict[str, Any], channel: Frames) -> tuple[dict[str, Any], VllmLoop]:
    """Start vLLM as ``config`` says; returns what is told of the model, and the loop that serves it."""
    runner = asyncio.Runner()
    options, ready = describe(config)
    scratch = Path(config["scratch"])
    shutil.rmtree(scratch, ignore_errors=True)  # copies of adapters that a killed process left
    scratch.mkdir(mode=0o700, parents=True)
    session, server = runner.run(_start(options, scratch))
    return asdict(ready), VllmLoop(runner, session, server, ready, options, config, channel)


def describe(config: dict[str, Any]) -> tuple[VllmOptions, WorkerReady]:
    """How vLLM is started, and what the API is told of the model, from the start frame."""
    path = Path(config["base_model"])
    facts = read_facts(path)
    own_context = facts.own_context or config["max_context"] or _DEFAULT_CONTEXT
    is_cpu = bool(config["is_cpu"])
    if not is_cpu and config["device"] == "cpu":
        raise EngineError(f"train_server.inference_devices is 'cpu', and the vLLM of {config['python']} is the GPU's")
    ready = WorkerReady(
        vocab_size=facts.vocab_size,
        max_context=min(own_context, config["max_context"]) if config["max_context"] else own_context,
        end_tokens=facts.end_tokens,
        architecture=facts.architecture,
        base_digest=base_digest(path),
        tied_embeddings=facts.tied_embeddings,
        device="cpu" if is_cpu else "cuda:0",
        dtype=("float32" if is_cpu else "bfloat16") if config["dtype"] == "auto" else config["dtype"],
    )
    options = VllmOptions(
        python=Path(config["python"]),
        base_model=path,
        dtype=ready.dtype,
        is_cpu=is_cpu,
        max_context=ready.max_context,
        max_concurrent=config["max_concurrent"],
        max_lora_rank=config["max_lora_rank"],
        max_loras=config["max_loras"],
        max_held_loras=_HELD_LORAS,
        threads=config["threads"],
        kv_cache_gb=config["kv_cache_gb"],
        num_devices=config["num_devices"],
        seed=secrets.randbits(31),
        lora_layers=facts.linear_layers,
        extra_arguments=tuple(config["extra_arguments"]),
    )
    return options, ready


async def _start(options: VllmOptions, scratch: Path) -> tuple[aiohttp.ClientSession, VllmServer]:
    connector = aiohttp.TCPConnector(limit=0)  # vLLM itself bounds what runs at once
    session = aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=30), read_bufsize=1 << 20
    )
    try:
        return session, await VllmServer.start(options, session, scratch=scratch)
    except BaseException:
        await session.close()
        raise


class VllmLoop:
    """Serves ``SamplerCommand`` frames until vLLM ends."""

    def __init__(
        self,
        runner: asyncio.Runner,
        session: aiohttp.ClientSession,
        server: VllmServer,
        ready: WorkerReady,
        options: VllmOptions,
        config: dict[str, Any],
        channel: Frames,
    ) -> None:
        self._runner = runner
        self._session = session
        self._server = server
        self._channel = channel
        self._adapters = VllmAdapters(
            server.client,
            base_digest=ready.base_digest,
            max_rank=options.max_lora_rank,
            scratch=Path(config["scratch"]) / "adapters",
        )
        self._generations = Generations(
            completions=server.client,
            limits=Limits(vocab_size=ready.vocab_size, max_context=ready.max_context, end_tokens=ready.end_tokens),
            decode=_Text(options.base_model).decode,
        )
        self._turns = Turns(options.max_concurrent)
        self._jobs: dict[int, asyncio.Task[None]] = {}

    def run(self) -> None:
        """Serve until vLLM can no longer; the reason is the last frame."""
        reason = self._runner.run(self._serve())
        self._channel.send({"id": 0, "error": error_body(EngineError(reason))})

    async def _serve(self) -> str:
        frames: asyncio.Queue[Frame] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop, frames), name="commands", daemon=True).start()
        taking = asyncio.create_task(self._take_all(frames))
        try:
            return await self._server.watch()
        finally:
            for task in (taking, *self._jobs.values()):
                task.cancel()
            await self._server.stop()
            await self._session.close()

    def _listen(self, loop: asyncio.AbstractEventLoop, frames: asyncio.Queue[Frame]) -> None:
        while (frame := self._channel.receive()) is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the process with it
                loop.call_soon_threadsafe(frames.put_nowait, frame)

    async def _take_all(self, frames: asyncio.Queue[Frame]) -> None:
        while True:
            frame = await frames.get()
            task = asyncio.create_task(self._job(frame))
            self._jobs[frame["id"]] = task
            task.add_done_callback(lambda _, frame_id=frame["id"]: self._jobs.pop(frame_id, None))

    async def _job(self, frame: Frame) -> None:
        try:
            answer = await self._obey(frame, parse_command(frame))
        except asyncio.CancelledError:
            self._channel.send({"id": frame["id"], "ok": {"cancelled": True}})
            raise
        except Exception as error:  # noqa: BLE001 - the job boundary: the caller is told, the loop goes on
            body = error_body(_cause(error))
            if not body["caller_fault"]:
                _log.error("command %r failed: %s", frame.get("op"), body["message"])
            answer = {"error": body}
        self._channel.send({"id": frame["id"], **answer})

    async def _obey(self, frame: Frame, command: Command) -> Frame:
        match command:
            case Generate():
                await self._generate(frame, command)
            case LoadAdapter(adapter_id=adapter_id, directory=directory):
                await self._adapters.load(adapter_id, Path(directory))
            case UnloadAdapter(adapter_id=adapter_id):
                await self._adapters.unload(adapter_id)
            case Cancel(target=target):
                if task := self._jobs.get(target):
                    task.cancel()
                    await asyncio.wait([task])
            case _:
                raise InvalidRequestError(f"{frame['op']!r} is not a command of the sampler")
        return {"ok": {}}

    async def _generate(self, frame: Frame, command: Generate) -> None:
        self._generations.check(command)
        share = str(frame.get("share", ""))

        def turn() -> AbstractAsyncContextManager[None]:
            return self._turns.turn(share)

        def emit(event: Frame) -> None:
            self._channel.send({"id": frame["id"], **event})

        async with self._adapters.in_use(command.adapter_id) as model:
            await self._generations.run(command, model, emit, turn)


def _cause(error: Exception) -> Exception:
    """The first failure of several samples."""
    if isinstance(error, ExceptionGroup):
        return _cause(cast("ExceptionGroup[Exception]", error).exceptions[0])
    return error


class _Text:
    """Tokens as text. The tokenizer is read when the first request with stop strings needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def decode(self, tokens: Sequence[int]) -> str:
        return self._decoder(list(tokens))

    @cached_property
    def _decoder(self) -> Callable[[list[int]], str]:
        file = self._folder / "tokenizer.json"
        if file.is_file():
            fast = Tokenizer.from_file(str(file))
            return lambda tokens: str(fast.decode(tokens, skip_special_tokens=False))
        slow = load_tokenizer(self._folder)  # which needs transformers: seconds, and hundreds of megabytes
        return lambda tokens: slow.decode(tokens, skip_special_tokens=False)
