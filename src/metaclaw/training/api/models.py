"""The models in training: their jobs in order, and what becomes of them when the engine dies.

Owns which model lives in which generation of the engine, and its lane; refuses to know the protocol's JSON and the
files of checkpoints. Invariant: the jobs of one model run one at a time in the order of their ``seq_id``; a job for a
model that is no longer in the engine fails with a sentence that says how to go on, and is never run on another one; and
a model takes the time of its owner, whoever asks.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from metaclaw.errors import EngineError, InvalidRequestError, NotFoundError, QuotaError, UpstreamError
from metaclaw.training.api.admission import Admission, Load, Ticket
from metaclaw.training.api.background import Background
from metaclaw.training.api.futures import Futures, Result
from metaclaw.training.api.jobs import Job, failure, run_job
from metaclaw.training.api.ordering import Lane
from metaclaw.training.api.records import Session
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.api.workers import Worker
from metaclaw.training.commands import CreateModel, EngineCommand, ForwardBackward, LoadModel, UnloadModel

CREATION = 0  # the seq_id of the job that makes a model; the SDK's own begin with 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Submitted:
    request_id: str
    job: Job
    ticket: Ticket


class LiveModel:
    """One model of this run of the server."""

    def __init__(self, model_id: str, session: Session) -> None:
        self.model_id = model_id
        self.session_id = session.session_id
        self.owner = session.owner
        self.generation: int | None = None  # of the engine that holds it; None before creation and after the end
        self.ended = ""  # why it is gone for good
        self.lane = Lane[_Submitted](CREATION)
        self.arrived = asyncio.Event()
        self.over = asyncio.Event()


class LiveModels:
    """All of them. Each has a loop of its own in the background."""

    def __init__(
        self, engine: Worker, registry: Registry, futures: Futures, tasks: Background, admission: Admission
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._futures = futures
        self._tasks = tasks
        self._admission = admission
        self._models: dict[str, LiveModel] = {}

    def submit(
        self,
        tenant: Tenant,
        model_id: str,
        seq_id: int,
        digest: bytes,
        load: Load,
        job: Callable[[LiveModel], Job],
    ) -> str:
        """Queue a job and return its request id at once; the same request again returns the same id.

        Raises ``NotFoundError``, ``ConflictError`` or ``OverloadedError``.
        """
        model = self._models.get(model_id)
        if model is None or not tenant.may_use(model.owner):
            raise NotFoundError(
                f"model {model_id[:120]!r} is not in training on this server: it was never made, its session ended, or "
                "the server was restarted; resume from a checkpoint with create_training_client_from_state"
            )
        identity = f"seq_id {seq_id} of model {model_id}"
        request_id = self._futures.find(identity, digest)
        if request_id is None:
            model.lane.admit(seq_id, load.size_bytes)
            ticket = self._admission.take("training", tenant, model.owner, load, place=model.lane.place(seq_id))
            request_id = self._futures.open(model.owner, identity, digest)
            model.lane.put(seq_id, _Submitted(request_id=request_id, job=job(model), ticket=ticket), load.size_bytes)
            model.arrived.set()
        return request_id

    def open(self, tenant: Tenant, model_id: str, session: Session) -> None:
        """Make room for a model that the next submitted job (``CREATION``) will make. Known ones stay as they are.

        Raises ``QuotaError`` when the key has as many models as it may.
        """
        if model_id not in self._models:
            self._check_quota(tenant)
            model = self._models[model_id] = LiveModel(model_id, session)
            self._tasks.start(self._run_lane(model))

    async def make(self, model: LiveModel, command: CreateModel | LoadModel) -> dict[str, Any]:
        """Create the model in the engine as it is now. Raises ``EngineError`` if its session ends meanwhile."""
        await self._engine.ready()
        if not self._is_open(model):
            raise await self._lost(model, model.ended)
        generation = self._engine.generation
        answer = await self._engine.call(command, generation=generation, share=model.owner)
        if not self._is_open(model):
            # Whoever ended the session saw no generation to unload it from.
            self._tasks.start(self._unload(model, generation))
            raise await self._lost(model, model.ended)
        model.generation, model.ended = generation, ""
        return answer

    async def call(self, model: LiveModel, command: EngineCommand) -> dict[str, Any]:
        """Run a command on a model that exists. Raises ``EngineError`` that names a checkpoint if it is lost.

        A pass ends with its model: nobody will take the gradients, and whoever ended it wants the device at once.
        """
        if model.generation is None:
            raise await self._lost(model, model.ended or "it could not be created")
        calling = self._engine.call(command, generation=model.generation, share=model.owner)
        try:
            if isinstance(command, ForwardBackward):
                return await self._unless_over(model, calling)
            return await calling
        except EngineError as error:
            if model.over.is_set() or (self._engine.state == "ready" and self._engine.generation == model.generation):
                raise
            model.generation, model.ended = None, "the engine process that held it has ended"
            raise await self._lost(model, model.ended) from error

    def end_session(self, session_id: str, reason: str) -> None:
        """Unload the models of a session. Jobs that wait for them fail."""
        for model in [model for model in self._models.values() if model.session_id == session_id]:
            self.end_model(model.model_id, reason)

    def end_model(self, model_id: str, reason: str) -> None:
        """Unload one model, if it is in training. Jobs that wait for it fail. Whose it is was asked before."""
        model = self._models.pop(model_id, None)
        if model is None:
            return
        generation, model.generation, model.ended = model.generation, None, reason
        model.arrived.set()
        model.over.set()
        if generation is not None:
            self._tasks.start(self._unload(model, generation))

    def answered(self, tenant: Tenant, result: Result) -> str:
        """A request id whose result is there already."""
        request_id = self._futures.open(tenant.key_id, f"answered {uuid.uuid4()}", b"")
        self._futures.finish(request_id, result)
        return request_id

    def sessions(self) -> set[str]:
        """Sessions that have models here."""
        return {model.session_id for model in self._models.values()}

    async def _run_lane(self, model: LiveModel) -> None:
        while self._is_open(model):
            submitted = model.lane.take()
            if submitted is None:
                model.arrived.clear()
                await model.arrived.wait()
            else:
                await run_job(self._futures, submitted.request_id, submitted.job)
                submitted.ticket.release()
        for submitted in model.lane.drain():
            submitted.ticket.release()
            lost = await self._lost(model, model.ended)
            self._futures.finish(submitted.request_id, failure(str(lost), "server"))

    def _check_quota(self, tenant: Tenant) -> None:
        quota = tenant.quotas.max_models
        mine = sorted(model.model_id for model in self._models.values() if model.owner == tenant.key_id)
        if quota is not None and len(mine) >= quota:
            raise QuotaError(
                f"key {tenant.name!r} has {len(mine)} models in training and its quota is {quota}: finish the session "
                f"of one of them ({', '.join(mine[:3])}), or have the quota raised"
            )

    def _is_open(self, model: LiveModel) -> bool:
        # By identity: a later model of the same id is not this one.
        return self._models.get(model.model_id) is model

    async def _unload(self, model: LiveModel, generation: int) -> None:
        try:
            command = UnloadModel(model_id=model.model_id)
            await self._engine.call(command, generation=generation, share=model.owner)
        except (EngineError, UpstreamError):
            return  # the process has ended, and the model with it
        except InvalidRequestError:
            return  # it was unloaded before

    async def _unless_over(self, model: LiveModel, call: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        calling, ending = asyncio.ensure_future(call), asyncio.ensure_future(model.over.wait())
        try:
            await asyncio.wait({calling, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                raise await self._lost(model, model.ended)
            return calling.result()
        finally:
            calling.cancel()  # which has the engine abandon it
            ending.cancel()

    async def _lost(self, model: LiveModel, why: str) -> EngineError:
        saved, _ = await self._registry.everything.checkpoints.latest(model_id=model.model_id, kind="weights", limit=1)
        advice = (
            f"resume from its last saved state {saved[0].path}"
            if saved
            else "no state of it was saved; start a new model"
        )
        return EngineError(f"model {model.model_id} is lost: {why}. {advice[0].upper()}{advice[1:]}.")
