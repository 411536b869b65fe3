"""Loading a model's tokenizer and naming exactly which one it is.

Owns the one place where transformers is imported outside ``metaclaw.training``, and the digest; refuses to know
messages. Invariant: nothing is downloaded and no code from the model's folder is run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from metaclaw.errors import MissingExtraError, ModelSourceError

# What decides how text becomes tokens and back. Weights and generation settings do not.
_DIGESTED = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
)  # fmt: skip


_BACKEND = ("transformers.tokenization_utils_tokenizers", "TokenizersBackend")
_WITHOUT_TORCH = {
    "PreTrainedTokenizer": _BACKEND,
    "TokenizersBackend": _BACKEND,
    "Qwen2Tokenizer": ("transformers.models.qwen2.tokenization_qwen2", "Qwen2Tokenizer"),
}


class AddedToken(Protocol):
    """A token that is found in text before the model's own splitting."""

    content: str
    special: bool


class Tokenizer(Protocol):
    """The slice of a transformers tokenizer that this room uses."""

    chat_template: str | dict[str, str] | None

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...
    def get_vocab(self) -> dict[str, int]: ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer in ``directory``. Raises ``ModelSourceError``, or ``MissingExtraError`` without transformers."""
    module, name = _class_of(directory)
    try:
        kind = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError("tokenizers need transformers: pip install 'metaclaw[rl]'") from error
    try:
        return kind.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"cannot load the tokenizer in {directory}: {error}") from error


def _class_of(directory: Path) -> tuple[str, str]:
    """Module and name of the class that AutoTokenizer would take, and AutoTokenizer itself for whatever is not known.

    AutoTokenizer imports torch where it is installed, for every model class there is: 400 MiB and 9 s, against 107 MiB
    and 3 s of these, in a process that never computes.
    """
    try:
        config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        named = str(config.get("tokenizer_class"))
    except (OSError, ValueError, AttributeError):
        named = ""
    module = _WITHOUT_TORCH.get(named.removesuffix("Fast")) if (directory / "tokenizer.json").is_file() else None
    found = module is not None and importlib.util.find_spec("transformers") and importlib.util.find_spec(module[0])
    return module if module and found else ("transformers", "AutoTokenizer")


def digest_of(directory: Path) -> str:
    """Hex sha256 over the tokenizer's files and chat template. Raises ``ModelSourceError`` if there are none."""
    digest = hashlib.sha256()
    present = [directory / name for name in _DIGESTED if (directory / name).is_file()]
    if not present:
        raise ModelSourceError(f"there is no tokenizer in {directory}")
    for path in present:
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
