"""One forward pass of the base model over the next tokens of many sequences.

Owns how tokens, positions, slots and rows are handed to transformers; refuses to know what the tokens are for.
Invariant: every pass states the slot of each of its tokens, and a pass that fails changes no sequence.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.training.samplers.attention import RowAttention, Segment
from metaclaw.training.samplers.recorded_steps import RecordedSteps, cuda_graphs
from metaclaw.training.samplers.slots import LoraSlots


class ForwardPass:
    """Runs the model; the one place that calls it."""

    def __init__(self, model: PreTrainedModel, slots: LoraSlots, device: torch.device) -> None:
        self.device = device
        self._model = model
        self._selection = slots.selection
        self._attention = RowAttention(model)
        self._recorded = RecordedSteps(model, self._selection, self._attention, cuda_graphs(device))

    def wait(self) -> None:
        """Until the device has done what it was given: a GPU is given more before that."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def run(self, segments: Sequence[Segment], keep: Sequence[int]) -> Tensor:
        """Append each segment's tokens to its row; returns the float32 logits (len(keep), V).

        ``keep`` are places in the line of all segments' tokens, ascending.
        """
        lengths = [segment.row.length for segment in segments]
        try:
            return self._run(segments, keep)
        except BaseException:
            self._attention.forget()
            for segment, length in zip(segments, lengths, strict=True):
                segment.row.truncate(length)
            raise

    def _run(self, segments: Sequence[Segment], keep: Sequence[int]) -> Tensor:
        num_running = next((at for at, one in enumerate(segments) if len(one.tokens) > 1), len(segments))
        running, read = segments[:num_running], segments[num_running:]
        if list(keep[:num_running]) == list(range(num_running)) and (recording := self._recorded.of(running, read)):
            rest = self._run_plain(read, [place - num_running for place in keep[num_running:]]) if read else None
            logits = recording.run(running)
            return logits if rest is None else torch.cat([logits, rest])
        return self._run_plain(segments, keep)

    def _run_plain(self, segments: Sequence[Segment], keep: Sequence[int]) -> Tensor:
        tokens = [token for segment in segments for token in segment.tokens]
        places = [place for one in segments for place in range(one.row.length, one.row.length + len(one.tokens))]
        self._selection.choose([segment.slot for segment in segments for _ in segment.tokens], keep)
        self._attention.begin(segments)
        output = self._model(
            input_ids=torch.tensor([tokens], device=self.device),
            position_ids=torch.tensor([places], device=self.device),
            past_key_values=self._attention,
            use_cache=True,
            logits_to_keep=torch.tensor(keep, dtype=torch.long, device=self.device),
        )
        self._attention.end()
        return output.logits[0].float()
