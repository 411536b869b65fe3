"""Which policy answers a turn, and how it is sampled.

Owns the choice of the version and the policy's sampling settings; refuses to know HTTP to the
client. Invariant: a turn names one exact version, and its session keeps that version.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from metaclaw.chat.dialect import ClientRequest
from metaclaw.chat.messages import JsonObject
from metaclaw.config import RlSettings
from metaclaw.errors import UpstreamError
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.policy_history import PolicyHistory
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.serving import BASE_VERSION, ServingReader
from metaclaw.journal.turns import TurnJournal
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.pulse import Pulse

MIN_TRAINABLE_TEMPERATURE = 0.3  # colder, the draws say too little about the alternatives
_WHOLE_DISTRIBUTION = {"top_p": 1, "top_k": -1}
_LOOK_S = 5.0  # its list of models is ready, whatever else it does
_AT_CLOUDS = 1.0  # the one temperature that they train at


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """The version that a turn is sent to; ``model`` is its exact name on the training server."""

    agent: str
    version: int
    model: str
    untrainable: str | None = None

    @property
    def label(self) -> str:
        return f"{self.agent}@{self.version}"


class Policy:
    """The policies of all agents, behind the training server's OpenAI endpoint."""

    def __init__(
        self,
        upstream: HttpModel,
        serving: ServingReader,
        journal: TurnJournal,
        recording: RecordingPath,
        history: PolicyHistory,
        settings: RlSettings,
    ) -> None:
        self.upstream = upstream
        self.history = history
        self._serving = serving
        self._journal = journal
        self._recording = recording
        self._settings = settings
        self._base_model: str | None = None
        self.pulse = Pulse(upstream.name, self._look, clock=time.monotonic)

    async def close(self) -> None:
        """Stop looking after the training server."""
        await self.pulse.close()

    async def choose(self, caller: Caller, request: ClientRequest, *, now: float) -> PolicyChoice:
        """The version for this turn: its session's own, or the one that serves now. Raises ``UpstreamError``."""
        fresh = (await self._serving.serving(caller.agent)).for_session(caller.session)
        idle_s = self._settings.session_idle_s
        version = await self._recording.attempt(
            "pin a session to its version",
            lambda: self._journal.pin_session(caller.agent, caller.session, fresh, now=now, idle_s=idle_s),
            fresh,
        )
        return await self._choice(caller, request, version)

    async def choose_again(
        self, refused: PolicyChoice, caller: Caller, request: ClientRequest, *, now: float
    ) -> PolicyChoice | None:
        """What to ask instead of a version that the server does not have (any more); ``None`` when nothing is left."""
        self._base_model = None  # the server may have been started anew with another one
        serving = await self._serving.serving_version(caller.agent)
        choice = await self._choice(caller, request, serving)
        if choice.model == refused.model:
            return None
        await self._recording.attempt(
            "pin a session to another version",
            lambda: self._journal.repin_session(caller.agent, caller.session, choice.version, now=now),
            None,
        )
        return choice

    async def serving_version(self, agent: str) -> int:
        return await self._serving.serving_version(agent)

    async def body(self, request: ClientRequest, choice: PolicyChoice, caller: Caller) -> JsonObject:
        """A chat request as the training server gets it, with the policy's own tokens of its earlier answers."""
        changes: JsonObject = {"model": choice.model, "messages": await self._with_tokens(request, caller)}
        if request.temperature is None:
            changes["temperature"] = self._settings.temperature
        if request.body.get("max_tokens") is None and request.body.get("max_completion_tokens") is None:
            changes["max_tokens"] = self._settings.max_tokens
        if request.num_answers == 1:
            changes["return_policy_record"] = True
        if caller.kind == "main":
            changes |= _WHOLE_DISTRIBUTION
            if self._is_heated(request):
                changes["temperature"] = _AT_CLOUDS
        return {**request.body, **changes}

    def sampling_note(self, request: ClientRequest, caller: Caller) -> str | None:
        """What to tell a client that is sampled otherwise than it asked; ``None`` when nothing differs."""
        if caller.kind != "main":
            return None
        notes = list[str]()
        if self._is_heated(request) and request.temperature not in (None, _AT_CLOUDS):
            notes.append(f"temperature={_AT_CLOUDS:g}")
        if request.body.get("top_p") not in (None, 1) or request.body.get("top_k") not in (None, -1, 0):
            notes.append("top_p=1,top_k=-1")
        return ",".join(notes) or None

    def _is_heated(self, request: ClientRequest) -> bool:
        """Whether a turn is sampled at the clouds' temperature, so that it can be trained on."""
        temperature = _temperature(request, self._settings)
        return self._settings.is_cloud and temperature >= MIN_TRAINABLE_TEMPERATURE

    async def _with_tokens(self, request: ClientRequest, caller: Caller) -> list[JsonObject]:
        return await self._recording.attempt(
            "find the tokens of earlier answers",
            lambda: self.history.with_tokens(request.messages, caller.agent, caller.session),
            request.messages,
        )

    async def _choice(self, caller: Caller, request: ClientRequest, version: int) -> PolicyChoice:
        path = None if version == BASE_VERSION else await self._serving.sampler_path(caller.agent, version)
        return PolicyChoice(
            agent=caller.agent,
            version=BASE_VERSION if path is None else version,
            model=path or await self._base_name(),
            untrainable=_untrainable(caller, request, self._settings),
        )

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self.upstream.models()
        except UpstreamError as error:
            if error.status is None:
                raise  # a refusal is an answer

    async def _base_name(self) -> str:
        if self._base_model is None:
            names = [model.get("id") for model in await self.upstream.models()]
            if not names or not isinstance(names[0], str):
                raise UpstreamError(f"{self.upstream.name} lists no model", status=502)
            self._base_model = names[0]
        return self._base_model


def _temperature(request: ClientRequest, settings: RlSettings) -> float:
    return settings.temperature if request.temperature is None else request.temperature


def _untrainable(caller: Caller, request: ClientRequest, settings: RlSettings) -> str | None:
    if caller.kind == "side":
        return "side turn"
    temperature = _temperature(request, settings)
    if temperature < MIN_TRAINABLE_TEMPERATURE:
        return f"temperature {temperature:g} is below {MIN_TRAINABLE_TEMPERATURE:g}"
    return None
