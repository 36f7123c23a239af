"""A request and a response, as the HTTP extension hands them to a trigger and takes them back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from ..core.errors import ProxyError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
"""The four types of ASGI 3.0, "HTTP Connection Scope"."""

WHOLE = "http.response.whole"
"""The type of a message of our own: a response's status, headers and body. ASGI needs two messages for it."""

INVOCATION_ID = b"x-ms-invocation-id"
"""The header by which the worker joins a request and its invocation."""


class Request:
    """One HTTP request. Its body is read from `receive`, an ASGI callable; read it from one place only."""

    __slots__ = ("headers", "path_params", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.headers: dict[Any, Any] = dict(scope["headers"])
        """Names in lower case, values as they came; of a repeated name, the last. One key is text."""
        self.path_params: Mapping[str, str] = {}
        """The route's parameters. The worker sets them; one that is optional may be missing."""
        self.receive = receive

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """Percent-decoded, without the query."""
        return str(self.scope["path"])


class Response:
    """A whole response. Subclass it and override `send_to` to send a body piece by piece."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def send_to(self, receive: Receive, send: Send) -> None:
        """Send status, headers and body. `receive` reports when the client leaves."""
        await send({"type": WHOLE, "status": self.status, "headers": self.headers, "body": self.body})


def refused(error: ProxyError) -> Response:
    """The response for a call that reaches no trigger."""
    return Response(error.status, {b"content-type": b"application/json"}, error.body())
