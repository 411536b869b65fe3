"""One model's AdamW: gradients, moments, steps.

Owns the update of one adapter's weights, the gradients that wait for it, and the optimiser's form as tensors by name;
refuses to know where gradients come from and where an idle model's tensors are kept. Invariant: a step either changes
every weight by finite gradients or changes nothing, even when memory runs out: all that it needs beyond the moments
is room in the gradients that it uses up.
"""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn

from metaclaw.errors import InvalidRequestError
from metaclaw.training.adapters import check_tensors
from metaclaw.training.commands import OptimStep

_MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names of AdamW's state, kept in the file


class AdapterOptimizer:
    """AdamW with decoupled weight decay over named parameters."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self._moments: dict[str, dict[str, Tensor]] = {moment: {} for moment in _MOMENTS}
        self._earlier: dict[str, Tensor] | None = None
        self.num_steps = 0

    def begin_pass(self) -> None:
        """Put the gradients so far aside, so that those computed from now on can be taken back."""
        self._settle()
        self._earlier = {key: value.grad for key, value in self._parameters.items() if value.grad is not None}
        self.drop_gradients()

    def end_pass(self) -> None:
        """Add the gradients since ``begin_pass`` to the earlier ones.

        Raises ``InvalidRequestError`` before changing anything if they are not finite.
        """
        assert self._earlier is not None
        self._refuse_broken_gradients("the gradients of this call are not finite and were dropped")
        for key, parameter in self._parameters.items():
            new = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            before = self._earlier.get(key)
            parameter.grad = new if before is None else before.add_(new)
        self._earlier = None

    def abandon_pass(self) -> None:
        """Drop the gradients since ``begin_pass``; the earlier ones are as they were."""
        assert self._earlier is not None
        for key, parameter in self._parameters.items():
            parameter.grad = self._earlier.get(key)
        self._earlier = None

    def step(self, command: OptimStep) -> dict[str, float]:
        """Update the weights and drop the gradients; returns metrics.

        Without a forward_backward since the last step nothing changes and the step is not counted (a pipelined
        client sends its step before it learns that the forward_backward was refused; moving on by momentum alone
        would train on nothing): ``no_gradients`` is 1 then. Non-finite gradients are refused and dropped.
        """
        _check(command)
        self._settle()
        if all(parameter.grad is None for parameter in self._parameters.values()):
            return {"grad_norm": 0.0, "step": float(self.num_steps), "no_gradients": 1.0}
        try:
            norm = self._refuse_broken_gradients("the gradients are not finite; they were dropped, nothing was updated")
        except InvalidRequestError:
            self.drop_gradients()
            raise
        scale = min(1.0, command.grad_clip_norm / norm) if command.grad_clip_norm and norm else 1.0
        self._make_moments()
        self._update(command, scale)
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
            f"{key}.{moment}": values[key].to("cpu").contiguous()
            for key in self._parameters
            for moment, values in self._moments.items()
            if self.num_steps
        }

    def restore(self, tensors: Mapping[str, Tensor], *, num_steps: int, origin: str) -> None:
        """Take up the moments of ``export``; raises ``CheckpointError`` before changing any if they do not fit."""
        keys = [(key, moment) for key in self._parameters for moment in _MOMENTS if num_steps]
        check_tensors(tensors, {f"{k}.{m}": self._parameters[k].shape for k, m in keys}, origin=origin)
        for key, moment in keys:
            parameter = self._parameters[key]
            self._moments[moment][key] = tensors[f"{key}.{moment}"].to(parameter.device, parameter.dtype, copy=True)
        self.num_steps = num_steps

    def size_bytes(self) -> int:
        """Of weights, moments and gradients together."""
        return sum(tensor.nbytes for _, tensor in self._tensors())

    def take_out(self) -> dict[str, Tensor]:
        """Weights, moments and gradients by name. The model holds none of them until ``put_back``."""
        tensors = dict(self._tensors())
        for parameter in self._parameters.values():
            parameter.grad = None
            parameter.data = parameter.new_empty(0)
        for values in (*self._moments.values(), self._earlier or {}):
            values.clear()
        return tensors

    def put_back(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Copy to ``device`` what ``take_out`` gave."""
        for key, parameter in self._parameters.items():
            parameter.data = _fresh(tensors[f"weight/{key}"], device)
        for name, tensor in tensors.items():
            kind, _, key = name.partition("/")
            if kind == "gradient":
                self._parameters[key].grad = _fresh(tensor, device)
            elif kind == "earlier":
                assert self._earlier is not None
                self._earlier[key] = _fresh(tensor, device)
            elif kind in self._moments:
                self._moments[kind][key] = _fresh(tensor, device)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for key, parameter in self._parameters.items():
            yield f"weight/{key}", parameter.data
            if parameter.grad is not None:
                yield f"gradient/{key}", parameter.grad
        for kind, values in (*self._moments.items(), ("earlier", self._earlier or {})):
            yield from ((f"{kind}/{key}", value) for key, value in values.items())

    def _settle(self) -> None:
        if self._earlier is not None:  # a pass that could not even be abandoned, for want of memory
            self.abandon_pass()

    def _make_moments(self) -> None:
        if self.num_steps == 0:
            for values in self._moments.values():
                values.update({key: torch.zeros_like(value) for key, value in self._parameters.items()})

    @torch.no_grad()
    def _update(self, command: OptimStep, scale: float) -> None:
        """torch's AdamW, bit for bit, but that the gradients' own memory holds what lies between."""
        firsts, seconds = self._moments.values()
        self.num_steps += 1
        step_size = command.learning_rate / (1 - command.beta1**self.num_steps)
        second_scale = (1 - command.beta2**self.num_steps) ** 0.5
        for key, parameter in self._parameters.items():
            grad, first, second = parameter.grad, firsts[key], seconds[key]
            assert grad is not None  # end_pass leaves none without
            if scale != 1.0:
                grad.mul_(scale)
            if command.weight_decay:
                parameter.mul_(1 - command.learning_rate * command.weight_decay)
            first.lerp_(grad, 1 - command.beta1)
            second.mul_(command.beta2).addcmul_(grad, grad, value=1 - command.beta2)
            torch.sqrt(second, out=grad).div_(second_scale).add_(command.eps)
            parameter.addcdiv_(first, grad, value=-step_size)

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


def _fresh(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy in memory of its own: what is mapped from a file is aligned differently, and may sum differently."""
    return tensor.to(device, copy=True)


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
