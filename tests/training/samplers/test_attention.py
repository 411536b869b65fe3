"""What a token may attend to: models with sliding windows, and models that are not served."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_next import Qwen3NextConfig

from metaclaw.errors import ModelSourceError
from metaclaw.training.samplers.attention import sliding_windows
from metaclaw.training.samplers.requests import Limits, RequestReader
from tests.fakes.tiny_model import byte_tokenizer
from tests.training.samplers.loops import LocalLoop, generate


def sliding_model(kind: str, directory: Path) -> Path:
    """A small model of which some layers, or all, see the last 8 tokens only."""
    tokenizer = byte_tokenizer()
    size = {
        "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.15, "sliding_window": 8,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "every layer":
        model = MistralForCausalLM(MistralConfig(**size))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**size, head_dim=16, use_sliding_window=True, max_window_layers=1))
        assert set(model.config.layer_types) == {"full_attention", "sliding_attention"}
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["every layer", "one layer"])
def test_models_with_sliding_windows_see_what_they_were_trained_to_see(kind: str, tmp_path: Path) -> None:
    loop = LocalLoop(sliding_model(kind, tmp_path), max_concurrent=4)
    prompts = [list(range(length)) for length in (30, 3, 12)]
    answers = loop.run(*[loop.post(generate(prompt, max_tokens=12)) for prompt in prompts])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = answer.tokens()
        with torch.inference_mode():
            logits = plain(torch.tensor([prompt + tokens[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
        assert tokens == logits.argmax(-1).tolist()


def test_a_model_with_layers_that_are_not_attention_is_refused() -> None:
    config = Qwen3NextConfig(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"])
    with pytest.raises(ModelSourceError, match="linear_attention"):
        sliding_windows(config)


def test_every_sample_of_a_request_has_random_numbers_of_its_own() -> None:
    """Sample 1 of seed 5 is not sample 0 of seed 6: groups of neighbouring seeds stay independent."""
    reader = RequestReader(
        Limits(vocab_size=300, max_context=64, end_tokens=()), decode=lambda _: "", entropy=lambda: 11
    )

    def numbers(seed: int | None) -> list[float]:
        request = reader.read(1, generate("x", seed=seed, num_samples=3, temperature=1.0), 0)
        return [sample.uniform() for sample in request.samples]

    assert numbers(5) == numbers(5)
    assert numbers(None) == numbers(11)
    assert len({*numbers(5), *numbers(6), *numbers(-1), *numbers(2**64 - 2)}) == 12
