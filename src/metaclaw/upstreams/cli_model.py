"""A subscription's model, by way of the vendor's own command-line program.

Owns the way from a chat request to a run of the program and back; refuses to know the vendors. Invariant: at most so
many runs as are allowed at once, each killed when its turn ends, is left, or falls silent; a program that wants to use
a tool is killed before anything happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.sse import DONE, encode_event
from metaclaw.deadlines import Within
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.proxy_variables import PROXY_VARIABLES
from metaclaw.upstreams.cli_programs import SYSTEM_FILE, CliEvent, Program
from metaclaw.upstreams.cli_prompt import CliPrompt, cli_prompt
from metaclaw.upstreams.cli_run import CliRun, RunFolder, start_run
from metaclaw.upstreams.model_client import NO_HEADERS
from metaclaw.upstreams.upstream import Timeouts

_CHAT = "openai.chat"
# What a program needs of our environment: where programs, certificates and proxies are; nothing that is a secret.
_KEPT = (
    "PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    *PROXY_VARIABLES,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CliSettings:
    """``command`` is a path or a name on PATH; without a ``token`` the program uses the user's own login."""

    name: str
    command: str
    token: SecretStr
    model_id: str
    max_concurrent: int
    timeouts: Timeouts
    folder: Path


class CliModel:
    """Asks one program."""

    def __init__(self, program: Program, settings: CliSettings) -> None:
        self._program = program
        self.settings = settings
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._runs: set[CliRun] = set()
        self._burials: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def dialects(self) -> tuple[str, ...]:
        return (_CHAT,)

    @property
    def is_strict(self) -> bool:
        return False

    @property
    def model_id(self) -> str:
        return self.settings.model_id

    async def models(self) -> list[JsonObject]:
        """The configured model; these programs list none."""
        return [{"id": self.model_id, "object": "model", "owned_by": self.name}] if self.model_id else []

    async def send(
        self, dialect: str, body: bytes, *, headers: Mapping[str, str] = NO_HEADERS, is_stream: bool = True
    ) -> CliReply:
        """Run the program; return once it has said something. Raises ``UpstreamError`` and ``InvalidRequestError``."""
        if dialect != _CHAT:
            raise InvalidRequestError(f"{self.name} speaks {_CHAT} only, not {dialect}")
        prompt = cli_prompt(json.loads(body), self.name)
        limit_s = self.settings.timeouts.begins_s(is_stream=is_stream)
        reply: CliReply | None = None
        try:
            async with asyncio.timeout(limit_s):
                await self._slots.acquire()
                try:
                    run = await self._start(prompt)
                except BaseException:
                    self._slots.release()
                    raise
                reply = CliReply(self, run, prompt, self._program)
                await run.ask(self._text(prompt))
                await reply.begin()
        except TimeoutError as error:
            _close(reply)
            raise UpstreamError(f"{self.name} said nothing for {limit_s:g} s", status=504) from error
        except BaseException:
            _close(reply)
            raise
        return reply

    async def close(self) -> None:
        """Kill what still runs, and return when nothing is left of it."""
        for run in list(self._runs):
            self.end(run)
        await asyncio.gather(*self._burials)

    def end(self, run: CliRun) -> None:
        """Kill ``run`` and make room for another; a second time does nothing."""
        if run not in self._runs:
            return
        self._runs.discard(run)
        run.kill()
        burial = asyncio.get_running_loop().create_task(run.bury())
        self._burials.add(burial)
        burial.add_done_callback(self._buried)

    def _buried(self, burial: asyncio.Task[None]) -> None:
        self._burials.discard(burial)
        self._slots.release()

    def _text(self, prompt: CliPrompt) -> str:
        if self._program.has_system_file or not prompt.system:
            return prompt.text
        return f"{prompt.system}\n\n{prompt.text}"

    async def _start(self, prompt: CliPrompt) -> CliRun:
        files = {**self._program.files, SYSTEM_FILE: prompt.system}
        if self.settings.token.get_secret_value():
            files |= self._program.token_files
        folder = await asyncio.to_thread(RunFolder, self.settings.folder, files)
        arguments = self._program.arguments(folder.path, prompt.model)
        run = await start_run(self.name, self.settings.command, arguments, self._environment(folder.path), folder)
        self._runs.add(run)
        return run

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        token = self.settings.token.get_secret_value()
        # With a token of its own the program has no use for the user's home; without one its login is there.
        home = str(folder) if token else str(Path.home())
        own = {self._program.token_variable: token} if token else {}
        return {**kept, "HOME": home, "TMPDIR": str(folder / "work"), **self._program.environment(folder), **own}


