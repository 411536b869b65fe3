"""From a GGUF file to an ordinary model folder.

Owns the one call that reads quantised weights; refuses to know where the file came from. Invariant: the folder that
results loads like any other (float32 safetensors, tokenizer, chat template) and says where an answer ends.
"""

# pyright: basic

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from metaclaw.errors import ModelSourceError


def convert(gguf: Path, folder: Path) -> None:
    """Write the model in ``gguf`` to the new ``folder``. Raises ``ModelSourceError``."""
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
        for of_this_load in ("is_local", "local_files_only"):
            tokenizer.init_kwargs.pop(of_this_load, None)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config.eos_token_id = model.config.pad_token_id = end
        model.generation_config = GenerationConfig(
            bos_token_id=model.config.bos_token_id, eos_token_id=end, pad_token_id=end
        )
        _clear_quantiser(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelSourceError(f"{gguf.name} cannot be converted: {error}") from error


def _clear_quantiser(model: Any) -> None:
    # The weights are floats by now, but save_pretrained refuses a model that still says it came from a GGUF file.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
