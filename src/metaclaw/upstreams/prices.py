"""What an answer costs.

Owns the table of prices, ours and the user's (``prices.yaml`` in the home), and the reckoning; refuses to know who
pays. Invariant: what has no price costs an unknown amount, never nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from metaclaw.chat.usage import TokenCounts
from metaclaw.errors import ConfigError

FILE = "prices.yaml"
_PER = 1_000_000
_SNAPSHOT = re.compile(r"(?:-\d{4}-?\d{2}-?\d{2}|-latest)$")
SUBSCRIBED = " subscription"  # what the name of an upstream ends with that is paid by the month
# What runs on one's own machine has no list price, whatever its name.
_OWN = frozenset({"policy", "ollama", "lmstudio", "lm-studio", "vllm"})


class Price(BaseModel):
    """US dollars per million tokens. ``cached`` and ``cache_write`` are ``input``'s where they are not given.

    ``cache_write_1h`` is for what the cache keeps for an hour, and ``cache_write``'s where it is not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    cache_write_1h: float | None = Field(default=None, ge=0)

    def cost(self, tokens: TokenCounts) -> float:
        """US dollars for ``tokens``."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        for_an_hour = written if self.cache_write_1h is None else self.cache_write_1h
        num_plain = max(0, tokens.prompt - tokens.cached - tokens.cache_written)
        dear = num_plain * self.input + tokens.cached * cached
        dear += (tokens.cache_written - tokens.cache_written_1h) * written + tokens.cache_written_1h * for_an_hour
        return (dear + tokens.completion * self.output) / _PER


_Own = TypeAdapter(dict[str, Price])
_Ours = TypeAdapter(dict[str, dict[str, Price]])


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """``own`` are the user's prices by pattern: ``model`` or ``upstream/model``, with ``*``. The first counts."""

    own: Mapping[str, Price]
    ours: Mapping[str, Price]

    def find(self, upstream: str, model: str) -> Price | None:
        """The price of a model at an upstream; ``None`` when nobody knows it."""
        if (price := self.find_own(upstream, model)) is not None:
            return price
        if upstream.lower() in _OWN or upstream.endswith(SUBSCRIBED):
            return None
        name = model.lower().rpartition("/")[2]
        return self.ours.get(name) or self.ours.get(_SNAPSHOT.sub("", name))

    def usd(self, upstream: str, model: str, tokens: TokenCounts) -> float | None:
        """What an answer cost: by the user's own price, as the provider itself says, or by our table."""
        if tokens.usd is not None and self.find_own(upstream, model) is None:
            return tokens.usd
        price = self.find(upstream, model)
        return None if price is None else price.cost(tokens)

    def find_own(self, upstream: str, model: str) -> Price | None:
        """The user's own price of it; ``None`` when there is none."""
        name = model.lower()
        names = (name, f"{upstream.lower()}/{name}")
        return next((p for pattern, p in self.own.items() if any(fnmatchcase(one, pattern) for one in names)), None)


def load_prices(home: Path) -> PriceTable:
    """The table, with the user's own prices if there are any. Raises ``ConfigError`` for a file that cannot be read."""
    path = home / FILE
    own: dict[str, Price] = {}
    if path.exists():
        try:
            own = _Own.validate_python(_parsed(path.read_text(encoding="utf-8")) or {})
        except (OSError, UnicodeDecodeError, YAMLError, ValidationError) as error:
            example = "'my-model: {input: 1.0, output: 2.0}', in USD per million tokens"
            raise ConfigError(f"{path}: {error}. Write a line for each model, like {example}") from error
    text = resources.files("metaclaw.upstreams").joinpath(FILE).read_text(encoding="utf-8")
    providers = _Ours.validate_python(_parsed(text))
    ours = {model: price for models in providers.values() for model, price in models.items()}
    return PriceTable(own={pattern.lower(): price for pattern, price in own.items()}, ours=ours)


def _parsed(text: str) -> Any:
    yaml: Any = YAML(typ="safe", pure=True)
    return yaml.load(text)
