"""What any sampler must answer: transformers and PEFT, one sequence at a time, float32; and what is drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.training.samplers.adapters import peft_model


class Reference:
    """The model in ``base``, with the adapter in ``adapter`` if one is given."""

    def __init__(self, base: Path, adapter: Path | None = None) -> None:
        self._model = peft_model(base, adapter)

    def greedy(self, prompt: list[int], num_tokens: int) -> list[int]:
        tokens = torch.tensor([prompt])
        made = self._model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=num_tokens,
            min_new_tokens=num_tokens, pad_token_id=0,
        )  # fmt: skip
        return made[0, len(prompt) :].tolist()

    def logprobs(
        self, tokens: list[int], *, temperature: float = 1.0, top_k: int = -1, top_p: float = 1.0
    ) -> np.ndarray:
        """Of each token but the first, float64: under its distribution after temperature, top-k and top-p."""
        with torch.no_grad():
            logits = self._model(input_ids=torch.tensor([tokens])).logits[0, :-1].double().numpy()
        rows = [_log_distribution(row / temperature, top_k, top_p) for row in logits]
        return np.array([row[token] for row, token in zip(rows, tokens[1:], strict=True)])

    def likeliest(self, tokens: list[int], k: int) -> list[list[int]]:
        """After each prefix of ``tokens`` but the empty one, the last excepted."""
        with torch.no_grad():
            logits = self._model(input_ids=torch.tensor([tokens])).logits[0, :-1]
        return logits.topk(k).indices.tolist()


def _log_distribution(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    order = np.argsort(-logits)
    kept = order[:top_k] if top_k > 0 else order
    mass = np.exp(logits[kept] - logits[kept].max())
    mass /= mass.sum()
    kept = kept[np.cumsum(mass) - mass < top_p]
    result = np.full_like(logits, -np.inf)
    largest = logits[kept].max()
    result[kept] = logits[kept] - largest - np.log(np.exp(logits[kept] - largest).sum())
    return result
