"""How much: requests and LLM tokens together, so that neither is forgotten."""

from __future__ import annotations

from typing import Final, NamedTuple


class Amount(NamedTuple):
    """Of requests and of LLM tokens."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens)

    def covers(self, other: Amount) -> bool:
        return self.requests >= other.requests and self.tokens >= other.tokens

    def at_least(self, other: Amount) -> Amount:
        return Amount(max(self.requests, other.requests), max(self.tokens, other.tokens))

    def at_most(self, other: Amount) -> Amount:
        return Amount(min(self.requests, other.requests), min(self.tokens, other.tokens))

    def where(self, limited: Amount) -> Amount:
        """This amount in the units that have a limit, and nothing in the others."""
        return Amount(
            self.requests if limited.requests < ENDLESS else 0, self.tokens if limited.tokens < ENDLESS else 0
        )


NOTHING: Final = Amount()
ENDLESS: Final = 2**62
"""Stands for "no limit"; amounts are whole numbers, so that sums stay exact."""
