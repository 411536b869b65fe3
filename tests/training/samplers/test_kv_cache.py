"""The row cache against plain lists, and the masks of models with sliding windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_next import Qwen3NextConfig

from metaclaw.errors import ModelSourceError
from metaclaw.training.samplers.kv_cache import MaskBuilder, RowCache
from metaclaw.training.samplers.requests import Limits, RequestReader
from tests.fakes.tiny_model import byte_tokenizer
from tests.training.samplers.loops import LocalLoop, generate

CPU = torch.device("cpu")
LAYERS, HEADS, SIZE = 2, 3, 4


def states(tokens: list[list[float]], layer: int) -> torch.Tensor:
    """Keys (R, H, Q, D) that carry the token, the head and the layer."""
    base = torch.tensor(tokens)[:, None, :, None].expand(-1, HEADS, -1, SIZE)
    return base + 0.1 * torch.arange(HEADS)[None, :, None, None] + 0.01 * layer


def write(cache: RowCache, tokens: list[list[float]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    cache.begin(len(tokens[0]))
    seen = [cache.update(states(tokens, layer), -states(tokens, layer), layer) for layer in range(LAYERS)]
    cache.commit(len(tokens[0]))
    return seen


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 150)),
        st.tuples(st.just("leave"), st.integers(0, 10)),
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("failed step"), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(OPERATIONS)
def test_a_row_holds_its_own_tokens_whatever_joins_leaves_or_fails(operations) -> None:
    cache, expected, token = RowCache(CPU), [], 0.0
    for name, number in operations:
        token += 1.0
        if name == "join":
            source = RowCache(CPU)
            source.open_rows(2)
            tokens = [token + place / 1000 for place in range(number)]
            write(source, [[0.5] * number, tokens])
            cache.append_from(source, 1, number)
            expected.append(tokens)
        elif name == "leave" and expected:
            row = number % len(expected)
            cache.drop(row)
            expected[row] = expected[-1]
            expected.pop()
        elif name == "failed step" and expected:
            cache.begin(1)
            cache.update(states([[float("nan")]] * len(expected), 0), states([[float("nan")]] * len(expected), 0), 0)
        elif name == "step" and expected:
            expected = [[*row, token + index] for index, row in enumerate(expected)]
            seen = write(cache, [[row[-1]] for row in expected])
            for layer, (keys, values) in enumerate(seen):
                for row, tokens in enumerate(expected):
                    torch.testing.assert_close(keys[row, :, : len(tokens)], states([tokens], layer)[0])
                    torch.testing.assert_close(values[row, :, : len(tokens)], -states([tokens], layer)[0])
                assert bool(torch.isfinite(keys).all())
        assert cache.lengths == [len(row) for row in expected]


def test_what_is_not_a_number_leaves_with_its_row() -> None:
    """A masked NaN is still a NaN: attention adds the mask to it. So a row that ended must leave zeros behind."""
    nan, cache = float("nan"), RowCache(CPU)
    for tokens in ([1.0, 2.0, 3.0], [nan, nan, nan]):
        source = RowCache(CPU)
        source.open_rows(1)
        write(source, [tokens])
        cache.append_from(source, 0, 3)
    cache.drop(1)
    short = RowCache(CPU)
    short.open_rows(1)
    write(short, [[7.0]])
    cache.append_from(short, 0, 1)
    for keys, values in write(cache, [[4.0], [8.0]]):
        assert bool(torch.isfinite(keys).all())
        assert bool(torch.isfinite(values).all())


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
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = answer.tokens()
        with torch.inference_mode():
            logits = loop.base.model(torch.tensor([prompt + tokens[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
        assert tokens == logits.argmax(-1).tolist()


def test_a_model_with_layers_that_are_not_attention_is_refused() -> None:
    config = Qwen3NextConfig(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"])
    with pytest.raises(ModelSourceError, match="linear_attention"):
        MaskBuilder(config, torch.float32)


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
