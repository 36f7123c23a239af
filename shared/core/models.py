"""The values that stages pass to each other. Frozen, so that nothing of one request leaks into another.

Times end in `_at` and are aware, in UTC. A limit of `None` means no limit. What each call makes or reads is a
Struct: a field of a NamedTuple takes six times as long to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

UTC_ZONE = ZoneInfo("UTC")

DEFAULT_CURRENCY = "USD"
"""Of an event and of a deployment whose row names none."""


class Credential(Struct, frozen=True, gc=False, cache_hash=True):
    """The two parts of `EVENT_CODE/USER`, in lower case.

    As the client sends it, `event_code` is that of the event now, and `user` may have the tag of a pass. Once
    its event is found (`Events.find_for`), it names the accounts of the user: no tag, and the code under
    which the event was created.
    """

    event_code: str
    user: str


OPEN, CLAIM, ROSTER = ACCESS = ("open", "claim", "roster")
"""Who may use a name at an event. `open`: everyone who knows the event code. `claim`: the first who takes the
name on the page. `roster`: the person to whom the organiser gives its pass."""

BLOCKED, PASS_NUMBER = "blocked", "pass_number"
OWN_LIMITS = ("requests_per_day", "tokens_per_day", "cost_per_day")
"""The limits of an event that can be different for a single attendee."""

MOST_EXCEPTIONS = 30_000
"""The most characters of the column `exceptions`: the service counts two bytes for each, and takes 64 KB."""

Own = Mapping[str, Any]
"""The exceptions for one attendee: `blocked`, `pass_number` (how many earlier passes are void) and some of
`OWN_LIMITS`. A later version may add others."""


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
    cost_per_day: int | None = None
    """What one user may spend in a day, in millionths of the currency."""
    cost_total: int | None = None
    """What the whole event may spend, in the same unit."""
    currency: str = DEFAULT_CURRENCY
    parallel: int | None = None
    """The calls that a user may have running at the same time. None: `DEFAULT_PARALLEL`."""
    tools: tuple[str, ...] = ()
    """The hosted tools that the event allows, such as `web_search`."""
    store_responses: bool = True
    """Whether the upstream may store responses. If not, each call gets `store: false`."""
    id_secret: str = field(default="", repr=False)
    """The key under which response ids are sealed. Empty in a row of an earlier version."""
    access: str = OPEN
    """One of `ACCESS`."""
    pass_secret: str = field(default="", repr=False)
    """The key under which passes are made. Never empty unless `access` is `open`."""
    desk_secret: str = field(default="", repr=False)
    """The key under which the desk key is made. Empty: the event has no desk yet."""
    seats: int | None = None
    """The most names that can be taken. Only for `claim`."""
    exceptions: Mapping[str, Own] = field(default_factory=dict, repr=False, hash=False)
    """By user: what is different for this attendee."""
    first_code: str = ""
    """The code under which the event was created, if its code was changed since: usage and quotas are kept
    under it."""

    @property
    def ledger_code(self) -> str:
        """The code under which usage and quotas are kept."""
        return self.first_code or self.code

    @property
    def has_budget(self) -> bool:
        """Whether money is limited. Then every model that the event uses needs a price."""
        return self.cost_total is not None or self.cost_per_day is not None


LIMITS = (
    "requests_per_day",
    "tokens_per_day",
    "requests_per_minute",
    "requests_total",
    "tokens_total",
    "max_output_tokens",
    "parallel",
)
"""The limits of an event: its fields, columns in the table and options of the commands."""

BUDGETS = ("cost_per_day", "cost_total")
"""The limits in money: fields and columns. Their options are `--budget-per-day` and `--budget`."""

DEFAULT_PARALLEL = 16
HIGHEST_PARALLEL = 1000
"""The largest `Event.parallel`. The smallest is 1."""

OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens")
"""The fields of a request that can hold the output limit. Each deployment accepts one of them, or both."""

MANAGED_IDENTITY = "managed-identity"
"""The value of `Deployment.auth` for a token of the app's own identity in place of a key."""

CHAT, RESPONSES, EMBEDDINGS, IMAGES = APIS = ("chat", "responses", "embeddings", "images")
"""The names of the APIs, in the table `deployments` and in the log."""

API_TITLES = {
    CHAT: "chat completions",
    RESPONSES: "the Responses API",
    EMBEDDINGS: "embeddings",
    IMAGES: "images",
}
"""The names of the APIs in messages, as in "'o3' serves ..."."""

DEFAULT_APIS = (CHAT, RESPONSES)
"""What a deployment serves if its row does not say it."""

Served = Mapping[str, tuple[str, ...]]
"""Each deployed model, with the APIs that it serves, in the order of `APIS`."""

API_V1 = "v1"
"""Azure's API without versions. Any other `api_version` means the deployments API with that version."""


class LongPrices(NamedTuple):
    """The prices of 1,000,000 tokens, for all tokens of a call with more than `above` prompt tokens."""

    above: int
    prompt: Decimal
    cached: Decimal
    completion: Decimal

    def __str__(self) -> str:
        """As in the table and in options: `272000:5/0.5/22.5`."""
        return f"{self.above}:{self.prompt:f}/{self.cached:f}/{self.completion:f}"


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
    prompt_price: Decimal | None = None
    """The price of 1,000,000 prompt tokens, with at most 6 decimals."""
    completion_price: Decimal | None = None
    """The price of 1,000,000 completion tokens."""
    cached_prompt_price: Decimal | None = None
    """The price of 1,000,000 prompt tokens that the upstream had in its cache. None: `prompt_price`."""
    long_prices: LongPrices | None = None
    """Of calls with a long prompt. None: as all others."""
    currency: str = DEFAULT_CURRENCY
    """Of the prices."""
    output_field: str = OUTPUT_FIELDS[0]
    """The field for the output limit: one of `OUTPUT_FIELDS`."""
    active: bool = True
    apis: tuple[str, ...] = DEFAULT_APIS
    """The APIs that it serves: some of `APIS`, in that order."""

    def __hash__(self) -> int:
        """By its key in the table. Every request hashes a deployment, and all fields would take longer."""
        return hash((self.model, self.id))

    @property
    def has_completions(self) -> bool:
        """Whether it returns tokens of its own. An embedding has none."""
        return self.apis != (EMBEDDINGS,)

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
    """It refused the key, the role or the deployment's name, or its quota is used up. An administrator has to
    fix that."""


class Usage(Struct, frozen=True, gc=False):
    """The tokens of a call, as the upstream reports them, or estimated if it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The prompt tokens that the upstream had in its cache. They are cheaper."""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Health(NamedTuple):
    """The last result that one instance had from a deployment."""

    seen_at: datetime
    status: str
    """`ok`, or the failure in a word or two, such as `429` or `unreachable`."""
    cooling_until: datetime | None = None
