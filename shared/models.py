"""The values that stages hand to one another. Frozen: nothing of one request can leak into another.

Times end in `_at` and are aware, in UTC. `None` in a limit means that the event sets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
    output_field: str = "max_completion_tokens"
    """The field in which this deployment takes an output cap; the other is `max_tokens`."""
    active: bool = True


class Usage(NamedTuple):
    """LLM tokens as the upstream reported them, or as estimated where it could not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
