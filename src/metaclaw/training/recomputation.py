"""Which layers keep their activations for the backward pass, and which compute them again (gradient checkpointing).

Owns that choice, made anew for each micro-batch; refuses to know losses and batches. Invariant: it changes time and
memory, never a gradient; and who asks for it has it or is refused.

A layer that computes again keeps its input alone. All of them doing so makes a pass about 1.4 times as long, so a
micro-batch of no more than ``kept_rows`` rows keeps everything, and of a longer one as many layers as hold no more
than that together.
"""

# pyright: basic

from __future__ import annotations

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from metaclaw.errors import ModelSourceError

# SmolLM2 keeps 30 kB a layer and row. At 1,500 rows everything is 1.4 GB; 512 rows are 0.46 GB.
_KEPT_ROWS = {"cpu": 512, "cuda": 0}


class Recomputation:
    """The decoder's layers. ``always`` ``None`` is the device's own choice.

    Raises ``ModelSourceError`` where it is asked for and the model cannot do it.
    """

    def __init__(self, model: PreTrainedModel, *, always: bool | None) -> None:
        kept = _KEPT_ROWS.get(model.device.type, 0) if always is None else 0
        self._kept_rows = float("inf") if always is False else kept
        self._layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if self._layers and always is not False:
            newer = getattr(model, "activation_checkpointing_enable", None)  # transformers 5.23 renamed it
            (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
        able = [layer for layer in self._layers if layer.gradient_checkpointing]
        if always and (not self._layers or len(able) < len(self._layers)):
            raise ModelSourceError(
                f"{type(model).__name__} cannot compute its layers again: {len(able)} of {len(self._layers)} would. "
                "Set train_server.gradient_checkpointing to 'auto' or 'off'"
            )

    def prepare(self, num_rows: int) -> None:
        """Choose for a micro-batch of ``num_rows`` rows, padding included.

        transformers computes again in layers in training mode; only the layers' own flag is set, so that no dropout
        below them wakes up.
        """
        kept = len(self._layers) if num_rows <= self._kept_rows else int(len(self._layers) * self._kept_rows / num_rows)
        first_kept = len(self._layers) - kept  # the last: the backward pass frees them before others compute again
        for index, layer in enumerate(self._layers):
            layer.training = index < first_kept
