"""Micro-batches: which sequences run through the model together, and how they are laid out.

Owns the grouping and the padding; refuses to know losses and models. Invariant: how examples are grouped changes
nothing but the time and memory it takes.

Shapes: B sequences of T padded positions; N real positions of all of them in order; K targets a position.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from metaclaw.training.datums import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sequences padded on the right (a causal model never looks there), targets and inputs without padding."""

    tokens_BT: Tensor
    mask_BT: Tensor  # bool: real positions
    targets_NK: Tensor
    inputs: dict[str, Tensor]  # (N, K)
    graded_N: Tensor


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


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Lay out one group. Fewer targets than the group's most are filled up with targets that weigh nothing."""
    lengths = torch.tensor([example.length for example in examples])
    longest, most = int(lengths.max()), max(example.targets_TK.shape[1] for example in examples)
    tokens_BT = torch.stack([pad(example.tokens_T, (0, longest - example.length)) for example in examples])
    return Batch(
        tokens_BT=tokens_BT.to(device),
        mask_BT=(torch.arange(longest) < lengths[:, None]).to(device),
        targets_NK=_join([example.targets_TK for example in examples], most).to(device),
        inputs={
            name: _join([example.inputs[name] for example in examples], most).to(device) for name in examples[0].inputs
        },
        graded_N=torch.cat([example.graded_T for example in examples]).to(device),
    )


def _join(parts: list[Tensor], most: int) -> Tensor:
    return torch.cat([pad(part, (0, most - part.shape[1])) for part in parts])
