"""Tinker: making, training, saving and loading models.

Owns the translation of those requests into jobs of a model's lane; refuses to know order, retries (``models``) and
files (``checkpoints``). Invariant: once a request's model and number are known it is queued, and whatever is wrong
with the rest of it is that job's failure: refused at the door, it would leave a gap that all later ones wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api import wire
from metaclaw.training.api.admission import Load
from metaclaw.training.api.checkpoints import CheckpointStore, SaveOptions
from metaclaw.training.api.codec import encode_forward_backward
from metaclaw.training.api.futures import Result
from metaclaw.training.api.jobs import PROTOBUF, Job, json_result
from metaclaw.training.api.json_dialect import forward_backward_json, read_pass
from metaclaw.training.api.models import CREATION, LiveModel, LiveModels
from metaclaw.training.api.records import (
    Checkpoint,
    CheckpointPath,
    Kind,
    LoraShape,
    SamplingSession,
    TrainingRun,
    checkpoint_name,
    parse_path,
)
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.requests import body_of, digest_of, is_near, tenant_of
from metaclaw.training.api.sampling import BaseModel
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.commands import CreateModel, LoadModel, OptimStep

_MIN_TTL_S, _MAX_TTL_S = 3600, 10 * 366 * 86400
_EPHEMERAL_TTL_S = 7 * 86400  # weights of a sampling session that nobody named


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRoutes:
    """Handlers under ``/api/v1``."""

    models: LiveModels
    checkpoints: CheckpointStore
    registry: Registry
    base: BaseModel
    max_rank: int
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/create_model", self.create_model, methods=["POST"])
        router.add_api_route("/get_info", self.get_info, methods=["POST"])
        router.add_api_route("/forward_backward", self.forward_backward, methods=["POST"])
        router.add_api_route("/forward", self.forward, methods=["POST"])
        router.add_api_route("/unload_model", self.unload_model, methods=["POST"])
        router.add_api_route("/optim_step", self.optim_step, methods=["POST"])
        router.add_api_route("/save_weights", self.save_weights, methods=["POST"])
        router.add_api_route("/save_weights_for_sampler", self.save_for_sampler, methods=["POST"])
        router.add_api_route("/save_weights_external", self.save_external, methods=["POST"])
        router.add_api_route("/load_weights", self.load_weights, methods=["POST"])
        return router

    async def create_model(self, request: Request) -> wire.Submitted:
        body = await body_of(request)
        asked = wire.parse(wire.CreateModelRequest, body)
        self.base.check(asked.base_model)
        _check_optimizer(asked.optimizer_config)
        lora = self._lora(asked.lora_config or wire.Lora(rank=32))
        model_id = await self._open(request, asked.session_id, asked.model_seq_id)

        async def create(model: LiveModel) -> Result:
            await self.models.make(
                model,
                CreateModel(
                    model_id=model_id, rank=lora.rank, seed=asked.lora_config.seed if asked.lora_config else None,
                    train_mlp=lora.train_mlp, train_attn=lora.train_attn, train_unembed=lora.train_unembed,
                ),
            )  # fmt: skip
            await self._record(model, lora, asked.user_metadata)
            return json_result(wire.ModelMade(model_id=model_id))

        return await self._submit(request, model_id, CREATION, body, create)

    async def get_info(self, request: Request) -> wire.ModelInfo:
        asked = wire.parse(wire.GetInfo, await body_of(request))
        run = await self.registry.for_(tenant_of(request)).runs.get(asked.model_id)
        tokenizer_id = self.base.directory if is_near(request) else self.base.public_name
        data = wire.ModelData(model_name=self.base.name, tokenizer_id=tokenizer_id)
        return wire.ModelInfo(
            model_id=run.model_id, model_data=data, model_name=self.base.name, lora_rank=run.lora.rank
        )

    async def forward_backward(self, request: Request) -> wire.Submitted:
        return await self._pass(request, forward_only=False)

    async def forward(self, request: Request) -> wire.Submitted:
        """A route of its own in SDKs before 0.25; later ones say so in the message."""
        return await self._pass(request, forward_only=True)

    async def _pass(self, request: Request, *, forward_only: bool) -> wire.Submitted:
        body = await body_of(request)
        content_type = request.headers.get("content-type", "")
        asked = await asyncio.to_thread(lambda: read_pass(body, content_type, forward_only=forward_only))

        async def run(model: LiveModel) -> Result:
            command = await asyncio.to_thread(asked.command)
            answer = await self.models.call(model, command)
            encoded = await asyncio.to_thread(encode_forward_backward, answer["logprobs"], answer["metrics"])
            return Result(body=encoded, media_type=PROTOBUF, as_json=forward_backward_json)

        return await self._submit(request, asked.model_id, asked.seq_id, body, run, num_tokens=asked.num_tokens)

    async def unload_model(self, request: Request) -> wire.Submitted:
        """Of SDKs before 0.38. What waits for the model fails; its checkpoints stay."""
        asked = wire.parse(wire.GetInfo, await body_of(request))
        tenant = tenant_of(request)
        await self.registry.for_(tenant).runs.get(asked.model_id)
        self.models.end_model(asked.model_id, "it was unloaded by its client")
        done = json_result(wire.ModelMade(model_id=asked.model_id))
        return wire.Submitted(request_id=self.models.answered(tenant, done), model_id=asked.model_id)

    async def optim_step(self, request: Request) -> wire.Submitted:
        body = await body_of(request)
        asked = wire.parse_fields(wire.Sequenced, body)

        async def step(model: LiveModel) -> Result:
            parsed = wire.parse_fields(wire.OptimStepRequest, body)
            if parsed.optimizer_params is not None:
                raise InvalidRequestError(f"optimizer {parsed.optimizer_params.type!r} is not supported; use Adam")
            adam = parsed.adam_params or wire.Adam()
            answer = await self.models.call(model, OptimStep(model_id=model.model_id, **adam.model_dump()))
            return json_result(wire.OptimStepDone(metrics=answer["metrics"]))

        return await self._submit(request, asked.model_id, asked.seq_id, body, step)

    async def save_weights(self, request: Request) -> wire.Submitted:
        tenant, body = tenant_of(request), await body_of(request)
        asked = wire.parse_fields(wire.Sequenced, body)

        async def save(model: LiveModel) -> Result:
            parsed = wire.parse_fields(wire.SaveWeights, body)
            name = parsed.path if parsed.path is not None else f"step-{asked.seq_id}"
            checkpoint = await self._save(tenant, model, "weights", name, parsed)
            return json_result(wire.Saved(path=str(checkpoint.path)))

        return await self._submit(request, asked.model_id, asked.seq_id, body, save)

    async def save_external(self, request: Request) -> wire.Submitted:
        """For programs elsewhere: PEFT's format, to be downloaded."""
        tenant, body = tenant_of(request), await body_of(request)
        asked = wire.parse_fields(wire.Sequenced, body)

        async def save(model: LiveModel) -> Result:
            parsed = wire.parse_fields(wire.SaveExternal, body)
            if parsed.age_encryption_recipients:
                raise InvalidRequestError(
                    "age_encryption_recipients is not supported by this server; files are kept as they are"
                )
            if parsed.path is None:
                raise InvalidRequestError("path is missing: give the external weights a name")
            checkpoint = await self._save(tenant, model, "external_weights", parsed.path, parsed)
            return json_result(wire.Saved(path=str(checkpoint.path)))

        return await self._submit(request, asked.model_id, asked.seq_id, body, save)

    async def save_for_sampler(self, request: Request) -> wire.Submitted:
        """With a name: a checkpoint. Without: the weights of one sampling session, which is the answer."""
        tenant, body = tenant_of(request), await body_of(request)
        asked = wire.parse_fields(wire.Sequenced, body)

        async def save(model: LiveModel) -> Result:
            parsed = wire.parse_fields(wire.SaveForSampler, body)
            if parsed.kind != "snapshot":
                raise InvalidRequestError(f"kind {parsed.kind!r} is not supported; save a snapshot")
            if parsed.path is not None:
                checkpoint = await self._save(tenant, model, "sampler_weights", parsed.path, parsed)
                return json_result(wire.Saved(path=str(checkpoint.path)))
            return json_result(await self._save_for_session(tenant, model, parsed))

        return await self._submit(request, asked.model_id, asked.seq_id, body, save)

    async def load_weights(self, request: Request) -> wire.Submitted:
        """Into an existing model (``model_id``, ``seq_id``), or as the first job of a new one."""
        tenant, body = tenant_of(request), await body_of(request)
        asked = wire.parse(wire.LoadWeights, body)
        model_id, seq_id = asked.model_id, asked.seq_id
        if asked.session_id is not None and asked.model_seq_id is not None:
            model_id, seq_id = await self._open(request, asked.session_id, asked.model_seq_id), CREATION
        if model_id is None or seq_id is None:
            raise InvalidRequestError("send model_id with seq_id, or session_id with model_seq_id")

        async def load(model: LiveModel) -> Result:
            checkpoint = await self._training_checkpoint(tenant, asked)
            directory = str(checkpoint.directory)
            await self.models.make(
                model, LoadModel(model_id=model.model_id, directory=directory, with_optimizer=asked.optimizer)
            )
            if seq_id == CREATION:
                await self._record(model, checkpoint.lora, asked.user_metadata)
            return json_result(wire.ModelMade(model_id=model.model_id, path=asked.path))

        return await self._submit(request, model_id, seq_id, body, load)

    async def _submit(
        self,
        request: Request,
        model_id: str,
        seq_id: int,
        body: bytes,
        run: Callable[[LiveModel], Awaitable[Result]],
        *,
        num_tokens: int = 0,
    ) -> wire.Submitted:
        tenant, digest = tenant_of(request), await digest_of(body)

        def job(model: LiveModel) -> Job:
            return lambda: run(model)

        load = Load(requests=1, tokens=num_tokens, size_bytes=len(body))
        request_id = self.models.submit(tenant, model_id, seq_id, digest, load, job)
        await self.registry.for_(tenant).runs.used(model_id, self.clock())
        return wire.Submitted(request_id=request_id, model_id=model_id)

    async def _open(self, request: Request, session_id: str, model_seq_id: int) -> str:
        tenant = tenant_of(request)
        session = await self.registry.for_(tenant).sessions.get(session_id)
        if session.finished_at is not None:
            raise InvalidRequestError(f"session {session_id} was finished by its client; make a new one")
        # The SDK computes this id itself when it makes a model by loading one.
        model_id = f"{session_id}:train:{model_seq_id}"
        self.models.open(tenant, model_id, session)
        return model_id

    def _lora(self, asked: wire.Lora) -> LoraShape:
        if not 1 <= asked.rank <= self.max_rank:
            raise InvalidRequestError(
                f"rank {asked.rank} is not possible here; choose 1 to {self.max_rank}", param="rank"
            )
        if not (asked.train_mlp or asked.train_attn or asked.train_unembed):
            raise InvalidRequestError("one of train_mlp, train_attn and train_unembed must be true")
        return LoraShape(
            rank=asked.rank, train_mlp=asked.train_mlp, train_attn=asked.train_attn, train_unembed=asked.train_unembed
        )

    async def _record(self, model: LiveModel, lora: LoraShape, metadata: dict[str, object] | None) -> None:
        now = self.clock()
        run = TrainingRun(
            model_id=model.model_id, session_id=model.session_id, lora=lora, metadata=metadata or {}, created_at=now,
            last_request_at=now,
        )  # fmt: skip
        await self.registry.everything.runs.add(run)

    async def _save(
        self, tenant: Tenant, model: LiveModel, kind: Kind, name: str, asked: wire.SaveWeights
    ) -> Checkpoint:
        ttl_s = asked.ttl_seconds
        if ttl_s is not None and not _MIN_TTL_S <= ttl_s <= _MAX_TTL_S:
            raise InvalidRequestError(f"ttl_seconds is {ttl_s}; choose {_MIN_TTL_S} to {_MAX_TTL_S}, or leave it out")
        path = CheckpointPath(model_id=model.model_id, kind=kind, name=checkpoint_name(name))
        expires_at = None if ttl_s is None else self.clock() + ttl_s
        return await self.checkpoints.save(
            tenant, model, path, SaveOptions(expires_at=expires_at, metadata=asked.user_metadata or {})
        )

    async def _save_for_session(
        self, tenant: Tenant, model: LiveModel, asked: wire.SaveForSampler
    ) -> wire.SamplingSessionMade:
        if asked.sampling_session_seq_id is None:
            raise InvalidRequestError("send path, or sampling_session_seq_id for weights without a name")
        sampling_id = f"{model.session_id}:sample:{asked.sampling_session_seq_id}"
        path = CheckpointPath(
            model_id=model.model_id, kind="sampler_weights", name=f"session@{asked.sampling_session_seq_id}"
        )
        options = SaveOptions(expires_at=self.clock() + _EPHEMERAL_TTL_S, metadata={}, is_ephemeral=True)
        await self.checkpoints.save(tenant, model, path, options)
        await self.registry.everything.sampling_sessions.add(
            SamplingSession(sampling_session_id=sampling_id, session_id=model.session_id, path=path)
        )
        return wire.SamplingSessionMade(sampling_session_id=sampling_id)

    async def _training_checkpoint(self, tenant: Tenant, asked: wire.LoadWeights) -> Checkpoint:
        if asked.base_model is not None:
            self.base.check(asked.base_model)
        if asked.optimizer_config is not None:
            _check_optimizer(asked.optimizer_config)
        path = parse_path(asked.path)
        if path.kind != "weights":
            raise InvalidRequestError(
                f"{path} holds an adapter without its optimiser; training goes on from a path of kind 'weights'"
            )
        return await self.checkpoints.get(tenant, path)


def _check_optimizer(asked: wire.Optimizer) -> None:
    if asked.type != "adamw":
        raise InvalidRequestError(f"optimizer {asked.type!r} is not supported; use adamw")
