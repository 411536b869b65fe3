"""What the bridge must know of the base model: its tokenizer, and where its answers end.

Owns reading a folder of descriptions; refuses to know weights and clouds. Invariant: nothing is guessed that would
make another prompt: without a tokenizer and a chat template there is no bridge.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from metaclaw.config import RlSettings
from metaclaw.errors import ModelSourceError
from metaclaw.rendering.renderer import Renderer, load_renderer
from metaclaw.rendering.tokenizer import digest_of
from metaclaw.training.api.hub import tokenizer_folder

_UNKNOWN_CONTEXT = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the endpoint asks of a sampler."""

    vocab_size: int
    max_context: int
    end_tokens: tuple[int, ...]


def load_model(rl: RlSettings) -> tuple[Renderer, Facts]:
    """Renderer and facts of ``rl.tokenizer``, by default that of ``rl.model``. Raises ``ModelSourceError``."""
    name = rl.tokenizer or _bare(rl.model)
    try:
        folder = tokenizer_folder(name)
        digest_of(folder)
    except ModelSourceError as error:
        raise ModelSourceError(f"{error}; or set rl.tokenizer to where its tokenizer and chat template are") from error
    renderer = load_renderer(folder)
    if not renderer.tokenizer.chat_template:
        raise ModelSourceError(f"{folder} has no chat template: set rl.tokenizer to a folder that has one")
    return renderer, _facts(folder, renderer)


def _bare(model: str) -> str:
    # Clouds write variants behind the name of a hub: `org/model:262144`, `org/model/peft`.
    if Path(model).expanduser().is_dir():
        return model
    return "/".join(model.partition(":")[0].split("/")[:2])


def _facts(folder: Path, renderer: Renderer) -> Facts:
    config, generation = _json(folder / "config.json"), _json(folder / "generation_config.json")
    text = config | config.get("text_config", {})
    vocabulary = renderer.tokenizer.get_vocab()
    ends = generation.get("eos_token_id") or text.get("eos_token_id") or _eos(folder, vocabulary)
    if not ends:
        raise ModelSourceError(f"{folder} does not say which token ends an answer: it lacks generation_config.json")
    return Facts(
        vocab_size=int(text.get("vocab_size") or max(vocabulary.values()) + 1),
        max_context=int(text.get("max_position_embeddings") or _UNKNOWN_CONTEXT),
        end_tokens=tuple(cast("list[int]", ends)) if isinstance(ends, list) else (int(ends),),
    )


def _eos(folder: Path, vocabulary: dict[str, int]) -> int | None:
    named = _json(folder / "tokenizer_config.json").get("eos_token")
    token: object = cast("dict[str, object]", named).get("content") if isinstance(named, dict) else named
    return vocabulary.get(token) if isinstance(token, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"{path} cannot be read: {error}") from error
