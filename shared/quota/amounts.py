"""How much: requests and LLM tokens together, so that neither is forgotten."""

from __future__ import annotations

from typing import Final, NamedTuple

_new: Final = tuple.__new__
"""Amounts are added up several times for each call: so without the function that a NamedTuple is made by."""


class Amount(NamedTuple):
    """Of requests and of LLM tokens."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        return _new(Amount, (self[0] + other[0], self[1] + other[1]))

    def minus(self, other: Amount) -> Amount:
        return _new(Amount, (self[0] - other[0], self[1] - other[1]))

    def covers(self, other: Amount) -> bool:
        return self[0] >= other[0] and self[1] >= other[1]

    def at_least(self, other: Amount) -> Amount:
        return Amount(max(self.requests, other.requests), max(self.tokens, other.tokens))

    def at_most(self, other: Amount) -> Amount:
        return Amount(min(self.requests, other.requests), min(self.tokens, other.tokens))

    def where(self, limited: Amount) -> Amount:
        """This amount in the units that have a limit, and nothing in the others."""
        requests, tokens = limited
        if requests < ENDLESS and tokens < ENDLESS:
            return self
        return Amount(self.requests if requests < ENDLESS else 0, self.tokens if tokens < ENDLESS else 0)


NOTHING: Final = Amount()
ENDLESS: Final = 2**62
"""Stands for "no limit"; amounts are whole numbers, so that sums stay exact."""
