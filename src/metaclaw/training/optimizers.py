"""One model's AdamW: gradients, moments, steps.

Owns the update of one adapter's weights and the optimiser's form as tensors by name; refuses to know where
gradients come from. Invariant: a step either changes every weight by finite gradients or changes nothing.
"""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor, nn

from metaclaw.errors import InvalidRequestError
from metaclaw.training.adapters import check_tensors
from metaclaw.training.commands import OptimStep

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's own names, kept in the file


class AdapterOptimizer:
    """AdamW with decoupled weight decay over named parameters."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self._adamw = torch.optim.AdamW(parameters.values())
        self.num_steps = 0

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Add the gradients computed inside to the earlier ones; if it raises, the earlier ones stay as they were."""
        earlier = {key: parameter.grad for key, parameter in self._parameters.items()}
        self.drop_gradients()
        try:
            yield
            self._refuse_broken_gradients("the gradients of this call are not finite and were dropped")
        except BaseException:
            for key, parameter in self._parameters.items():
                parameter.grad = earlier[key]
            raise
        for key, parameter in self._parameters.items():
            new = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            before = earlier[key]
            parameter.grad = new if before is None else before.add_(new)

    def step(self, command: OptimStep) -> dict[str, float]:
        """Update the weights and drop the gradients; returns metrics.

        Without a forward_backward since the last step nothing changes and the step is not counted (a pipelined
        client sends its step before it learns that the forward_backward was refused; moving on by momentum alone
        would train on nothing): ``no_gradients`` is 1 then. Non-finite gradients are refused and dropped.
        """
        _check(command)
        if all(parameter.grad is None for parameter in self._parameters.values()):
            return {"grad_norm": 0.0, "step": float(self.num_steps), "no_gradients": 1.0}
        try:
            norm = self._refuse_broken_gradients("the gradients are not finite; they were dropped, nothing was updated")
            scale = min(1.0, command.grad_clip_norm / norm) if command.grad_clip_norm and norm else 1.0
            self._update(command, scale)
        finally:
            self.drop_gradients()
        return {
            "grad_norm": norm,
            "grad_scale": scale,
            "step": float(self.num_steps),
            "learning_rate": command.learning_rate,
        }

    def drop_gradients(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    def export(self) -> dict[str, Tensor]:
        """The moments by parameter name; empty before the first step."""
        return {
            f"{key}.{moment}": self._adamw.state[parameter][moment].to("cpu").contiguous()
            for key, parameter in self._parameters.items()
            for moment in _MOMENTS
            if self.num_steps
        }

    def restore(self, tensors: Mapping[str, Tensor], *, num_steps: int, origin: str) -> None:
        """Take up the moments of ``export``; raises ``CheckpointError`` before changing any if they do not fit."""
        keys = [(key, moment) for key in self._parameters for moment in _MOMENTS if num_steps]
        check_tensors(tensors, {f"{k}.{m}": self._parameters[k].shape for k, m in keys}, origin=origin)
        self._adamw.state.clear()
        for key, moment in keys:
            parameter = self._parameters[key]
            state = self._adamw.state[parameter]
            state["step"] = torch.tensor(float(num_steps))
            state[moment] = tensors[f"{key}.{moment}"].to(parameter.device, parameter.dtype, copy=True)
        self.num_steps = num_steps

    def _update(self, command: OptimStep, scale: float) -> None:
        for parameter in self._parameters.values():
            if scale != 1.0 and parameter.grad is not None:
                parameter.grad.mul_(scale)
        self._adamw.param_groups[0].update(
            lr=command.learning_rate, betas=(command.beta1, command.beta2), eps=command.eps,
            weight_decay=command.weight_decay,
        )  # fmt: skip
        self._adamw.step()
        self.num_steps += 1

    def _refuse_broken_gradients(self, message: str) -> float:
        """The global norm, or ``InvalidRequestError``. In float64: squares of large float32 gradients overflow."""
        norms = [
            torch.linalg.vector_norm(parameter.grad, dtype=torch.float64)
            for parameter in self._parameters.values()
            if parameter.grad is not None
        ]
        norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
        if not math.isfinite(norm):
            raise InvalidRequestError(f"{message}; look at the advantages and the sampler's log-probs", param="data")
        return norm


def _check(command: OptimStep) -> None:
    for field in fields(command):
        value = getattr(command, field.name)
        if field.name != "model_id" and not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
            raise InvalidRequestError(f"{field.name} must be a number of at least 0, not {value!r}", param=field.name)
    for name in ("beta1", "beta2"):
        if getattr(command, name) >= 1:
            raise InvalidRequestError(f"{name} must be below 1, not {getattr(command, name)!r}", param=name)
    if command.eps == 0:
        raise InvalidRequestError("eps must be above 0: a weight without a gradient would become 0/0", param="eps")
