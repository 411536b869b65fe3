"""What an answer costs, and that an unknown price is not none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from metaclaw.chat.anthropic.endings import usage_from_chat, usage_to_chat
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.errors import ConfigError
from metaclaw.gateway.costs import cost_of
from metaclaw.upstreams.prices import load_prices


def test_cached_tokens_have_their_own_price(tmp_path: Path) -> None:
    price = load_prices(tmp_path).find("anthropic", "claude-haiku-4-5-20251001")
    assert price is not None
    tokens = TokenCounts(prompt=1_000_000, completion=100_000, cached=500_000, cache_written=200_000)
    assert price.cost(tokens) == pytest.approx(0.3 * 1.0 + 0.5 * 0.1 + 0.2 * 1.25 + 0.1 * 5.0)


def test_what_is_cached_for_an_hour_is_dearer_than_for_five_minutes(tmp_path: Path) -> None:
    price = load_prices(tmp_path).find("anthropic", "claude-haiku-4-5")
    assert price is not None
    usage = {
        "input_tokens": 0, "output_tokens": 1, "cache_creation_input_tokens": 3_000_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1_000_000, "ephemeral_1h_input_tokens": 2_000_000},
    }  # fmt: skip
    tokens = _counts(usage_to_chat(usage))
    assert price.cost(tokens) == pytest.approx(1 * 1.25 + 2 * 2.0, abs=1e-4)


def _counts(usage: dict[str, object]) -> TokenCounts:
    counts = token_counts(usage)
    assert counts is not None
    return counts


def test_a_snapshot_with_a_price_of_its_own_has_that(tmp_path: Path) -> None:
    table = load_prices(tmp_path)
    prices = [table.find("openai", model) for model in ("gpt-4o-2024-05-13", "gpt-4o-2024-11-20")]
    assert [price and price.input for price in prices] == [5.0, 2.5]


def test_what_the_provider_says_counts_before_our_table_and_the_users_own_price_before_both(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "cost": 0.25, "cost_details": {"upstream_inference_cost": 9}}
    said, own_key, free = (_counts({**usage, **changed}) for changed in ({}, {"is_byok": True}, {"cost": 0}))
    table = load_prices(tmp_path)
    told = [cost_of(table, "openrouter", "openai/gpt-5-mini", tokens) for tokens in (said, own_key, free)]
    assert [cost and cost.usd for cost in told] == pytest.approx([0.25, 9.25, 27e-6])
    unlisted = cost_of(table, "openrouter", "some/model", said)
    assert unlisted is not None
    assert unlisted.price == {"model": "some/model", "said_by": "openrouter"}
    assert cost_of(table, "openrouter", "some/model", free) is None
    (tmp_path / "prices.yaml").write_text("openrouter/*: {input: 1, output: 2}\n")
    own = cost_of(load_prices(tmp_path), "openrouter", "some/model", said)
    assert own is not None
    assert own.usd == pytest.approx(102e-6)


@pytest.mark.parametrize("model", ["gpt-5-mini", "openai/gpt-5-mini", "gpt-5-mini-2025-08-07", "GPT-5-mini"])
def test_a_name_holds_for_its_snapshots_and_routers(tmp_path: Path, model: str) -> None:
    price = load_prices(tmp_path).find("openrouter", model)
    assert price is not None
    assert price.input == 0.25


@pytest.mark.parametrize(
    ("upstream", "model"),
    [
        ("openai", "gpt-9"),
        ("ollama", "gpt-5-mini"),
        ("policy", "gpt-5"),
        ("anthropic subscription", "claude-haiku-4-5"),  # paid by the month
    ],
)
def test_what_nobody_knows_the_price_of_is_not_free(tmp_path: Path, upstream: str, model: str) -> None:
    assert load_prices(tmp_path).find(upstream, model) is None


def test_the_users_own_prices_come_first(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("work/*: {input: 7, output: 8}\ngpt-5-mini: {input: 1, output: 2}\n")
    table = load_prices(tmp_path)
    asked = (("work", "gpt-5-mini"), ("openai", "gpt-5-mini"), ("openai", "gpt-5-nano"))
    prices = [table.find(upstream, model) for upstream, model in asked]
    assert [price and price.input for price in prices] == [7, 1, 0.05]


@pytest.mark.parametrize(
    "text",
    ["a: {input: -1, output: 2}", "a: [", "a: {input: 1}", "a: {in: 1, output: 1}", "a: {input: .inf, output: 1}"],
)
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
    openrouter = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 4}}
    assert token_counts(openrouter) == TokenCounts(prompt=9, completion=1, cache_written=4)
    assert token_counts({"prompt_tokens": 10.0, "completion_tokens": 2.0}) == TokenCounts(prompt=10, completion=2)


def test_what_was_thought_and_is_in_the_total_alone_is_charged_for() -> None:
    xai = {
        "prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
        "prompt_tokens_details": {"cached_tokens": 128}, "completion_tokens_details": {"reasoning_tokens": 2809},
    }  # fmt: skip
    assert token_counts(xai) == TokenCounts(prompt=10120, completion=4308, cached=128, reasoning=2809)
    assert usage_from_chat(xai)["output_tokens"] == 4308  # of which thinking is told too
    gemini = {"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81}
    assert token_counts(gemini) == TokenCounts(prompt=21, completion=60)
    beside_the_prompt = {
        "prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 86, "prompt_tokens_details": {"cached_tokens": 60}
    }  # fmt: skip
    assert token_counts(beside_the_prompt) == TokenCounts(prompt=21, completion=5, cached=21)


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
