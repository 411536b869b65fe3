"""Log-probs of target tokens from hidden states, without ever holding all logits.

Owns the path from the decoder's last hidden states through the output embedding; refuses to know losses and
batches. Invariant: peak memory depends on the vocabulary times a fixed number of positions, never times the
length.

Shapes: N positions, H hidden size, V vocabulary, K targets a position.
"""

# pyright: basic

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from metaclaw.errors import ModelSourceError
from metaclaw.training.lora_layers import LoraLinear

_MAX_LOGITS = 1 << 24  # 64 MiB of float32 at a time: 340 positions of a vocabulary of 49,152


def target_logprobs(
    hidden_NH: Tensor, head: nn.Module, targets_NK: Tensor, *, vocab_size: int, temperature: float
) -> Tensor:
    """``log softmax(head(hidden) / temperature)`` at the targets, float32 ``(N, K)``.

    With gradients enabled, the logits of a chunk are computed again in the backward pass instead of being kept.
    """
    rows = max(1, _MAX_LOGITS // vocab_size)
    keeps_graph = torch.is_grad_enabled() and (hidden_NH.requires_grad or _is_trained(head))
    pieces: list[Tensor] = []
    for hidden, targets in zip(hidden_NH.split(rows), targets_NK.split(rows), strict=True):
        if keeps_graph:
            # Nothing in the head is random, so the random state need not be kept for the second run.
            piece = checkpoint(
                _chunk_logprobs, hidden, head, targets, temperature, use_reentrant=False, preserve_rng_state=False
            )
        else:
            piece = _chunk_logprobs(hidden, head, targets, temperature)
        pieces.append(piece)
    return torch.cat(pieces) if pieces else hidden_NH.new_zeros(targets_NK.shape, dtype=torch.float32)


def _chunk_logprobs(hidden_NH: Tensor, head: nn.Module, targets_NK: Tensor, temperature: float) -> Tensor:
    logits_NV = head(hidden_NH).float() / temperature
    return torch.log_softmax(logits_NV, dim=-1).gather(-1, targets_NK)


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
