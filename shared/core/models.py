"""The values that stages hand to one another. Frozen: nothing of one request can leak into another.

Times end in `_at` and are aware, in UTC. `None` in a limit means that the event sets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

UTC_ZONE = ZoneInfo("UTC")


class Credential(NamedTuple):
    """What an attendee presents as `EVENT_CODE/USER`, both parts in lower case."""

    event_code: str
    user: str


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the table `events`."""

    code: str
    name: str
    starts_at: datetime
    ends_at: datetime
    active: bool = True
    organizer: str = ""
    time_zone: ZoneInfo = UTC_ZONE
    models: tuple[str, ...] = ()
    """The models that may be used; empty means every one that is deployed."""
    default_model: str | None = None
    max_output_tokens: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    requests_total: int | None = None
    tokens_total: int | None = None


LIMITS = (
    "requests_per_day",
    "tokens_per_day",
    "requests_per_minute",
    "requests_total",
    "tokens_total",
    "max_output_tokens",
)
"""The limits of an event: its fields, columns in the table and options of the commands."""

OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens")
"""The fields of a request that can hold an output cap. Each deployment accepts one of them, or both."""

MANAGED_IDENTITY = "managed-identity"
"""The value of a deployment's `auth` that means: no key, but a token of the app's own identity."""

API_V1 = "v1"
"""Azure's versionless form; any other `api_version` is the deployments form with that version."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One row of the table `deployments`: an Azure OpenAI deployment that serves `model`."""

    model: str
    id: str
    endpoint: str
    deployment_name: str
    api_version: str = API_V1
    auth: str = MANAGED_IDENTITY
    """`managed-identity`, or the name of the setting that holds the key (never the key)."""
    priority: int = 1
    weight: int = 1
    prompt_price: float | None = None
    """Of 1,000,000 prompt tokens, in the organiser's currency; likewise for the completion."""
    completion_price: float | None = None
    output_field: str = OUTPUT_FIELDS[0]
    """The field in which this deployment takes an output cap; the other is `max_tokens`."""
    active: bool = True

    def __hash__(self) -> int:
        """By its key in the table: each call looks its target up by it."""
        return hash((self.model, self.id))

    @property
    def target(self) -> tuple[str, str, str, str]:
        """What is called, and how: what was seen of one target tells nothing of another."""
        return self.endpoint, self.deployment_name, self.api_version, self.auth


class Trouble(StrEnum):
    """Why a deployment gave no answer that could be passed on."""

    BUSY = "busy"
    """429: it says itself for how long."""
    FAILED = "failed"
    """It answered, but with a fault of its own: 408, 5xx, or what is no answer."""
    SILENT = "silent"
    """No answer came: not reached, cut before the status, or too slow."""
    REFUSED = "refused"
    """It refuses our key, role or name: somebody has to mend that."""


class Quirks(NamedTuple):
    """What a deployment has refused before, so that its requests are written in another form."""

    output_field: str | None = None
    """The only field in which it takes an output cap; None: whichever the client used."""
    stream_options: bool = True
    """Whether it takes `stream_options`; old versions of the API do not."""


NO_QUIRKS = Quirks()


class Usage(NamedTuple):
    """LLM tokens as the upstream reported them, or as estimated where it could not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Counts(NamedTuple):
    """What was counted: calls that were forwarded and charged, their tokens, and calls that got no answer.

    A stream that was cut stands in `requests` and in `errors`; a call that failed before its first byte is
    charged nothing and stands in `errors` alone. So `requests` and tokens are what the quotas say too.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusals: int = 0
    """By the proxy itself: a quota, a closed event, a model that the event may not use."""
    errors: int = 0
    """Not the user's: the upstream was not reached, busy, too slow or cut in the middle, or we failed."""

    def plus(self, other: Counts) -> Counts:
        return Counts(*(one + another for one, another in zip(self, other, strict=True)))


class UsageRow(NamedTuple):
    """One row of the table `usage`, or the sum of several."""

    event_code: str
    hour: datetime
    """The beginning of the hour, UTC, in which the calls began."""
    user: str
    model: str
    """As the event knows it; empty where a call was refused before a model was chosen."""
    counts: Counts


class Health(NamedTuple):
    """How one instance last saw a deployment."""

    seen_at: datetime
    status: str
    """`ok`, or what was wrong, in a word or two for an operator, such as `429` or `unreachable`."""
    cooling_until: datetime | None = None
