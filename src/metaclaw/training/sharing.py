"""How far a model lets sequences share their prefixes.

Owns the judgement about one model, made once when it is loaded; refuses to know layouts' use. Invariant: what is not
known to be exact is not shared.
"""

# pyright: basic

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.training.batches import collate_layouts
from metaclaw.training.prefix_trees import Layout, Sharing, SharingBounds, plan_layouts

_ROPES_BY_LENGTH = ("dynamic", "longrope")  # their angles depend on the longest sequence of a call
_MASKABLE = ("sdpa", "eager")
# Kernels for attention reach about half the speed of matrix products; measured nowhere exactly, and only used to decide
# whether sharing pays.
_ATTENTION_SPEED = 0.5
_MAX_MASKED_ROWS = {"cpu": 4096, "cuda": 8192}  # masks of 64 MiB in float32, 128 MiB in bfloat16


def sharing_bounds(model: PreTrainedModel, *, max_rows: int = 0) -> SharingBounds:
    """What ``model`` bears, by its configuration and by a small trial; ``max_rows`` 0 is the device's own default."""
    text = model.config.get_text_config()
    decoder = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and not _is_embedding(name))
    heads = int(getattr(text, "num_attention_heads", 1))
    width = heads * int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    layers = int(getattr(text, "num_hidden_layers", 1))
    return SharingBounds(
        sharing=_sharing(model),
        pairs_per_token=max(1.0, _ATTENTION_SPEED * 2 * decoder / (4 * width * layers)),
        max_rows=max_rows or _MAX_MASKED_ROWS.get(model.device.type, _MAX_MASKED_ROWS["cpu"]),
    )


def _is_embedding(name: str) -> bool:
    return "embed" in name or "lm_head" in name  # looked up, or run at few positions


def _sharing(model: PreTrainedModel) -> Sharing:
    text = model.config.get_text_config()
    ropes = str(getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or "")
    if any(name in ropes for name in _ROPES_BY_LENGTH):
        return Sharing.NONE
    layer_types = getattr(text, "layer_types", None)
    if layer_types is not None:
        sees_all = all(kind == "full_attention" for kind in layer_types)
    else:  # a window, where there is one, counts rows, not positions
        sees_all = getattr(text, "sliding_window", None) is None
    if not sees_all or text._attn_implementation not in _MASKABLE or not _branches_exactly(model):
        return Sharing.CHAINS
    return Sharing.TREES


@torch.no_grad()
def _branches_exactly(model: PreTrainedModel) -> bool:
    """Whether a small tree gives the hidden states of its sequences: a recurrent layer, for one, ignores the mask."""
    vocab_size = model.config.get_text_config().vocab_size
    numbers = [[3, 1, 4, 1, 5, 9, 2, 6], [3, 1, 4, 1, 5, 7, 7], [3, 1, 4, 8, 8, 8]]
    sequences = [np.array(each, np.int64) % vocab_size for each in numbers]
    free = SharingBounds(sharing=Sharing.TREES, pairs_per_token=1e9, max_rows=64)
    [tree] = plan_layouts(sequences, free)
    try:
        shared_LH = hidden_states(model, [tree])[0]
    except (ValueError, TypeError, RuntimeError, NotImplementedError, IndexError):
        return False  # it takes no mask of ours
    tolerance = 1e-3 if shared_LH.dtype == torch.float32 else 0.05
    for index, rows in zip(tree.members, tree.rows, strict=True):
        tokens_BT = torch.from_numpy(sequences[index])[None].to(model.device)
        alone_TH = model.base_model(input_ids=tokens_BT, use_cache=False).last_hidden_state[0]
        gap = (shared_LH[torch.from_numpy(rows).to(model.device)] - alone_TH).abs().max()
        if not gap <= tolerance * alone_TH.abs().max():
            return False
    return True


def hidden_states(model: PreTrainedModel, layouts: list[Layout]) -> Tensor:
    """The decoder's last hidden states, ``(B, L, H)``, of layouts side by side."""
    laid = collate_layouts(layouts, device=model.device, dtype=model.dtype)
    extra = {} if laid.positions_BT is None else {"position_ids": laid.positions_BT}
    return model.base_model(
        input_ids=laid.tokens_BT, attention_mask=laid.mask_B1TT, use_cache=False, **extra
    ).last_hidden_state
