"""One forward_backward: examples in, log-probs, metrics and gradients out.

Owns the passes through the model; refuses to know which model, commands and optimisers. Invariant: whenever it
yields or returns, every backward of its forwards is done, so the active adapter may change.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.errors import InvalidRequestError
from metaclaw.training.batches import Batch, collate, plan_batches
from metaclaw.training.datums import Example
from metaclaw.training.logprobs import output_head, target_logprobs
from metaclaw.training.losses import LossSettings, Metrics, measure, merge


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """Log-probs of every target, in the order and shape of the examples, and metrics over all of them."""

    logprobs: list[np.ndarray]
    metrics: Metrics


def run_passes(
    model: PreTrainedModel, examples: Sequence[Example], settings: LossSettings, *, max_tokens: int, backward: bool
) -> Generator[int, None, PassResult]:
    """Run all examples through ``model`` in micro-batches of at most ``max_tokens``; returns the result.

    Yields the number of tokens just run after each micro-batch, when no graph is held: other models may run then, and
    whoever closes the generator there abandons the rest.

    With ``backward`` the gradients of the summed loss are added to the parameters that require them. Positions that
    weigh nothing get their log-probs without a gradient. A loss that is not finite raises ``InvalidRequestError``.
    """
    logprobs: list[np.ndarray | None] = [None] * len(examples)
    metrics: Metrics = {}
    for group in plan_batches([example.length for example in examples], max_tokens=max_tokens):
        batch = collate([examples[index] for index in group], model.device)
        lp_NK, more = _run_batch(model, batch, settings, backward=backward)
        merge(metrics, more)
        rows = lp_NK.cpu().split([examples[index].length for index in group])
        for index, lp_TK in zip(group, rows, strict=True):
            example = examples[index]
            lp = lp_TK[:, : example.targets_TK.shape[1]].reshape(example.shape).numpy()
            _refuse_broken(f"data[{index}]", lp)
            logprobs[index] = lp
        yield batch.tokens_BT.numel()
    return PassResult(logprobs=[lp for lp in logprobs if lp is not None], metrics=metrics)


def _run_batch(
    model: PreTrainedModel, batch: Batch, settings: LossSettings, *, backward: bool
) -> tuple[Tensor, Metrics]:
    learns = backward and bool(batch.graded_N.any())
    with nullcontext() if learns else torch.no_grad():
        hidden_BTH = model.base_model(
            input_ids=batch.tokens_BT, attention_mask=batch.mask_BT.long(), use_cache=False
        ).last_hidden_state
        lp_NK = _logprobs(model, hidden_BTH[batch.mask_BT], batch, settings)
        loss_NK = settings.loss.per_token(lp_NK, batch.inputs)[batch.graded_N]
        loss = loss_NK.sum()
    if not torch.isfinite(loss):
        raise InvalidRequestError("the loss is not finite; look at the advantages and the log-probs", param="data")
    if learns:
        loss.backward()
    lp_NK = lp_NK.detach()
    return lp_NK, measure(settings, lp_NK, loss_NK.detach(), batch.inputs)


def _logprobs(model: PreTrainedModel, hidden_NH: Tensor, batch: Batch, settings: LossSettings) -> Tensor:
    """Of every target; only the graded positions are part of the graph."""
    head = output_head(model)
    vocab_size = model.config.get_text_config().vocab_size
    lp_NK = torch.zeros(batch.targets_NK.shape, dtype=torch.float32, device=hidden_NH.device)
    for rows, context in ((batch.graded_N, nullcontext()), (~batch.graded_N, torch.no_grad())):
        with context:
            lp = target_logprobs(
                hidden_NH[rows], head, batch.targets_NK[rows], vocab_size=vocab_size, temperature=settings.temperature
            )
        lp_NK = lp_NK.index_put((rows.nonzero(as_tuple=True)[0],), lp)
    return lp_NK


def _refuse_broken(where: str, logprobs: np.ndarray) -> None:
    if not np.isfinite(logprobs).all():
        raise InvalidRequestError(f"{where}: the model's log-probs are not finite; its weights are broken", param=where)
