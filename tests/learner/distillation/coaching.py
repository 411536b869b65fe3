"""Weights on a real training server that were shown what to answer: teachers, and policies that are not new."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tinker

from metaclaw.learner.backends.backend import SavedWeights
from tests.fakes.training_server import API_KEY, TrainingServer

Shown = tuple[Sequence[int], Sequence[int]]  # a prompt's tokens and an answer's


def coached(
    trainer: TrainingServer, shown: Sequence[Shown], *, name: str, steps: int, learning_rate: float = 5e-3
) -> SavedWeights:
    """Weights after ``steps`` of being shown all of it. Blocks."""
    service = tinker.ServiceClient(base_url=trainer.url, api_key=f"tml-{API_KEY}")
    client = service.create_lora_training_client(str(trainer.model), rank=8, seed=7, train_unembed=False).result()
    data = [_datum(*one) for one in shown]
    for _ in range(steps):
        passed = client.forward_backward(data, "cross_entropy")
        client.optim_step(tinker.AdamParams(learning_rate=learning_rate, grad_clip_norm=1.0)).result()
        passed.result()
    state, sampler = client.save_state(name).result(), client.save_weights_for_sampler(name).result()
    service.close("success").result()
    return SavedWeights(name=name, state_path=state.path, sampler_path=sampler.path)


def _datum(prompt: Sequence[int], answer: Sequence[int]) -> tinker.Datum:
    whole = np.asarray([*prompt, *answer], np.int64)
    weights = np.zeros(len(whole) - 1, np.float32)
    weights[len(prompt) - 1 :] = 1.0
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(whole[:-1].tolist()),
        loss_fn_inputs={"target_tokens": whole[1:], "weights": weights},
    )
