"""The values that stages pass to each other. Frozen, so that nothing of one request leaks into another.

Times end in `_at` and are aware, in UTC. A limit of `None` means no limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

UTC_ZONE = ZoneInfo("UTC")


class Credential(NamedTuple):
    """The two parts of `EVENT_CODE/USER`, in lower case."""

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
    """The models that the event allows. Empty: all deployed models."""
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
"""The fields of a request that can hold the output limit. Each deployment accepts one of them, or both."""

MANAGED_IDENTITY = "managed-identity"
"""The value of `Deployment.auth` for a token of the app's own identity in place of a key."""

API_V1 = "v1"
"""Azure's API without versions. Any other `api_version` means the deployments API with that version."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One row of the table `deployments`: an Azure OpenAI deployment that serves `model`."""

    model: str
    id: str
    endpoint: str
    deployment_name: str
    api_version: str = API_V1
    auth: str = MANAGED_IDENTITY
    """`managed-identity`, or the name of the setting that holds the key. Never the key itself."""
    priority: int = 1
    weight: int = 1
    prompt_price: float | None = None
    """The price of 1,000,000 prompt tokens, in the organiser's currency."""
    completion_price: float | None = None
    """The price of 1,000,000 completion tokens."""
    output_field: str = OUTPUT_FIELDS[0]
    """The field for the output limit: one of `OUTPUT_FIELDS`."""
    active: bool = True

    def __hash__(self) -> int:
        """By its key in the table. Every request hashes a deployment, and all fields would take longer."""
        return hash((self.model, self.id))

    @property
    def target(self) -> tuple[str, str, str, str]:
        """Where and how the deployment is called. If it changes, the deployment's health is forgotten."""
        return self.endpoint, self.deployment_name, self.api_version, self.auth


class FailureKind(StrEnum):
    """The kinds of failure, by which a deployment returns no response that can be passed on."""

    BUSY = "busy"
    """It returned 429."""
    FAILED = "failed"
    """It returned 408, 5xx or an invalid response."""
    SILENT = "silent"
    """It could not be reached, closed the connection before the status, or was too slow."""
    REFUSED = "refused"
    """It refused the key, the role or the deployment's name. An administrator has to fix that."""


class Quirks(NamedTuple):
    """What a deployment has refused, so that later requests avoid it."""

    output_field: str | None = None
    """The only field that it accepts for the output limit. None: the field that the client uses."""
    stream_options: bool = True
    """Whether it accepts `stream_options`. Old versions of the API do not."""


NO_QUIRKS = Quirks()
"""For a deployment that has refused nothing."""


class Usage(NamedTuple):
    """The tokens of a call, as the upstream reports them, or estimated if it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


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

    def plus(self, other: Counts) -> Counts:
        return Counts(*(one + another for one, another in zip(self, other, strict=True)))


class UsageRow(NamedTuple):
    """One row of the table `usage`, or the sum of several."""

    event_code: str
    hour: datetime
    """The start of the hour, in UTC, in which the requests arrived."""
    user: str
    model: str
    """The name that clients use. Empty if a request was refused before a model was chosen."""
    counts: Counts


class Health(NamedTuple):
    """The last result that one instance had from a deployment."""

    seen_at: datetime
    status: str
    """`ok`, or the failure in a word or two, such as `429` or `unreachable`."""
    cooling_until: datetime | None = None
