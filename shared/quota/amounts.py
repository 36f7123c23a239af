"""Amounts of requests and tokens, always together so that neither is forgotten."""

from __future__ import annotations

from typing import NamedTuple


class Amount(NamedTuple):
    requests: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self[0] + other[0], self[1] + other[1])

    def minus(self, other: Amount) -> Amount:
        return Amount(self[0] - other[0], self[1] - other[1])

    def covers(self, other: Amount) -> bool:
        return self[0] >= other[0] and self[1] >= other[1]

    def at_least(self, other: Amount) -> Amount:
        """The larger of the two in each unit."""
        return Amount(max(self[0], other[0]), max(self[1], other[1]))

    def at_most(self, other: Amount) -> Amount:
        """The smaller of the two in each unit."""
        return Amount(min(self[0], other[0]), min(self[1], other[1]))

    def in_limited_units(self, limit: Amount) -> Amount:
        """This amount in the units that `limit` limits, and 0 in the others."""
        requests, tokens = limit
        if requests < UNLIMITED and tokens < UNLIMITED:
            return self
        return Amount(self.requests if requests < UNLIMITED else 0, self.tokens if tokens < UNLIMITED else 0)


NOTHING = Amount()
UNLIMITED = 2**62
"""Means "no limit". It is an integer, so that sums stay exact."""
NO_LIMIT = Amount(UNLIMITED, UNLIMITED)
