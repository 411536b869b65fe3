"""The base model as both workers load it.

Owns where its files are, how they become a frozen torch model, and its identity (``base_digest``); refuses to
know adapters and sampling. Invariant: no code and no pickle from a model's folder is ever run, nothing is
downloaded, and no base weight ever requires a gradient.
"""

# pyright: basic

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from metaclaw.errors import ModelSourceError
from metaclaw.training.commands import WorkerReady

# Keys of config.json that change when a model is merely saved again.
_VOLATILE_CONFIG = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
# Of each tensor: fine-tuning changes every matrix, so the first bytes of all of them tell two models apart.
_SAMPLE_BYTES = 4096
_MAX_HEADER_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBase:
    """A frozen causal language model in evaluation mode, where its files are, and what the API is told of it."""

    model: PreTrainedModel
    path: Path
    ready: WorkerReady

    @property
    def device(self) -> torch.device:
        return torch.device(self.ready.device)


def load_base(
    path: Path, *, device: str = "auto", dtype: str = "auto", threads: int = 0, max_context: int = 0
) -> LoadedBase:
    """Load the model in the folder ``path``.

    ``dtype`` ``auto`` is float32 on a CPU (bfloat16 trains 2.7 times slower there) and bfloat16 elsewhere. On a CPU
    the weights stay mapped from the safetensors files when those hold that dtype, so processes share the pages.
    Raises ``ModelSourceError`` with the folder and the reason.
    """
    if threads:
        torch.set_num_threads(threads)
    target = _resolve_device(device)
    weights_dtype = _resolve_dtype(dtype, target)
    digest = base_digest(path)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=weights_dtype, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True,
            local_files_only=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelSourceError(f"cannot load the model in {path}: {error}") from error
    model.to(target).eval().requires_grad_(False)  # pyright: ignore[reportArgumentType] - transformers' wrapper of to()
    ready = _describe(model, digest, max_context=max_context, device=target, dtype=weights_dtype)
    return LoadedBase(model=model, path=path, ready=ready)


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


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ModelSourceError(f"torch knows no device {device!r}; use 'auto', 'cpu' or 'cuda:0'") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ModelSourceError(f"device {device!r} was asked for, but torch sees no GPU here; use 'auto' or 'cpu'")
    return target


def _resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def _describe(
    model: PreTrainedModel, digest: str, *, max_context: int, device: torch.device, dtype: torch.dtype
) -> WorkerReady:
    config = model.config.get_text_config()
    own_context = int(getattr(config, "max_position_embeddings", 0)) or max_context or 2048
    output = model.get_output_embeddings()
    return WorkerReady(
        vocab_size=int(config.vocab_size),
        max_context=min(own_context, max_context) if max_context else own_context,
        end_tokens=_end_tokens(model),
        architecture=type(model).__name__,
        base_digest=digest,
        tied_embeddings=output is not None and output.weight is model.get_input_embeddings().weight,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )


def _end_tokens(model: PreTrainedModel) -> tuple[int, ...]:
    generation = getattr(model, "generation_config", None)
    ends = getattr(generation, "eos_token_id", None)
    if ends is None:
        ends = model.config.get_text_config().eos_token_id
    if ends is None:
        return ()
    return tuple(sorted(ends)) if isinstance(ends, (list, tuple)) else (int(ends),)