class CliReply:
    """An answer that has begun. Close it, read to the end or not."""

    def __init__(self, model: CliModel, run: CliRun, prompt: CliPrompt, program: Program) -> None:
        settings = model.settings
        self._model = model
        self._run: CliRun | None = run
        self._prompt = prompt
        self._program = program
        self._settings = settings
        self._read = program.reader()
        self._pending: list[CliEvent] = []
        self._is_over = False
        self._head: JsonObject = {
            "id": f"chatcmpl-{uuid4().hex}",
            "created": int(time.time()),
            "model": prompt.model or settings.model_id or settings.name,
        }
        self._chunks = self._streamed() if prompt.is_stream else self._whole()

    @property
    def status(self) -> int:
        return 200

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self._prompt.is_stream else "application/json"

    @property
    def headers(self) -> Mapping[str, str]:
        return NO_HEADERS

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes; asked again, what has not come yet. Raises ``UpstreamError`` when it breaks."""
        return self._chunks

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self._chunks])

    async def finish(self) -> None:
        """Nothing is used again."""

    def close(self) -> None:
        if self._run is not None:
            self._model.end(self._run)
            self._run = None

    async def begin(self) -> None:
        """Wait for the first words."""
        self._pending = await self._next_events()

    async def _events(self) -> AsyncGenerator[CliEvent]:
        while True:
            for event in self._pending:
                yield event
            if self._is_over:
                return
            try:
                with Within(self._settings.timeouts.gap_s):
                    self._pending = await self._next_events()
            except TimeoutError as error:
                message = f"{self._settings.name} fell silent for {self._settings.timeouts.gap_s:g} s"
                raise UpstreamError(message, status=504) from error

    async def _next_events(self) -> list[CliEvent]:
        while True:
            if self._run is None:
                raise UpstreamError(f"{self._settings.name} was closed", status=502)
            line = await self._run.next_line()
            if line is None:
                raise self._failure(await self._run.complaint(), None)
            events = self._read(line)
            for event in events:
                if event.tool is not None:
                    self.close()
                    raise UpstreamError(f"{self._settings.name} wanted to use a tool ({event.tool}): ended", status=502)
                if event.error is not None:
                    raise self._failure(event.error, event.status)
                self._is_over = self._is_over or event.finish_reason is not None
            if events:
                return events

    def _failure(self, text: str, status: int | None) -> UpstreamError:
        token = self._settings.token.get_secret_value()
        if status in (401, 403):
            why = f"it is not signed in (HTTP {status}): run `{self._program.login}`, or set llm.oauth_token"
            return UpstreamError(f"{self._settings.name} failed: {why}", status=status)
        said = (text.replace(token, "***") if token else text)[:1000]
        return UpstreamError(f"{self._settings.name} failed: {said}", status=status or 502, said=said)

    async def _streamed(self) -> AsyncGenerator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})
        async for event in self._events():
            if event.thinking:
                yield self._chunk({"reasoning_content": event.thinking})
            if event.text:
                yield self._chunk({"content": event.text})
            if event.finish_reason:
                yield self._chunk({}, event.finish_reason)
                if self._prompt.wants_usage and event.usage:
                    yield _encoded({**self._head, "object": _CHUNK, "choices": [], "usage": event.usage})
                yield encode_event(DONE)

    async def _whole(self) -> AsyncGenerator[bytes]:
        events = [event async for event in self._events()]
        message: JsonObject = {"role": "assistant", "content": "".join(event.text for event in events)}
        if thinking := "".join(event.thinking for event in events):
            message["reasoning_content"] = thinking
        last = events[-1]
        choice = {"index": 0, "message": message, "finish_reason": last.finish_reason, "logprobs": None}
        answer = {**self._head, "object": "chat.completion", "choices": [choice], "usage": last.usage}
        yield json.dumps(answer, separators=(",", ":")).encode()

    def _chunk(self, delta: JsonObject, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _encoded({**self._head, "object": _CHUNK, "choices": [choice]})


_CHUNK = "chat.completion.chunk"


def _encoded(chunk: JsonObject) -> bytes:
    return encode_event(json.dumps(chunk, separators=(",", ":")))


def _close(reply: CliReply | None) -> None:
    if reply is not None:
        reply.close()
