"""Log-probs of target tokens from hidden states, without ever holding all logits.

Owns the path from the decoder's last hidden states through the output embedding; refuses to know losses and
batches. Invariant: peak memory depends on the vocabulary times a fixed number of rows, never times the length.

Shapes: N rows, H hidden size, V vocabulary, K targets a row.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from metaclaw.errors import ModelSourceError
from metaclaw.training.lora_layers import LoraLinear

_MAX_LOGITS = 1 << 24  # 64 MiB of float32 at a time: 340 rows of a vocabulary of 49,152


def target_logprobs(
    hidden_NH: Tensor, head: nn.Module, targets_NK: Tensor, *, vocab_size: int, temperature: float
) -> Tensor:
    """``log softmax(head(hidden) / temperature)`` at the targets, float32 ``(N, K)``.

    With gradients enabled, the logits of a chunk are not kept: a frozen output embedding gives the hidden states'
    gradient at once (for one target a row it is the same but for a factor, whatever the loss); others compute the
    logits again in the backward pass.
    """
    rows = max(1, _MAX_LOGITS // vocab_size)
    keeps_graph = torch.is_grad_enabled() and (hidden_NH.requires_grad or _is_trained(head))
    pieces: list[Tensor] = []
    for hidden, targets in zip(hidden_NH.split(rows), targets_NK.split(rows), strict=True):
        if not keeps_graph:
            piece, _ = _logprobs_in_place(head(hidden).float(), targets, temperature)
        elif targets.shape[1] == 1 and isinstance(head, nn.Linear) and not _is_trained(head):
            piece = _FrozenHead.apply(hidden, head, targets, temperature)
        else:
            # Nothing in the head is random, so the random state need not be kept for the second run.
            piece = checkpoint(
                _chunk_logprobs, hidden, head, targets, temperature, use_reentrant=False, preserve_rng_state=False
            )
        pieces.append(piece)
    return torch.cat(pieces) if pieces else hidden_NH.new_zeros(targets_NK.shape, dtype=torch.float32)


def _chunk_logprobs(hidden_NH: Tensor, head: nn.Module, targets_NK: Tensor, temperature: float) -> Tensor:
    logits_NV = head(hidden_NH).float() / temperature
    return logits_NV.gather(-1, targets_NK) - logits_NV.logsumexp(-1, keepdim=True)


def _logprobs_in_place(logits_NV: Tensor, targets_NK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The targets' log-probs, and all probabilities in the memory of the logits: a chunk is held once."""
    if temperature != 1.0:
        logits_NV /= temperature
    logits_NV -= logits_NV.amax(-1, keepdim=True)
    chosen_NK = logits_NV.gather(-1, targets_NK)
    sums_N1 = logits_NV.exp_().sum(-1, keepdim=True)
    logits_NV /= sums_N1
    return chosen_NK - sums_N1.log(), logits_NV


class _FrozenHead(torch.autograd.Function):
    """``_chunk_logprobs`` of one target a row, with two matrix products instead of three.

    d lp / d hidden = (onehot(target) - softmax) W / temperature needs nothing that only the backward pass knows.
    """

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, head: nn.Linear, targets_N1: Tensor, temperature: float) -> Tensor:
        lp_N1, probs_NV = _logprobs_in_place(head(hidden_NH).float(), targets_N1, temperature)
        slope_NV = probs_NV.neg_().scatter_add_(-1, targets_N1, torch.ones_like(lp_N1))
        ctx.save_for_backward((slope_NV.to(head.weight.dtype) @ head.weight) / temperature)
        return lp_N1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope_NH,) = ctx.saved_tensors
        return (grads[0] * slope_NH).to(slope_NH.dtype), None, None, None


def _is_trained(head: nn.Module) -> bool:
    return isinstance(head, LoraLinear) and head.adapter is not None


def output_head(model: PreTrainedModel) -> nn.Module:
    """The output embedding as it is now: where it may be adapted, our layer around the original."""
    head = model.get_output_embeddings()
    if head is None:
        raise ModelSourceError(f"{type(model).__name__} has no output embedding; it is not a causal language model")
    return head


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose logits are more than ``head(hidden)``, such as soft-capped or scaled ones.

    Trained on other logits than it is sampled with, such a model would only get worse, without a word.
    """
    tokens = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    ours = output_head(model)(hidden).float()
    theirs = model(input_ids=tokens, use_cache=False).logits.float()
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        raise ModelSourceError(
            f"{type(model).__name__} changes its logits after the output embedding (soft-capping or scaling); "
            "training such models is not supported"
        )
