"""The base model as both workers load it.

Owns where its files are and how they become a frozen torch model; refuses to know adapters, sampling and what
identifies a model (``model_identity``). Invariant: no code and no pickle from a model's folder is ever run, nothing is
downloaded, and no base weight ever requires a gradient.
"""

# pyright: basic

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from metaclaw.errors import ModelSourceError
from metaclaw.training.commands import WorkerReady
from metaclaw.training.model_identity import base_digest, config_sha256, revision


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBase:
    """A frozen causal language model in evaluation mode, where its files are, and what the API is told of it."""

    model: PreTrainedModel
    path: Path
    ready: WorkerReady
    config_sha256: str
    revision: str

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
    return LoadedBase(model=model, path=path, ready=ready, config_sha256=config_sha256(path), revision=revision(path))


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
