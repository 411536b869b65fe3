"""Training at a cloud, through the process that has its SDK.

Owns the form of the data and the errors; refuses to know which SDK that is. Invariant: what a cloud cannot be told
(a sampling temperature other than 1) is refused before it is sent, and a process that was started anew is never taken
for the one that held a run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metaclaw.clouds.child import SdkChild, SdkError, packed, unpacked
from metaclaw.clouds.cloud import cloud_of
from metaclaw.config import RlSettings
from metaclaw.errors import BackendError, ConfigError
from metaclaw.learner.backends import model_size
from metaclaw.learner.backends.backend import LostStateError, Pass, RefusedDataError, SavedWeights
from metaclaw.learner.backends.patience import patience
from metaclaw.learner.datums import AnyGroup, Datum, DatumGroup, Floats

_TEMPERATURE = "temperature"  # of our engine's losses alone
_CLOSE_TIMEOUT_S = 1.5


def create(settings: RlSettings) -> CloudBackend:
    """The backend for a cloud. Raises ``ConfigError`` without a key, ``MissingExtraError`` without the SDK's Python."""
    cloud = cloud_of(settings)
    if cloud is None:
        raise ConfigError(f"rl.backend {settings.backend!r} is no training cloud")
    if not settings.model:
        raise ConfigError("rl.model is empty: name the base model, as the cloud calls it")
    return CloudBackend(SdkChild(cloud), base_model=settings.model, rank=settings.lora_rank)


class CloudBackend:
    """Opens runs in one process of the SDK."""

    def __init__(self, child: SdkChild, *, base_model: str, rank: int) -> None:
        self._child = child
        self._base_model = base_model
        self._rank = rank

    async def open(self, state_path: str | None, *, rank: int | None = None) -> CloudRun:
        """Resume ``state_path`` with its optimiser, or begin a new adapter of the base model."""
        try:
            answer = await self._child.call(
                "open", state_path=state_path, base_model=self._base_model, rank=rank or self._rank
            )
        except SdkError as error:
            if state_path is None or error.kind not in ("absent", "data"):
                raise
            hint = "if another rl.backend made it, `metaclaw policy rollback --to 0` begins anew here"
            raise LostStateError(f"{error} ({state_path}; {hint})") from error
        return CloudRun(self._child, answer, base_model=self._base_model)

    async def num_parameters(self, base_model: str) -> int | None:
        """As the model's name says it."""
        return model_size.named(base_model)

    async def saved_as(self, name: str, *, run: str) -> list[str]:
        """As the cloud lists it; a run that it does not know has nothing."""
        answer = await self._child.call("saved_as", name=name, run=run)
        return list(answer["paths"])

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete saved weights; what is gone already is no error."""
        await self._child.call("delete", paths=list(paths))

    async def close(self) -> None:
        """End the process."""
        await self._child.close()


class CloudRun:
    """One adapter with its optimiser at the cloud."""

    def __init__(self, child: SdkChild, opened: Mapping[str, Any], *, base_model: str) -> None:
        self._child = child
        self._generation = child.generation
        self._number: int = opened["run"]
        self._sampled_model = base_model
        self.base_model: str = opened["base_model"]
        self.id: str = opened["id"]

    async def forward_backward(self, groups: Sequence[AnyGroup]) -> Pass:
        return await self._passes(groups, forward_only=False)

    async def forward(self, groups: Sequence[AnyGroup]) -> Pass:
        return await self._passes(groups, forward_only=True)

    async def optim_step(self, *, learning_rate: float, grad_clip_norm: float) -> Mapping[str, float]:
        answer = await self._call("optim_step", learning_rate=learning_rate, grad_clip_norm=grad_clip_norm)
        return answer["metrics"]

    async def save(self, name: str) -> SavedWeights:
        answer = await self._call("save", name=name)
        return SavedWeights(name=name, state_path=answer["state_path"], sampler_path=answer["sampler_path"])

    async def warm(self, sampler_path: str) -> None:
        await self._child.call(
            "sample", model_path=sampler_path, base_model=self._sampled_model, prompt=packed(np.zeros(1, "<i4")),
            num_samples=1, max_tokens=1, temperature=1.0, top_p=1.0, top_k=-1, seed=None, stop=None,
        )  # fmt: skip

    async def close(self) -> None:
        # Nobody waits for a cloud that is silent: whoever closes may be making way for a user who is back.
        with contextlib.suppress(BackendError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._call("close")

    async def _call(self, op: str, *, times: float = 1.0, **asked: object) -> dict[str, Any]:
        return await self._child.call(op, generation=self._generation, times=times, run=self._number, **asked)

    async def _passes(self, groups: Sequence[AnyGroup], *, forward_only: bool) -> Pass:
        logprobs, metrics = list[Floats](), dict[str, float]()
        for group in groups:
            if not isinstance(group, DatumGroup):
                raise BackendError("several targets at one place are not taught at a cloud: unset what asks for them")
            config = _config(group)
            data = [_packed(datum) for datum in group.data]
            try:
                answer = await self._call(
                    "passes",
                    times=patience(group.data),
                    loss=group.loss,
                    config=config,
                    data=data,
                    forward_only=forward_only,
                )
            except SdkError as error:
                if error.kind == "data":
                    raise RefusedDataError(str(error)) from error
                raise
            logprobs += _paired(answer["logprobs"], group)
            for key, value in answer["metrics"].items():
                metrics[key] = value + (metrics.get(key, 0.0) if key.endswith(":sum") else 0.0)
        return Pass(logprobs=tuple(logprobs), metrics=metrics)


def _config(group: DatumGroup) -> dict[str, float]:
    temperature = group.config.get(_TEMPERATURE, 1.0)
    if temperature != 1.0:
        raise RefusedDataError(
            f"answers that were drawn at temperature {temperature:g} cannot be trained on at a cloud, only at 1: they "
            "are from before rl.backend named it"
        )
    return {name: value for name, value in group.config.items() if name != _TEMPERATURE}


def _packed(datum: Datum) -> dict[str, str]:
    return {
        "tokens": packed(datum.tokens_T.astype("<i4")),
        "targets": packed(datum.targets_T.astype("<i4")),
        "logprobs": packed(datum.ratios_from_T.astype("<f4")),
        "advantages": packed(datum.advantages_T.astype("<f4")),
    }


def _paired(answered: Sequence[str], group: DatumGroup) -> list[Floats]:
    if len(answered) != len(group.data):
        raise BackendError(f"the trainer answered {len(answered)} sequences for {len(group.data)}")
    found = [np.frombuffer(unpacked(text), "<f4").astype(np.float32) for text in answered]
    for logprobs, datum in zip(found, group.data, strict=True):
        if logprobs.shape != datum.targets_T.shape:
            raise BackendError(
                f"the trainer answered log-probabilities of shape {logprobs.shape} for {datum.targets_T.shape}"
            )
    return found
