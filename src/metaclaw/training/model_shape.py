"""How large a model is, from its description alone.

Owns the numbers that memory depends on, read from ``config.json`` and the headers of safetensors files; refuses to know
torch and to read a weight. Invariant: reading takes milliseconds whatever the model's size, and what the files state is
preferred to what the configuration implies.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.errors import ModelSourceError

_MAX_HEADER_BYTES = 100 * 1024 * 1024
_NOT_ADAPTED = re.compile(r"(embed|lm_head|norm|\.gate\.weight|\.router\.weight)")  # as the engine has it
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_FLOATS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What memory depends on. ``adapted_widths``: inputs and outputs of all linear layers but the last, added up."""

    name: str
    num_parameters: int
    stored_dtype: str  # as safetensors writes it: F32, BF16 ...
    num_layers: int
    hidden: int
    intermediate: int  # per token: of a mixture of experts, that of the experts in use
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_context: int
    adapted_widths: int
    source: str  # "headers" or "config": where the number of parameters is from

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype_bytes

    def adapter_parameters(self, rank: int) -> int:
        """Of one LoRA adapter on all linear layers: rank x (inputs + outputs), for A and B."""
        return rank * self.adapted_widths


def read_shape(folder: Path, name: str) -> ModelShape:
    """The shape of the model in ``folder``, which needs ``config.json`` alone."""
    try:
        outer: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"{folder} is not a model folder: its config.json cannot be read ({error})") from error
    config = _Config({**outer, **outer.get("text_config", {})}, folder)
    tensors = dict(_tensors(folder))
    widths, parameters = config.adapted_widths(), config.num_parameters()
    if tensors:
        parameters = sum(math.prod(shape) for _, shape in tensors.values())
        adapted = [shape for key, (_, shape) in tensors.items() if _is_adapted(key, shape)]
        widths = sum(map(sum, adapted)) or widths
    return ModelShape(
        name=name,
        num_parameters=parameters,
        stored_dtype=_stored_dtype(tensors, config),
        num_layers=config.layers,
        hidden=config.hidden,
        intermediate=config.intermediate,
        num_heads=config.heads,
        num_kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab,
        max_context=int(config.get("max_position_embeddings", 0)) or 2048,
        adapted_widths=widths,
        source="headers" if tensors else "config",
    )


def count_parameters(folder: Path) -> int | None:
    """How many numbers the weights in ``folder`` are, by their headers; ``None`` where there are none."""
    return sum(math.prod(shape) for _, (_, shape) in _tensors(folder)) or None


class _Config:
    """The keys of the Llama, Qwen and Mistral families, with the defaults that they imply."""

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        self._values = values
        self._folder = folder
        self.hidden = self._number("hidden_size")
        self.layers = self._number("num_hidden_layers")
        self.heads = self._number("num_attention_heads")
        self.vocab = self._number("vocab_size")
        self.kv_heads = int(self.get("num_key_value_heads", self.heads))
        self.head_dim = int(self.get("head_dim", self.hidden // self.heads))
        self._experts = int(self.get("num_experts", self.get("num_local_experts", 0)))
        width = int(self.get("moe_intermediate_size", 0)) or self._number("intermediate_size")
        self._expert_width = width
        self.intermediate = width * int(self.get("num_experts_per_tok", 1)) if self._experts else width

    def get(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        return default if value is None else value

    def num_parameters(self) -> int:
        mlp = 3 * self.hidden * self._expert_width * max(1, self._experts) + self.hidden * self._experts
        embeddings = self.vocab * self.hidden * (1 if self.get("tie_word_embeddings", False) else 2)
        return self.layers * (self._attention_parameters() + mlp + 2 * self.hidden) + embeddings + self.hidden

    def adapted_widths(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        mlp = (
            0 if self._experts else 3 * (self.hidden + self._expert_width)
        )  # experts are one tensor, not linear layers
        return self.layers * (attention + mlp)

    def _attention_parameters(self) -> int:
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    def _number(self, key: str) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or value < 1:
            raise ModelSourceError(f"{self._folder / 'config.json'} has no {key}; no plan can be made for this model")
        return value


def _is_adapted(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name.endswith(".weight") and not _NOT_ADAPTED.search(name)


def _stored_dtype(tensors: Mapping[str, tuple[str, tuple[int, ...]]], config: _Config) -> str:
    if not tensors:
        named = str(config.get("dtype", config.get("torch_dtype", "bfloat16")))
        return _FLOATS.get(named, "BF16")
    sizes: dict[str, int] = {}
    for dtype, shape in tensors.values():
        sizes[dtype] = sizes.get(dtype, 0) + math.prod(shape) * _BYTES.get(dtype, 4)
    return max(sizes, key=lambda dtype: sizes[dtype])


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if not 0 < length <= _MAX_HEADER_BYTES:
                    raise ValueError("the header's length makes no sense")
                header: dict[str, Any] = json.loads(stream.read(length))
            for name, entry in header.items():
                if name != "__metadata__":
                    yield name, (entry["dtype"], tuple(entry["shape"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelSourceError(f"{file} is not a safetensors file: {error}") from error
