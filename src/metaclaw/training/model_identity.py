"""What a model's folder says of itself, without loading it.

Owns the identity of a base model (``base_digest``) and the facts that its files state; refuses to know torch, so that
a sampler whose model lives in another program can name and describe it. Invariant: nothing is read but JSON and the
headers and first bytes of safetensors files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from metaclaw.errors import ModelSourceError

# Keys of config.json that change when a model is merely saved again.
_VOLATILE_CONFIG = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
# Of each tensor: fine-tuning changes every matrix, so the first bytes of all of them tell two models apart.
_SAMPLE_BYTES = 4096
_MAX_HEADER_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the files state. ``own_context`` is 0 where they state no limit."""

    vocab_size: int
    own_context: int
    end_tokens: tuple[int, ...]
    architecture: str
    tied_embeddings: bool
    linear_layers: tuple[str, ...]  # last parts of the names that adapters may have, without the output embedding


def read_facts(path: Path) -> ModelFacts:
    """The facts of the model in the folder ``path``. Raises ``ModelSourceError``."""
    config = _stable_config(path)
    text: dict[str, Any] = {**config, **config.get("text_config", {})}
    if not isinstance(text.get("vocab_size"), int):
        raise ModelSourceError(f"{path / 'config.json'} has no vocab_size; is it a language model?")
    tensors = {name: header for file in _weight_files(path) for name, (header, _) in _tensor_samples(file).items()}
    has_output = any(name.endswith("lm_head.weight") for name in tensors)
    architectures: list[str] = config.get("architectures") or [str(config.get("model_type", "unknown"))]
    return ModelFacts(
        vocab_size=text["vocab_size"],
        own_context=int(text.get("max_position_embeddings") or 0),
        end_tokens=_end_tokens(path, text),
        architecture=architectures[0],
        tied_embeddings=bool(text.get("tie_word_embeddings", not has_output)),
        linear_layers=_linear_layers(tensors),
    )


def base_digest(path: Path) -> str:
    """The identity of a base model: its configuration, and each tensor's name, dtype, shape and first bytes.

    Cheap (a few kilobytes a tensor, not the whole file) and independent of how the tensors are spread over files.
    """
    digest = hashlib.sha256(json.dumps(_stable_config(path), sort_keys=True).encode())
    tensors = {name: entry for file in _weight_files(path) for name, entry in _tensor_samples(file).items()}
    for name in sorted(tensors):
        header, sample = tensors[name]
        digest.update(f"\n{name} {header} {len(sample)}\n".encode())
        digest.update(sample)
    return digest.hexdigest()


def config_sha256(path: Path) -> str:
    """The configuration's part of the identity: equal for models that differ in their weights alone."""
    return hashlib.sha256(json.dumps(_stable_config(path), sort_keys=True).encode()).hexdigest()


def revision(path: Path) -> str:
    """The hub's commit, where the folder is a snapshot in the hub's cache; else empty."""
    return path.name if path.parent.name == "snapshots" else ""


def _stable_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"{path} is not a model folder: its config.json cannot be read ({error})") from error
    return {key: value for key, value in config.items() if key not in _VOLATILE_CONFIG}


def _weight_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelSourceError(f"{path} has no *.safetensors file; other formats can run code and are not loaded")
    return files


def _tensor_samples(file: Path) -> dict[str, tuple[str, bytes]]:
    """Each tensor's dtype and shape, and the first bytes of its data."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise ValueError("the header's length makes no sense")
            header: dict[str, Any] = json.loads(stream.read(length))
            samples: dict[str, tuple[str, bytes]] = {}
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                stream.seek(8 + length + begin)
                samples[name] = (f"{entry['dtype']} {entry['shape']}", stream.read(min(end - begin, _SAMPLE_BYTES)))
            return samples
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelSourceError(f"{file} is not a safetensors file: {error}") from error


def _linear_layers(tensors: dict[str, str]) -> tuple[str, ...]:
    """Of the matrices called ``….layer.weight``. Experts and their routers carry no adapters, nor do embeddings."""
    layers = {name.split(".")[-2] for name, header in tensors.items() if _is_linear(name, header)}
    return tuple(sorted(layers - {"lm_head", "gate", "router"}))


def _is_linear(name: str, header: str) -> bool:
    is_matrix = header.count(",") == 1  # "F32 [64, 64]"
    return (
        is_matrix and name.count(".") >= 2 and name.endswith(".weight") and not ("embed" in name or ".experts." in name)
    )


def _end_tokens(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """Those of generation_config.json, which may name more than config.json."""
    try:
        generation: dict[str, Any] = json.loads((path / "generation_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        generation = {}
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"{path / 'generation_config.json'} cannot be read: {error}") from error
    ends = generation.get("eos_token_id")
    if ends is None:
        ends = config.get("eos_token_id")
    if ends is None:
        return ()
    return tuple(sorted(cast("list[int]", ends))) if isinstance(ends, list) else (int(ends),)
