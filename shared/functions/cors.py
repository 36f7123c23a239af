"""Lets web pages of any origin call the proxy ("Fetch Standard", section "CORS protocol").

The proxy uses no cookies, and every page must know the attendee's key, so no origin needs to be excluded.
"""

from __future__ import annotations

from collections.abc import Awaitable

from .http import WHOLE, Message, Request, Response, Send

ORIGIN = b"origin"
"""A request without this header needs nothing of this module."""

EXPOSED = (
    "apim-request-id",
    "retry-after",
    "retry-after-ms",
    "x-event-budget-limit",
    "x-event-budget-remaining",
    "x-event-max-output-tokens",
    "x-event-replayed",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
)
"""The headers of a response that a page may read, besides `content-type` and the like."""

_HEADERS = {
    b"access-control-allow-origin": b"*",
    b"access-control-expose-headers": ", ".join(EXPOSED).encode(),
}
_PREFLIGHT_HEADERS = {
    # all of them, so that a page can read the 405 for a wrong one
    b"access-control-allow-methods": b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS",
    b"access-control-max-age": b"86400",
}


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if a page may send a request."""
    return request.method == "OPTIONS" and b"access-control-request-method" in request.headers


def preflight_response(request: Request) -> Response:
    """Allows the request, with all headers that the page wants to send."""
    headers = dict(_PREFLIGHT_HEADERS)
    if wanted := request.headers.get(b"access-control-request-headers"):
        headers[b"access-control-allow-headers"] = wanted
    if request.headers.get(b"access-control-request-private-network") == b"true":  # a proxy on a laptop
        headers[b"access-control-allow-private-network"] = b"true"
    return Response(204, headers, b"")


def with_cors(send: Send) -> Send:
    """`send`, with the headers that let the page read the response."""

    def send_with_cors(message: Message) -> Awaitable[None]:
        if message["type"] == WHOLE:
            message = {**message, "headers": {**message["headers"], **_HEADERS}}
        elif message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_HEADERS.items()]}
        return send(message)

    return send_with_cors
