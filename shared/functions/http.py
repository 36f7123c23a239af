"""The request that a trigger receives, and the response that it returns."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from ..core.errors import ProxyError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
"""The four types of ASGI 3.0, "HTTP Connection Scope"."""

WHOLE = "http.response.whole"
"""A message type of our own with status, headers and body. ASGI needs two messages for them."""

CUT = "http.response.cut"
"""A message type of our own: close the connection after what was sent, without the end of the response."""

BODY = "whole_body"
"""A key of our own in the scope: the body, if all of it arrived before the application called `receive`."""

CLIENT = "client_of_request"
"""Another key of our own in the scope: a `Client`."""

INVOCATION_ID = b"x-ms-invocation-id"
"""The header by which the worker matches a request with its invocation."""


class Client:
    """The other end of a connection. Its requests run one after the other."""

    __slots__ = ("has_left", "idle_since", "is_between", "on_leave")

    def __init__(self) -> None:
        self.has_left = False
        self.on_leave: Callable[[], None] | None = None
        """Called when the client leaves."""
        self.idle_since = math.inf
        """In seconds of the event loop."""
        self.is_between = True
        """Whether its next byte begins a request."""

    def leave(self) -> None:
        self.has_left = True
        if self.on_leave is not None:
            self.on_leave()


class Request:
    """One HTTP request. Read its body from `receive`, an ASGI callable, in one place at a time."""

    __slots__ = ("client", "headers", "path_params", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.headers: dict[Any, Any] = dict(scope["headers"])
        """Names in lower case, values unchanged. The last of repeated headers wins. Names are bytes, except
        for one that the extension adds."""
        self.path_params: Mapping[str, str] = {}
        """The route's parameters, set by the worker. Optional ones may be missing."""
        self.receive = receive
        self.client: Client = scope.get(CLIENT) or Client()

    def take_body(self) -> bytes | None:
        """The body, if all of it has arrived already. Only once, so that it does not stay in memory."""
        body: bytes | None = self.scope.pop(BODY, None)
        return body

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """Percent-decoded, without the query."""
        return str(self.scope["path"])


class Response:
    """A whole response. Override `send_to` to send the body piece by piece."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def send_to(self, receive: Receive, send: Send) -> Awaitable[None]:
        """Send status, headers and body. `receive` reports that the client leaves."""
        return send({"type": WHOLE, "status": self.status, "headers": self.headers, "body": self.body})


def error_response(error: ProxyError) -> Response:
    """The response to a request that reaches no trigger."""
    return Response(error.status, {b"content-type": b"application/json"}, error.body())
