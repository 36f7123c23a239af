"""What the table `usage` counts.

Times are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple


class Counts(NamedTuple):
    """Requests that were charged, their tokens, and requests that were refused or failed.

    `requests` and the tokens agree with the quotas. A stream that is cut counts in `requests` and `errors`; a
    request that fails before its first byte is not charged, and counts in `errors` alone.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusals: int = 0
    """Refused by the proxy: a used-up quota, a closed event, a model that the event does not allow."""
    errors: int = 0
    """Failed, but not because of the user: the upstream was unreachable, busy, too slow or cut, or the proxy
    has a bug."""
    cached_tokens: int = 0
    """The prompt tokens that the upstream had in its cache. They count in `prompt_tokens` too."""
    cost: int = 0
    """What was charged, in millionths of the event's currency. 0 for models without a price."""

    def plus(self, other: Counts) -> Counts:
        return Counts(*(one + another for one, another in zip(self, other, strict=True)))


class Minute(NamedTuple):
    """What began in one minute of a row. Its fields mean the same as those of `Counts`."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    refusals: int = 0
    errors: int = 0


OTHERS = ""
"""The user name under which all are counted who have no row of their own. A real one is never empty."""


class UsageRow(NamedTuple):
    """One row of the table `usage`, or the sum of several."""

    event_code: str
    hour: datetime
    """The start of the hour, in UTC, in which the requests arrived."""
    user: str
    model: str
    """The name that clients use. Empty if a request was refused before a model was chosen."""
    counts: Counts
    minutes: Mapping[int, Minute] = {}
    """The counts by minute of the hour, from 0 to 59. Empty in a row of an earlier version."""
    refused_for: str = ""
    """The code of the last refusal or error. Empty if there was none."""
