"""Micro-batches: which layouts run through the model together, and how they become tensors.

Owns the grouping and the padding; refuses to know losses and models. Invariant: how examples are grouped changes
nothing but the time and memory it takes.

Shapes: B layouts of T padded rows; N positions of all examples, one example after the other; K targets a position.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from metaclaw.training.datums import Example
from metaclaw.training.prefix_trees import Layout, SharingBounds, plan_layouts

_MASK_ALIGNMENT = 8  # CUDA kernels copy a mask whose rows do not begin at multiples of 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the decoder gets. Without branches neither mask nor positions: a causal model never looks at the padding."""

    tokens_BT: Tensor
    mask_B1TT: Tensor | None  # added to the scores: 0 or minus infinity
    positions_BT: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch. ``members`` are its examples in the order in which their positions are joined."""

    layouts: tuple[Layout, ...]
    members: tuple[int, ...]
    rows_N: Tensor  # where each position lies among the B * T rows
    owner_N: Tensor  # which of the members it belongs to
    targets_NK: Tensor
    inputs: dict[str, Tensor]  # (N, K)
    graded_N: Tensor
    needed_N: Tensor


def plan(examples: Sequence[Example], bounds: SharingBounds, *, max_tokens: int) -> list[list[Layout]]:
    """Micro-batches of at most ``max_tokens`` with their padding; a longer layout is a micro-batch of its own.

    Layouts with branches keep to themselves: the others need no mask.
    """
    layouts = plan_layouts([example.tokens_T.numpy() for example in examples], bounds)
    groups: list[list[Layout]] = []
    for branches in (False, True):
        alike = [layout for layout in layouts if layout.branches is branches]
        planned = plan_batches([layout.length for layout in alike], max_tokens=max_tokens)
        groups += [[alike[index] for index in group] for group in planned]
    return groups


def plan_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Group indices by length so that no group exceeds ``max_tokens`` with its padding.

    A sequence that is longer than that is a group of its own.
    """
    groups: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and widest * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
            widest = lengths[index]
    return groups


def collate(layouts: Sequence[Layout], examples: Sequence[Example], device: torch.device) -> Batch:
    """Join the examples of one group. Where there are fewer targets than elsewhere, ones that weigh nothing fill up."""
    longest = max(layout.length for layout in layouts)
    members = tuple(index for layout in layouts for index in layout.members)
    rows = [each + b * longest for b, layout in enumerate(layouts) for each in layout.rows]
    own = [examples[index] for index in members]
    most = max(example.targets_TK.shape[1] for example in own)
    return Batch(
        layouts=tuple(layouts),
        members=members,
        rows_N=torch.from_numpy(np.concatenate(rows)).to(device),
        owner_N=torch.arange(len(own)).repeat_interleave(torch.tensor([each.length for each in own])).to(device),
        targets_NK=_join([example.targets_TK for example in own], most).to(device),
        inputs={name: _join([each.inputs[name] for each in own], most).to(device) for name in own[0].inputs},
        graded_N=torch.cat([example.graded_T for example in own]).to(device),
        needed_N=torch.cat([example.needed_T for example in own]).to(device),
    )


def collate_layouts(layouts: Sequence[Layout], *, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Pad the layouts on the right. With branches each row sees its ancestors alone, and a row of padding itself."""
    longest = max(layout.length for layout in layouts)
    tokens_BT = _pad_rows([layout.tokens_L for layout in layouts], longest).to(device)
    if not any(layout.branches for layout in layouts):
        return Inputs(tokens_BT=tokens_BT, mask_B1TT=None, positions_BT=None)
    visible = [_pad_visible(layout, longest) for layout in layouts]
    width = -(-longest // _MASK_ALIGNMENT) * _MASK_ALIGNMENT
    mask_B1TW = torch.full((len(layouts), 1, longest, width), float("-inf"), dtype=dtype, device=device)
    mask_B1TT = mask_B1TW[..., :longest]
    # Added, not boolean: torch turns a boolean mask into numbers again in each layer, and keeps all of them.
    mask_B1TT.masked_fill_(torch.from_numpy(np.stack(visible))[:, None].to(device), 0.0)
    positions_BT = _pad_rows([layout.depths_L for layout in layouts], longest).to(device)
    return Inputs(tokens_BT=tokens_BT, mask_B1TT=mask_B1TT, positions_BT=positions_BT)


def _pad_rows(parts: Sequence[np.ndarray], longest: int) -> Tensor:
    return torch.from_numpy(np.stack([np.pad(part, (0, longest - len(part))) for part in parts]))


def _pad_visible(layout: Layout, longest: int) -> np.ndarray:
    visible = np.eye(longest, dtype=np.bool_)
    visible[: layout.length, : layout.length] = layout.visible_LL()
    return visible


def _join(parts: list[Tensor], most: int) -> Tensor:
    return torch.cat([pad(part, (0, most - part.shape[1])) for part in parts])
