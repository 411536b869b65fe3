"""What an answer costs, and that an unknown price is not none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.errors import ConfigError
from metaclaw.upstreams.prices import load_prices


def test_cached_tokens_have_their_own_price(tmp_path: Path) -> None:
    price = load_prices(tmp_path).find("anthropic", "claude-haiku-4-5-20251001")
    assert price is not None
    tokens = TokenCounts(prompt=1_000_000, completion=100_000, cached=500_000, cache_written=200_000)
    assert price.cost(tokens) == pytest.approx(0.3 * 1.0 + 0.5 * 0.1 + 0.2 * 1.25 + 0.1 * 5.0)


@pytest.mark.parametrize("model", ["gpt-5-mini", "openai/gpt-5-mini", "gpt-5-mini-2025-08-07", "GPT-5-mini"])
def test_a_name_holds_for_its_snapshots_and_routers(tmp_path: Path, model: str) -> None:
    price = load_prices(tmp_path).find("openrouter", model)
    assert price is not None
    assert price.input == 0.25


@pytest.mark.parametrize(("upstream", "model"), [("openai", "gpt-9"), ("ollama", "gpt-5-mini"), ("policy", "gpt-5")])
def test_what_nobody_knows_the_price_of_is_not_free(tmp_path: Path, upstream: str, model: str) -> None:
    assert load_prices(tmp_path).find(upstream, model) is None


def test_the_users_own_prices_come_first(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("work/*: {input: 7, output: 8}\ngpt-5-mini: {input: 1, output: 2}\n")
    table = load_prices(tmp_path)
    asked = (("work", "gpt-5-mini"), ("openai", "gpt-5-mini"), ("openai", "gpt-5-nano"))
    prices = [table.find(upstream, model) for upstream, model in asked]
    assert [price and price.input for price in prices] == [7, 1, 0.05]


@pytest.mark.parametrize("text", ["a: {input: -1, output: 2}", "a: [", "a: {input: 1}", "a: {in: 1, output: 1}"])
def test_a_table_that_cannot_be_read_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(ConfigError, match="my-model"):
        load_prices(tmp_path)


def test_usage_is_read_in_every_form_that_providers_write() -> None:
    assert token_counts(None) is None
    assert token_counts({"total_tokens": 3}) is None
    deepseek = token_counts({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 6})
    assert deepseek == TokenCounts(prompt=10, completion=2, cached=6)
    openai = token_counts(
        {
            "prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99},
            "completion_tokens_details": {"reasoning_tokens": 4},
        }
    )  # fmt: skip
    assert openai == TokenCounts(prompt=10, completion=5, cached=10, reasoning=4)
    assert token_counts({"prompt_tokens": 10.0, "completion_tokens": 2.0}) == TokenCounts(prompt=10, completion=2)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": math.nan},
        {"prompt_tokens": "many", "completion_tokens": True, "prompt_tokens_details": []},
    ],
)
def test_a_usage_of_nothing_is_none_so_that_budgets_go_by_an_estimate(usage: dict[str, object]) -> None:
    assert token_counts(usage) is None
