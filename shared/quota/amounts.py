"""Amounts of requests, tokens and money, always together so that none is forgotten."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct


class Amount(Struct, frozen=True, gc=False):
    """Every call adds up several of these, and a struct costs a third of a tuple."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    """In millionths of the event's currency."""

    def plus(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.cost + other.cost)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.cost - other.cost)

    def changed_by(self, added: Amount, taken: Amount) -> Amount:
        """`plus` and `minus` in one step, for what every call does."""
        return Amount(
            self.requests + added.requests - taken.requests,
            self.tokens + added.tokens - taken.tokens,
            self.cost + added.cost - taken.cost,
        )

    def times(self, factor: int) -> Amount:
        return Amount(self.requests * factor, self.tokens * factor, self.cost * factor)

    def divided_by(self, divisor: int) -> Amount:
        """Each unit is rounded down."""
        return Amount(self.requests // divisor, self.tokens // divisor, self.cost // divisor)

    def covers(self, other: Amount) -> bool:
        return self.requests >= other.requests and self.tokens >= other.tokens and self.cost >= other.cost

    def suffices(self, other: Amount, limit: Amount) -> bool:
        """Whether it covers `other` in the units that `limit` limits."""
        return (
            (self.requests >= other.requests or limit.requests >= UNLIMITED)
            and (self.tokens >= other.tokens or limit.tokens >= UNLIMITED)
            and (self.cost >= other.cost or limit.cost >= UNLIMITED)
        )

    def at_least(self, other: Amount) -> Amount:
        """The larger of the two in each unit."""
        return Amount(
            max(self.requests, other.requests), max(self.tokens, other.tokens), max(self.cost, other.cost)
        )

    def at_most(self, other: Amount) -> Amount:
        """The smaller of the two in each unit."""
        return Amount(
            min(self.requests, other.requests), min(self.tokens, other.tokens), min(self.cost, other.cost)
        )

    def in_limited_units(self, limit: Amount, rest: Amount) -> Amount:
        """This amount in the units that `limit` limits. The others are those of `rest`."""
        return Amount(
            self.requests if limit.requests < UNLIMITED else rest.requests,
            self.tokens if limit.tokens < UNLIMITED else rest.tokens,
            self.cost if limit.cost < UNLIMITED else rest.cost,
        )


NOTHING = Amount()
UNLIMITED = 2**62
"""Means "no limit". It is an integer, so that sums stay exact."""
NO_LIMIT = Amount(UNLIMITED, UNLIMITED, UNLIMITED)


@lru_cache(maxsize=1024)
def limit_of(requests: int | None, tokens: int | None, cost: int | None) -> Amount:
    """`NO_LIMIT` itself if there is none."""
    if requests is tokens is cost is None:
        return NO_LIMIT
    return Amount(*(UNLIMITED if one is None else one for one in (requests, tokens, cost)))
