"""Models of some shape whose weights are random, made on their device: no download, for speed and memory alone."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from metaclaw.training.base_model import LoadedBase
from metaclaw.training.commands import WorkerReady
from tests.fakes.tiny_model import byte_tokenizer

SHAPES = {
    "qwen3-8b": Qwen3Config(
        vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, tie_word_embeddings=False,
    ),
    "qwen3-1.7b": Qwen3Config(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, tie_word_embeddings=True,
    ),
    "tiny": Qwen3Config(
        vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=40960, tie_word_embeddings=True,
    ),
}  # fmt: skip


def random_base(shape: str, device: torch.device, dtype: torch.dtype) -> LoadedBase:
    """A frozen model of ``SHAPES[shape]``. The same weights each time on one kind of device."""
    config = deepcopy(SHAPES[shape])  # a model keeps it, and writes how it attends into it
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    ready = WorkerReady(
        vocab_size=config.vocab_size, max_context=config.max_position_embeddings, end_tokens=(0,),
        architecture=type(model).__name__, base_digest="random", tied_embeddings=config.tie_word_embeddings,
        device=str(device), dtype=str(dtype).removeprefix("torch."),
    )  # fmt: skip
    return LoadedBase(
        model=model.eval().requires_grad_(False), path=Path("random"), ready=ready, config_sha256="", revision=""
    )


def write_model(shape: str, folder: Path, device: torch.device) -> Path:
    """A folder that a server can load: the layers of ``SHAPES[shape]``, and the tests' tokenizer of bytes."""
    tokenizer = byte_tokenizer()
    config = deepcopy(SHAPES[shape])
    config.vocab_size, config.bos_token_id = len(tokenizer), None
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if device.type == "cuda" else None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def device_name(device: torch.device) -> str:
    """What the device is, for the head of a table."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
