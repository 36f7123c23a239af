"""One call of a client, and how far it has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec

from ..apis.api import Api, ApiRequest
from ..apis.response_ids import Owner
from ..core.models import Credential, Event
from ..core.money import Prices
from ..core.trace import Trace
from ..tokens.families import Family
from ..tokens.prompt import Prompt
from .candidate import Candidate
from .connections import UpstreamBody


class Call(msgspec.Struct, frozen=True):
    """One call of a client."""

    id: str
    arrived_at: datetime
    clock_at_arrival: float
    """The clock of `Forwarding` when the call arrived, before its body was read."""
    credential: Credential
    event: Event
    model: str
    family: Family
    api: Api
    request: ApiRequest
    headers: Mapping[bytes, bytes]
    received: bytes
    """The body as it came."""
    body: bytes
    """The body with the upstream's ids in place of the client's, if the API has ids."""
    prompt: Prompt
    trace: Trace
    model_in_path: str | None = None
    """The model, if the client's path names one. Azure's paths name it as a deployment."""
    owner: Owner | None = None
    """Seals the ids in the response, if the API has ids."""
    place: bytes | None = None
    """The only place that can serve the call: see `place_of`. None: any."""


class Progress(msgspec.Struct):
    """How far one call has come. Not shared with other calls. Times are of the clock of `Forwarding`."""

    began_at: float
    tried: tuple[Candidate, ...] = ()
    attempts: int = 0
    first_byte_at: float | None = None
    is_sent: bool = False
    """Whether a deployment has the prompt and may work on it. After an error response it does not."""
    sent: UpstreamBody | None = None
    """The body of the current try."""
    client_has_left: bool = False
    """Whether the client has left while a deployment works on the call."""
    slow_tries: int = 0
    """How many tries ended because of their time while the deployment had the prompt. Each may be billed."""
    cover: Callable[[int], Awaitable[bool]] | None = None
    """Holds what this many tries can cost. False if the quota has too little for that."""

    def leave(self) -> bool:
        """Note that the client has left. Returns whether a deployment works on the call at this moment.

        If none does, none gets the call any more.
        """
        if self.sent is not None:
            self.client_has_left = self.sent.is_sent
            self.sent.is_withdrawn = True
        return self.client_has_left

    async def can_go_on(self) -> bool:
        """Whether the quota covers another try, besides those that may be billed already."""
        return self.cover is None or await self.cover(self.slow_tries + 1)

    @property
    def billed_tries(self) -> int:
        """The tries that may be billed."""
        return self.slow_tries + (self.sent is not None and self.sent.is_sent)

    @property
    def deployment(self) -> str:
        """The id of the deployment that was tried last."""
        return self.tried[-1].deployment.id if self.tried else ""

    @property
    def prices(self) -> Prices | None:
        """The prices of that deployment. None if one is missing, or none was tried."""
        return self.tried[-1].prices if self.tried else None
