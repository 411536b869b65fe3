"""What a turn cost, as the journal keeps it.

Owns the step from a table of prices to a recorded cost; refuses to know either's insides. Invariant: an unknown price
is an unknown cost.
"""

from __future__ import annotations

from metaclaw.chat.usage import TokenCounts
from metaclaw.journal.turns import Cost
from metaclaw.upstreams.prices import PriceTable


def cost_of(prices: PriceTable, upstream: str, model: str, tokens: TokenCounts) -> Cost | None:
    """The cost of an answer with the price that it was reckoned with; ``None`` when nobody knows it.

    What the provider itself says goes before our table, and what the user wrote before both.
    """
    if tokens.usd is not None and prices.find_own(upstream, model) is None:
        return Cost(usd=tokens.usd, price={"model": model, "said_by": upstream})
    price = prices.find(upstream, model)
    if price is None:
        return None
    return Cost(usd=price.cost(tokens), price={"model": model, **price.model_dump(exclude_none=True)})
