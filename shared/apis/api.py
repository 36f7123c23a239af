"""What differs between the APIs: chat completions, Responses, embeddings and images.

The sequence of a call (`app/proxy.py`) is the same for all. Each API is a module with one subclass of `Api`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from ..core.errors import ProxyError
from ..core.models import Deployment, Event, Usage
from .extras import HasExtras
from .quirks import Quirks
from .response_sealing import Sealer
from .usage import read_usage, usage_of


class ApiRequest(HasExtras, Protocol):
    """The members of a body that policy reads, in any API."""

    @property
    def model(self) -> str | None: ...

    @property
    def stream(self) -> bool | None: ...

    @property
    def choices(self) -> int:
        """The number of answers. Each may be as long as the output limit."""

    @property
    def output_tokens(self) -> int | None:
        """The most tokens of each answer; None if the client sets no limit."""


UNKNOWN_OUTPUT = 2**62
"""In place of the size of an output, if that is not known. The output limit is less, and is charged."""


class StreamReader(Protocol):
    """Reads one response that is passed on piece by piece."""

    @property
    def usage(self) -> Usage | None:
        """As the upstream reported it; None if it has not, or nothing plausible."""

    @property
    def output_bytes(self) -> int:
        """An upper bound of the output, in bytes. Never below its tokens. May be `UNKNOWN_OUTPUT`."""

    @property
    def done(self) -> bool:
        """The last event has come. What follows it is ignored."""

    @property
    def failed(self) -> bool:
        """The upstream sent an error event."""

    @property
    def in_event(self) -> bool:
        """Whether the client has got a part of an event."""

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client: whole events, or a piece of a long one.

        Raises:
            UpstreamError: the response cannot be passed on.
        """

    def end(self) -> bool:
        """Read what is left after the last byte. Whether the response is complete."""

    def error_event(self, error: ProxyError) -> bytes:
        """The stream event for an error after the first byte, when no status can be sent any more."""


class Api(ABC):
    """One API. Stateless: all calls share it."""

    name: ClassVar[str]
    """In the table `deployments` and in the log."""
    title: ClassVar[str]
    """In messages."""
    path: ClassVar[str]
    """Below the base URL, here and upstream."""
    prompt_member: ClassVar[str]
    """The member of the body that holds the prompt."""
    is_below_deployment: ClassVar[bool] = True
    """Whether Azure's versions with a date have it below the deployment's name."""
    has_output_limit: ClassVar[bool] = True
    """Whether the body can limit the output, so that the proxy can lower it."""
    has_ids: ClassVar[bool] = False
    """Whether requests and responses have ids of stored things, which belong to one attendee."""
    most_parts: ClassVar[int | None] = None
    """The most members and items of a body, at all depths. None: any number."""
    is_kept_whole: ClassVar[bool] = False
    """Whether a whole response must be read to its end before it is passed on, however long it is."""

    @abstractmethod
    def parse(self, body: bytes, encoding: bytes = b"") -> ApiRequest:
        """Read the members that policy needs. `encoding` is the request's header `content-encoding`.

        Raises:
            InvalidJson: the body is not JSON in UTF-8, or is nested too deeply.
            InvalidRequest: it is not an object, or a member has the wrong type or is out of range.
            UnsupportedValue: the proxy cannot serve a value.
        """

    @abstractmethod
    def upstream_body(
        self, body: bytes, request: Any, deployment: Deployment, output_limit: int | None, quirks: Quirks
    ) -> bytes:
        """The body for this deployment: the client's members, changed only where policy requires it.

        Every other value keeps its bytes. `request` is what `parse` returned for `body`.
        """

    @abstractmethod
    def stream_reader(self, request: Any, sealer: Sealer | None) -> StreamReader:
        """Reads the stream that answers `request`. `sealer` seals its ids, if the API has any."""

    def check(self, body: bytes) -> None:  # noqa: B027 - most APIs have nothing to check
        """Check what `parse` has not read, in a turn of its own if the body is large.

        Raises:
            UnsupportedValue: the proxy cannot serve a value.
        """

    def unstored(self, body: bytes) -> bytes:
        """The body for an event that lets the upstream store nothing."""
        return body

    def admit(self, request: Any, event: Event) -> None:  # noqa: B027 - most APIs have nothing to check
        """Check what only the event can allow.

        Raises:
            ToolNotAllowed: the event does not allow a hosted tool.
        """

    def most_output_tokens(self, request: Any, model: str) -> int | None:
        """The most tokens of each answer by `model`; None if the client sets no limit."""
        tokens: int | None = request.output_tokens
        return tokens

    def read_usage(self, member: bytes | msgspec.Raw) -> Usage | None:
        """The usage in the member `usage`; None if it reports none, or nothing plausible."""
        return read_usage(member)

    def usage_of(self, body: bytes) -> Usage | None:
        """The usage in a whole response; None if it reports none, or nothing plausible.

        Raises:
            ValueError: the body is not a JSON object.
        """
        return usage_of(body, self.read_usage)

    def learned_quirks(self, error: Mapping[str, Any], quirks: Quirks) -> Quirks | None:
        """The quirks that a 400 with this `error` shows; None if a retry would not help.

        `quirks` are those with which the request was sent.
        """
        return None

    def is_plain(self, body: bytes, request: Any) -> bool:
        """Whether the request has only members that do not restrict each other."""
        return False

    def has_own_data(self, body: bytes) -> bool:
        """Whether the request uses a data source of the attendee.

        Azure returns the errors of such a source as if they were its own.
        """
        return False
