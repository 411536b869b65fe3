"""One forward_backward: examples in, log-probs, metrics and gradients out.

Owns the passes through the model; refuses to know which model, commands and optimisers. Invariant: whenever it
yields or returns, every backward of its forwards is done, so the active adapter may change.

Shapes: N positions of a micro-batch's examples, K targets each; P different pairs of a row and a target.
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
from metaclaw.training.batches import Batch, collate, plan
from metaclaw.training.datums import Example
from metaclaw.training.logprobs import output_head, target_logprobs
from metaclaw.training.losses import LossSettings, Metrics, Terms, measure, merge
from metaclaw.training.prefix_trees import SharingBounds
from metaclaw.training.recomputation import Recomputation
from metaclaw.training.sharing import hidden_states


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """Log-probs of every target, in the order and shape of the examples, and metrics over all of them.

    Where neither the loss nor the caller needed one it is 0.
    """

    logprobs: list[np.ndarray]
    metrics: Metrics


def run_passes(
    model: PreTrainedModel,
    examples: Sequence[Example],
    settings: LossSettings,
    *,
    bounds: SharingBounds,
    recomputation: Recomputation,
    max_tokens: int,
    backward: bool,
) -> Generator[int, None, PassResult]:
    """Run all examples through ``model`` in micro-batches of at most ``max_tokens``; returns the result.

    Prefixes that examples share run once, within ``bounds``. Yields the number of tokens just run after each
    micro-batch, when no graph is held: other models may run then, and whoever closes the generator there abandons the
    rest.

    With ``backward`` the gradients of the summed loss are added to the parameters that require them. Positions that
    weigh nothing get their log-probs without a gradient. A loss that is not finite raises ``InvalidRequestError``.
    """
    logprobs: list[np.ndarray | None] = [None] * len(examples)
    metrics: Metrics = {}
    for layouts in plan(examples, bounds, max_tokens=max_tokens):
        batch = collate(layouts, examples, model.device)
        num_rows = len(layouts) * max(layout.length for layout in layouts)
        recomputation.prepare(num_rows)
        lp_NK, more = _run_batch(model, batch, settings, backward=backward)
        merge(metrics, more)
        parts = lp_NK.cpu().split([examples[index].length for index in batch.members])
        for index, lp_TK in zip(batch.members, parts, strict=True):
            example = examples[index]
            lp = lp_TK[:, : example.targets_TK.shape[1]].reshape(example.shape).numpy()
            _refuse_broken(f"data[{index}]", lp)
            logprobs[index] = lp
        yield num_rows
    return PassResult(logprobs=[lp for lp in logprobs if lp is not None], metrics=metrics)


def _run_batch(
    model: PreTrainedModel, batch: Batch, settings: LossSettings, *, backward: bool
) -> tuple[Tensor, Metrics]:
    learns = backward and bool(batch.graded_N.any())
    with nullcontext() if learns else torch.no_grad():
        hidden_BTH = hidden_states(model, list(batch.layouts))
        lp_NK = _logprobs(model, hidden_BTH.flatten(0, 1), batch, settings)
        terms = Terms(inputs=batch.inputs, owner_N=batch.owner_N, settings=settings.own)
        loss_NK = settings.loss.per_token(lp_NK, terms)[batch.graded_N]
        loss = loss_NK.sum()
    if not torch.isfinite(loss):
        raise InvalidRequestError("the loss is not finite; look at the advantages and the log-probs", param="data")
    if learns:
        loss.backward()
    lp_NK = lp_NK.detach()
    return lp_NK, measure(settings, lp_NK, loss_NK.detach(), batch.inputs)


def _logprobs(model: PreTrainedModel, hidden_RH: Tensor, batch: Batch, settings: LossSettings) -> Tensor:
    """Of every needed target, 0 of others. Each pair of a row and its targets is computed once, and only pairs with a
    graded position are part of the graph.
    """
    head = output_head(model)
    vocab_size = model.config.get_text_config().vocab_size
    needed = batch.needed_N.nonzero(as_tuple=True)[0]
    rows_M, targets_MK = batch.rows_N[needed], batch.targets_NK[needed]
    graded_M = batch.graded_N[needed]
    pairs, pair_M = torch.unique(torch.cat([rows_M[:, None], targets_MK], dim=1), dim=0, return_inverse=True)
    graded_P = torch.zeros(len(pairs), dtype=torch.bool, device=pairs.device).index_fill_(0, pair_M[graded_M], True)
    lp_PK = torch.zeros(len(pairs), targets_MK.shape[1], dtype=torch.float32, device=hidden_RH.device)
    for chosen_P, context in ((graded_P, nullcontext()), (~graded_P, torch.no_grad())):
        with context:
            lp = target_logprobs(
                hidden_RH[pairs[chosen_P, 0]], head, pairs[chosen_P, 1:], vocab_size=vocab_size,
                temperature=settings.temperature,
            )  # fmt: skip
        lp_PK = lp_PK.index_put((chosen_P.nonzero(as_tuple=True)[0],), lp)
    lp_NK = torch.zeros(batch.targets_NK.shape, dtype=torch.float32, device=hidden_RH.device)
    return lp_NK.index_put((needed,), lp_PK[pair_M])


def _refuse_broken(where: str, logprobs: np.ndarray) -> None:
    if not np.isfinite(logprobs).all():
        raise InvalidRequestError(f"{where}: the model's log-probs are not finite; its weights are broken", param=where)
