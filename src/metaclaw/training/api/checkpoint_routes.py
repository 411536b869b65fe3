"""Tinker: what was trained and saved.

Owns the listing, publishing and deletion of checkpoints; refuses to know models in training. Invariant: only named
checkpoints are listed; those of a sampling session belong to that session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request

from metaclaw.training.api import wire
from metaclaw.training.api.checkpoints import CheckpointStore
from metaclaw.training.api.records import Checkpoint, CheckpointPath, Kind, TrainingRun, parse_path
from metaclaw.training.api.registry import Registry, View
from metaclaw.training.api.requests import body_of, page_of, tenant_of
from metaclaw.training.api.sampling import BaseModel

_RUN = "/training_runs/{model_id}"
_CHECKPOINT = "/training_runs/{model_id}/checkpoints/{kind}/{name}"
_TYPES: dict[Kind, Literal["training", "sampler", "external"]] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRoutes:
    """Handlers under ``/api/v1``."""

    checkpoints: CheckpointStore
    registry: Registry
    base: BaseModel
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/weights_info", self.weights_info, methods=["POST"])
        router.add_api_route("/training_runs", self.training_runs, methods=["GET"])
        router.add_api_route(_RUN, self.training_run, methods=["GET"])
        router.add_api_route(f"{_RUN}/checkpoints", self.checkpoints_of_run, methods=["GET"])
        router.add_api_route("/checkpoints", self.all_checkpoints, methods=["GET"])
        router.add_api_route(_CHECKPOINT, self.delete, methods=["DELETE"])
        router.add_api_route(f"{_CHECKPOINT}/publish", self.publish, methods=["POST"])
        router.add_api_route(f"{_CHECKPOINT}/publish", self.unpublish, methods=["DELETE"])
        router.add_api_route(f"{_CHECKPOINT}/ttl", self.set_ttl, methods=["PUT"])
        return router

    async def weights_info(self, request: Request) -> wire.WeightsInfo:
        asked = wire.parse(wire.WeightsInfoRequest, await body_of(request))
        lora = (await self.checkpoints.get(tenant_of(request), parse_path(asked.tinker_path))).lora
        return wire.WeightsInfo(
            base_model=self.base.name, lora_rank=lora.rank, train_unembed=lora.train_unembed,
            train_mlp=lora.train_mlp, train_attn=lora.train_attn,
        )  # fmt: skip

    async def training_runs(self, request: Request, limit: int = 20, offset: int = 0) -> wire.TrainingRunList:
        limit, offset = page_of(limit, offset)
        mine = self._mine(request)
        runs, total = await mine.runs.latest(limit, offset)
        return wire.TrainingRunList(
            training_runs=[await self._run_info(mine, run) for run in runs],
            cursor=wire.Cursor(offset=offset, limit=limit, total_count=total),
        )

    async def training_run(self, model_id: str, request: Request) -> wire.TrainingRunInfo:
        mine = self._mine(request)
        return await self._run_info(mine, await mine.runs.get(model_id))

    async def checkpoints_of_run(self, model_id: str, request: Request) -> wire.CheckpointList:
        mine = self._mine(request)
        await mine.runs.get(model_id)
        found, _ = await mine.checkpoints.latest(model_id=model_id)
        return wire.CheckpointList(checkpoints=[_info(checkpoint) for checkpoint in found])

    async def all_checkpoints(self, request: Request, limit: int = 100, offset: int = 0) -> wire.CheckpointList:
        limit, offset = page_of(limit, offset)
        found, total = await self._mine(request).checkpoints.latest(limit=limit, offset=offset)
        return wire.CheckpointList(
            checkpoints=[_info(checkpoint) for checkpoint in found],
            cursor=wire.Cursor(offset=offset, limit=limit, total_count=total),
        )

    async def delete(self, model_id: str, kind: str, name: str, request: Request) -> wire.Nothing:
        path = parse_path(f"tinker://{model_id}/{kind}/{name}")
        await self.checkpoints.delete(await self._mine(request).checkpoints.get(path))
        return wire.Nothing()

    async def publish(self, model_id: str, kind: str, name: str, request: Request) -> wire.Nothing:
        return await self._set_public(request, parse_path(f"tinker://{model_id}/{kind}/{name}"), True)

    async def unpublish(self, model_id: str, kind: str, name: str, request: Request) -> wire.Nothing:
        return await self._set_public(request, parse_path(f"tinker://{model_id}/{kind}/{name}"), False)

    async def set_ttl(self, model_id: str, kind: str, name: str, request: Request) -> wire.Nothing:
        asked = wire.parse(wire.SetTtl, await body_of(request))
        expires_at = None if asked.ttl_seconds is None else self.clock() + asked.ttl_seconds
        mine = self._mine(request).checkpoints
        checkpoint = await mine.get(parse_path(f"tinker://{model_id}/{kind}/{name}"))
        await mine.set_expiry(checkpoint.path, expires_at)
        return wire.Nothing()

    def _mine(self, request: Request) -> View:
        return self.registry.for_(tenant_of(request))

    async def _set_public(self, request: Request, path: CheckpointPath, is_public: bool) -> wire.Nothing:
        mine = self._mine(request).checkpoints
        await mine.set_public((await mine.get(path)).path, is_public)
        return wire.Nothing()

    async def _run_info(self, mine: View, run: TrainingRun) -> wire.TrainingRunInfo:
        training, _ = await mine.checkpoints.latest(model_id=run.model_id, kind="weights", limit=1)
        sampler, _ = await mine.checkpoints.latest(model_id=run.model_id, kind="sampler_weights", limit=1)
        return wire.TrainingRunInfo(
            training_run_id=run.model_id,
            base_model=self.base.name,
            lora_rank=run.lora.rank,
            last_request_time=_time(run.last_request_at),
            last_checkpoint=_info(training[0]) if training else None,
            last_sampler_checkpoint=_info(sampler[0]) if sampler else None,
            user_metadata={key: str(value) for key, value in run.metadata.items()},
        )


def _info(checkpoint: Checkpoint) -> wire.CheckpointInfo:
    path = checkpoint.path
    return wire.CheckpointInfo(
        checkpoint_id=f"{path.kind}/{path.name}",
        checkpoint_type=_TYPES[path.kind],
        time=_time(checkpoint.created_at),
        tinker_path=str(path),
        size_bytes=checkpoint.size_bytes,
        public=checkpoint.is_public,
        user_metadata=checkpoint.metadata,
        expires_at=None if checkpoint.expires_at is None else _time(checkpoint.expires_at),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
