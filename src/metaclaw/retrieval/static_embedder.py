"""Vectors from a table of word pieces in a local folder: no torch, no network, microseconds a text.

Owns reading such a folder (``tokenizer.json`` and ``model.safetensors``, as model2vec and others write them) and the
mean of the pieces; refuses to know where folders come from. Invariant: nothing in the folder is executed.

The table is ``embeddings`` (pieces, width); ``mapping`` and ``weights``, where there are such, have for each piece its
row and how much it counts. Numpy, tokenizers and safetensors are needed: this module is loaded by ``configured`` alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer

from metaclaw.errors import ConfigError
from metaclaw.retrieval.embedder import Kind
from metaclaw.retrieval.vectors import Vectors, unit_rows

_TABLE, _TOKENIZER = "model.safetensors", "tokenizer.json"
_NAMES = ("embeddings", "embedding.weight")
_MAX_CHARACTERS = 20_000
_FEW = 16  # texts of which the mean is quicker than going to a thread


class StaticEmbedder:
    """The mean of the vectors of a text's pieces. ``open`` reads the folder; blocking."""

    def __init__(self, name: str, tokenizer: Any, table: Vectors) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._table = table

    @classmethod
    def open(cls, folder: Path) -> StaticEmbedder:
        """The model in ``folder``. Raises ``ConfigError`` with what is wrong there."""
        try:
            tensors: dict[str, Any] = load_file(folder / _TABLE)
            table = _table(tensors)
            tokenizer: Any = Tokenizer.from_file(str(folder / _TOKENIZER))
        except (OSError, SafetensorError, ValueError) as error:
            raise _unusable(folder, str(error)) from error
        except Exception as error:
            if type(error) is Exception:  # what the tokenizers package raises, of no class of its own
                raise _unusable(folder, f"{_TOKENIZER}: {error}") from error
            raise
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if tokenizer.get_vocab_size() > len(table):
            raise _unusable(folder, f"{_TOKENIZER} knows more pieces than {_TABLE} has rows")
        digest = hashlib.sha256(table.tobytes()).hexdigest()[:16]
        return cls(f"{folder.name}|{digest}", tokenizer, table)

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        """One row for each text; both kinds are treated alike."""
        return self._mean(texts) if len(texts) <= _FEW else await asyncio.to_thread(self._mean, texts)

    def _mean(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), self._table.shape[1]), np.float32)
        encoded: list[Any] = self._tokenizer.encode_batch(
            [text[:_MAX_CHARACTERS] for text in texts], add_special_tokens=False
        )
        for number, pieces in enumerate(encoded):
            if pieces.ids:
                rows[number] = self._table[pieces.ids].mean(axis=0)
        return unit_rows(rows)


def _table(tensors: dict[str, Any]) -> Vectors:
    table = next((tensors[name] for name in _NAMES if name in tensors), None)
    if table is None or table.ndim != 2:
        raise ValueError(f"{_TABLE} holds no table called {' or '.join(_NAMES)}")
    table = table.astype(np.float32)
    if "mapping" in tensors:
        if not 0 <= tensors["mapping"].min() <= tensors["mapping"].max() < len(table):
            raise ValueError(f"{_TABLE}: its mapping leads out of its table")
        table = table[tensors["mapping"]]
    if "weights" in tensors:
        if tensors["weights"].shape != (len(table),):
            raise ValueError(f"{_TABLE}: it has not one weight for each piece")
        table = table * tensors["weights"].astype(np.float32)[:, None]
    return np.ascontiguousarray(table)


def _unusable(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"embeddings.path: {str(folder)!r} is no folder with a static embedding model "
        f"({_TOKENIZER} and {_TABLE}, as model2vec writes them): {why}"
    )
