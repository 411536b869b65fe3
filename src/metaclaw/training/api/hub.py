"""A base model's folder on this machine, downloaded from the Hugging Face hub when it is named by an id.

Owns which files are fetched; refuses to know what is in them. Invariant: only weights in safetensors and plain
descriptions are fetched, never code or pickles, and a model that is here already needs no network.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaclaw.errors import MissingExtraError, ModelSourceError
from metaclaw.training.model_sources import resolve_model

_DESCRIPTIONS = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
_WANTED = (*_DESCRIPTIONS, "*.safetensors")


def local_folder(name: str) -> Path:
    """The folder of ``name`` (a catalogue name, a path or a hub id). Raises ``ModelSourceError``."""
    return _fetched(name, _WANTED)


def tokenizer_folder(name: str) -> Path:
    """The folder with the tokenizer and the descriptions of ``name``, without weights. Raises ``ModelSourceError``."""
    return _fetched(name, _DESCRIPTIONS)


def _fetched(name: str, wanted: Sequence[str]) -> Path:
    resolved = resolve_model(name)
    if Path(resolved).is_dir():
        return Path(resolved)
    hub = _hub()
    try:
        return Path(hub.snapshot_download(resolved, allow_patterns=list(wanted)))
    except (OSError, ValueError) as error:  # its own errors are subclasses of these
        raise ModelSourceError(
            f"cannot get the model {name!r} from the Hugging Face hub: {error}. Check the id, the network and "
            "HF_TOKEN, or give a folder"
        ) from error


def described_folder(name: str) -> Path:
    """A folder that has the ``config.json`` of ``name`` at least; downloads nothing. Raises ``ModelSourceError``."""
    resolved = resolve_model(name)
    if Path(resolved).is_dir():
        return Path(resolved)
    found = _hub().try_to_load_from_cache(resolved, "config.json")
    if not isinstance(found, str):
        raise ModelSourceError(
            f"{name!r} is not on this machine, and a plan downloads nothing; run `hf download {resolved} config.json`, "
            "or give a folder"
        )
    return Path(found).parent


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingExtraError("models from the hub need huggingface_hub: pip install 'metaclaw[rl]'") from error
