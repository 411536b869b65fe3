"""The gated feed-forward block of Llama-like models, which keeps half as much for the backward pass.

Owns ``down(silu(gate(x)) * up(x))`` and which blocks compute exactly that; refuses to know adapters' lives and other
layers. Invariant: it computes what transformers' own block computes, and blocks it does not know stay as they are.

Of the four wide tensors that autograd would keep a row (gate, its activation, up, their product) two are kept; the
others are made again from them, which costs two passes over memory and no matrix product. On SmolLM2 that is 12 of the
42 kB a layer and row.

Shapes: N rows, F wide features, O outputs, R rank.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from transformers.activations import SiLUActivation

from metaclaw.training.lora_layers import LoraLinear
from metaclaw.training.lora_products import added, narrowed, weight_gradient

_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


def thin_blocks(model: nn.Module) -> int:
    """Have every block of ``model`` that is known compute as above, in place; returns how many."""
    blocks = [module for module in model.modules() if _is_known(module)]
    for block in blocks:
        block.forward = _Thin(block).forward
    return len(blocks)


class _Thin:
    """The ``forward`` of one block. The block keeps its layers, their names and its hooks."""

    def __init__(self, block: Any) -> None:
        self._gate: nn.Module = block.gate_proj
        self._up: nn.Module = block.up_proj
        self._down: nn.Linear | LoraLinear = block.down_proj

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self._gate(x), self._up(x)
        wrapped = self._down
        base, weights = (wrapped.base, wrapped.adapter) if isinstance(wrapped, LoraLinear) else (wrapped, None)
        lora = (None, None, 0.0) if weights is None else (weights.down, weights.up, weights.scale)
        return _GatedDown.apply(gate, up, base.weight, base.bias, *lora)  # pyright: ignore[reportReturnType]


class _GatedDown(torch.autograd.Function):
    """``linear(silu(gate) * up, weight, bias)`` over frozen weights, and LoRA's share where there is an adapter."""

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, lora_down: Tensor | None,
        lora_up: Tensor | None, scale: float,
    ) -> Tensor:  # fmt: skip
        product_NF = silu(gate).mul_(up).flatten(0, -2)
        result_NO = linear(product_NF, weight, bias)
        narrow_NR = None
        if lora_down is not None and lora_up is not None:
            narrow_NR = narrowed(product_NF, lora_down).mul_(scale)
            result_NO = added(result_NO, narrow_NR, lora_up.t(), in_place=True)
        ctx.save_for_backward(gate, up, weight, lora_down, lora_up, narrow_NR)
        ctx.scale = scale
        return result_NO.view(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up, weight, lora_down, lora_up, narrow_NR = ctx.saved_tensors
        wants_gate, wants_up, _, _, wants_down, wants_lora_up, _ = ctx.needs_input_grad
        grad_NO = grad.flatten(0, -2)
        grad_product_NF = grad_NO @ weight
        act = silu(gate)
        grad_down = grad_lora_up = None
        if narrow_NR is not None:
            grad_narrow_NR = narrowed(grad_NO, lora_up.t()).mul_(ctx.scale)
            if wants_lora_up:
                grad_lora_up = weight_gradient(narrow_NR, grad_NO).t()
            if wants_down:
                grad_down = weight_gradient(grad_narrow_NR, (act * up).flatten(0, -2))
            grad_product_NF = added(grad_product_NF, grad_narrow_NR, lora_down, in_place=True)
        grad_product = grad_product_NF.view(gate.shape)
        grad_gate = torch.ops.aten.silu_backward(grad_product * up, gate) if wants_gate else None
        grad_up = grad_product.mul_(act) if wants_up else None
        return grad_gate, grad_up, None, None, grad_down, grad_lora_up, None


def _is_known(module: nn.Module) -> bool:
    """Whether a module is the block that its class's source says: three linear layers, SiLU, and nothing else."""
    if {name for name, _ in module.named_children()} != set(_PARTS) or type(module).__name__ not in _KNOWN:
        return False
    layers = [module.gate_proj, module.up_proj, module.down_proj]
    return all(isinstance(each, nn.Linear | LoraLinear) for each in layers) and isinstance(
        module.act_fn, nn.SiLU | SiLUActivation
    )


# Classes of transformers whose forward is exactly this. Others with the same parts may scale or normalise in between.
_KNOWN = frozenset({"LlamaMLP", "Qwen2MLP", "Qwen3MLP", "MistralMLP", "SmolLM3MLP"})
