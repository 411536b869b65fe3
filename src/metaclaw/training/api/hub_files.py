"""The base model's tokenizer and configuration, as files that remote clients may have.

Owns the list of names that are given out, and their identity; refuses to know HTTP. Invariant: weights are never on
the list, and what is not on it does not exist for a client, whatever lies in the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAMES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file and the hash of its content."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """All of them. ``commit`` changes when any content does."""

    files: Mapping[str, HubFile]
    commit: str


def read_hub_files(directory: Path) -> HubFiles:
    """What ``directory`` has of the list."""
    files = {name: _file(directory / name) for name in _NAMES if (directory / name).is_file()}
    whole = hashlib.sha256("".join(f"{name} {file.sha256}\n" for name, file in files.items()).encode())
    return HubFiles(files=files, commit=whole.hexdigest()[:40])


def _file(path: Path) -> HubFile:
    content = path.read_bytes()
    return HubFile(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
