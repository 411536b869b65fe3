"""Linear layers to which any number of LoRA adapters can be applied, one at a time.

Owns the arithmetic of LoRA and the switch between adapters; refuses to know whose adapters they are, how they begin
and where they are kept. Invariant: base weights are never changed, and without an active adapter a layer computes
what it did before it was wrapped.

The arithmetic is PEFT's for adapters in float32 over any base: the input is cast to float32 for the adapter, the sum
is made in float32 and cast back. An adapter's weights live outside the module tree, so that one assignment changes
the adapter of all layers, and an idle adapter can be moved anywhere.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metaclaw.training.lora_products import added, narrowed, weight_gradient, widened


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraWeights:
    """One layer's share of an adapter: the layer adds ``scale * up @ down @ x``."""

    down: nn.Parameter  # (rank, inputs)
    up: nn.Parameter  # (outputs, rank)
    scale: float


@dataclass(slots=True, kw_only=True)
class LoraSwitch:
    """Which adapter the wrapped layers apply, by the name of the layer."""

    active: Mapping[str, LoraWeights] = field(default_factory=dict[str, LoraWeights])


class LoraLinear(nn.Module):
    """A frozen linear layer and whatever the switch says of it."""

    def __init__(self, base: nn.Linear, name: str, switch: LoraSwitch) -> None:
        super().__init__()
        self.base = base
        self._name = name
        self._switch = switch

    @property
    def weight(self) -> Tensor:
        """The base's, without the adapter: models ask layers for dtype and device."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def adapter(self) -> LoraWeights | None:
        """What the layer adds at present."""
        return self._switch.active.get(self._name)

    def forward(self, inputs: Tensor) -> Tensor:
        result = self.base(inputs)
        weights = self.adapter
        if weights is None:
            return result
        return _AddLora.apply(result, inputs, weights.down, weights.up, weights.scale)  # pyright: ignore[reportReturnType]


def wrap_layers(model: nn.Module, names: Iterable[str]) -> tuple[LoraSwitch, dict[str, tuple[int, int]]]:
    """Wrap the linear layers called ``names`` in place; returns their switch, and each one's outputs and inputs."""
    switch = LoraSwitch()
    shapes: dict[str, tuple[int, int]] = {}
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        model.set_submodule(name, LoraLinear(base, name, switch))
        shapes[name] = (base.out_features, base.in_features)
    return switch, shapes


class _AddLora(torch.autograd.Function):
    """``result + scale * (inputs @ down.T) @ up.T``.

    Written out because autograd would keep a float32 copy of the inputs for every layer over a bfloat16 base; and
    the scale is applied to the narrow product, so that no more tensors of the output's width are made than needed.
    """

    @staticmethod
    def forward(ctx: Any, result: Tensor, inputs: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        inputs_NI = inputs.reshape(-1, inputs.shape[-1])
        narrow_NR = narrowed(inputs_NI, down).mul_(scale)
        ctx.save_for_backward(inputs_NI, narrow_NR, down, up)
        ctx.scale = scale
        return added(result.reshape(-1, result.shape[-1]), narrow_NR, up.t()).view(result.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs_NI, narrow_NR, down, up = ctx.saved_tensors
        _, for_inputs, for_down, for_up, _ = ctx.needs_input_grad
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_up = weight_gradient(narrow_NR, grad_NO).t() if for_up else None
        grad_narrow_NR = narrowed(grad_NO, up.t()).mul_(ctx.scale)
        grad_down = weight_gradient(grad_narrow_NR, inputs_NI) if for_down else None
        grad_inputs = None
        if for_inputs:
            shape = (*grad.shape[:-1], inputs_NI.shape[-1])
            grad_inputs = widened(grad_narrow_NR, down, inputs_NI.dtype).view(shape)
        return grad, grad_inputs, grad_down, grad_up, None
