"""The providers that we know by name.

Owns their addresses and what they speak, as their own documentation says; refuses to know keys and connections.
Invariant: a dialect is listed only where the provider documents it for all its models, and what a preset leaves out is
translated, never tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_CHAT, _RESPONSES = "openai.chat", "openai.responses"
_COMPLETIONS, _EMBEDDINGS = "openai.completions", "openai.embeddings"
_MESSAGES, _COUNT = "anthropic.messages", "anthropic.count_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider. ``bases`` has the dialects that it speaks at another address than ``base_url``."""

    title: str
    base_url: str
    dialects: tuple[str, ...]
    bases: Mapping[str, str] = field(default_factory=dict[str, str])
    is_local: bool = False
    is_strict: bool = False  # refuses chat requests with anything that OpenAI's own chat API does not know
    note: str = ""


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        dialects=(_CHAT, _RESPONSES, _COMPLETIONS, _EMBEDDINGS),
        is_strict=True,
    ),
    "anthropic": Preset(
        title="Anthropic",
        base_url="https://api.anthropic.com/v1",
        dialects=(_MESSAGES, _COUNT),
    ),
    "gemini": Preset(
        title="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        dialects=(_CHAT, _EMBEDDINGS),
    ),
    "moonshot": Preset(
        title="Moonshot (Kimi)",
        base_url="https://api.moonshot.ai/v1",
        dialects=(_CHAT,),
        note="accounts of the Chinese site: https://api.moonshot.cn/v1",
    ),
    "dashscope": Preset(
        title="Alibaba DashScope (Qwen)",
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        dialects=(_CHAT, _EMBEDDINGS),
        note="accounts outside China: https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    "deepseek": Preset(
        title="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        dialects=(_CHAT, _MESSAGES),
        bases={_MESSAGES: "https://api.deepseek.com/anthropic/v1"},
    ),
    "volcengine": Preset(
        title="Volcengine Ark (Doubao)",
        base_url="https://ark.cn-beijing.volces.com/api/v3",
        dialects=(_CHAT,),
    ),
    "byteplus": Preset(
        title="BytePlus ModelArk",
        base_url="https://ark.ap-southeast.bytepluses.com/api/v3",
        dialects=(_CHAT, _RESPONSES),
    ),
    "minimax": Preset(
        title="MiniMax",
        base_url="https://api.minimax.io/v1",
        dialects=(_CHAT, _RESPONSES),
        note="accounts of the Chinese site: https://api.minimaxi.com/v1",
    ),
    "novita": Preset(
        title="Novita",
        base_url="https://api.novita.ai/openai/v1",
        dialects=(_CHAT, _COMPLETIONS),
    ),
    "openrouter": Preset(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        dialects=(_CHAT,),  # its other routes are not documented to honour data_policy
    ),
    "ollama": Preset(
        title="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        dialects=(_CHAT, _COMPLETIONS, _EMBEDDINGS),
        is_local=True,
    ),
    "lmstudio": Preset(
        title="LM Studio",
        base_url="http://127.0.0.1:1234/v1",
        dialects=(_CHAT, _RESPONSES, _COMPLETIONS, _EMBEDDINGS),
        is_local=True,
    ),
    "vllm": Preset(
        title="vLLM",
        base_url="http://127.0.0.1:8000/v1",
        dialects=(_CHAT, _RESPONSES, _COMPLETIONS, _EMBEDDINGS),
        is_local=True,
        note="a training server of ours listens on the same port by default",
    ),
}

BEDROCK = "bedrock"  # is asked through AWS's own SDK, so it has no address here

# How older releases, and people, call them.
ALIASES = {
    "kimi": "moonshot",
    "qwen": "dashscope",
    "google": "gemini",
    "claude": "anthropic",
    "doubao": "volcengine",
    "lm-studio": "lmstudio",
}

# The providers whose subscriptions can be used, and the program of the vendor's that does it.
SUBSCRIPTIONS = {
    "anthropic": "claude", "claude": "claude", "openai-codex": "codex", "codex": "codex", "gemini": "gemini",
}  # fmt: skip


def find_preset(provider: str) -> Preset | None:
    """The preset called ``provider``; ``None`` for a name of the user's own."""
    name = provider.strip().lower()
    return PRESETS.get(ALIASES.get(name, name))


def is_bedrock(provider: str) -> bool:
    return provider.strip().lower() == BEDROCK


def needs_no_url(provider: str) -> bool:
    """Whether the name alone says where to ask."""
    return is_bedrock(provider) or find_preset(provider) is not None


def has_subscription(provider: str) -> bool:
    """Whether a subscription can be used, by the provider's own program."""
    return provider.strip().lower() in SUBSCRIPTIONS


def is_subscription_alone(provider: str) -> bool:
    """Whether there is nothing but a subscription under that name."""
    return has_subscription(provider) and not needs_no_url(provider)


def known_names() -> list[str]:
    """Every provider that needs no address, each by one name."""
    alone = [name for name in SUBSCRIPTIONS if is_subscription_alone(name) and name != SUBSCRIPTIONS[name]]
    return [*PRESETS, BEDROCK, *alone]
