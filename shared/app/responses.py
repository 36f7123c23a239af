"""The responses of the proxy: JSON, refusals and streams."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from ..core.errors import ProxyError
from ..core.ids import new_id
from ..functions.http import Receive, Response, Send
from ..upstream.relay import ClientNotReading, Relay
from .departure import ClientLeft, Departure, Watch

JSON = {b"content-type": b"application/json"}
_NONE: Mapping[bytes, bytes] = {}


def json_response(value: Any, headers: Mapping[bytes, bytes] = _NONE) -> Response:
    """A 200 with `value` as JSON."""
    ours = {**JSON, b"x-request-id": new_id().encode()}
    return Response(200, {**ours, **headers}, msgspec.json.encode(value))


def error_response(
    error: ProxyError, headers: Mapping[bytes, bytes] = _NONE, request_id: str | None = None
) -> Response:
    """The response for an error, with further headers."""
    ours = {**JSON, b"x-request-id": (request_id or new_id()).encode()}
    return Response(error.status, {**ours, **error.headers, **headers}, error.body())


class StreamResponse(Response):
    """A stream. It owns the relay from the first byte to the last."""

    __slots__ = ("_relay",)

    def __init__(self, status: int, headers: Mapping[bytes, bytes], relay: Relay) -> None:
        super().__init__(status, headers, b"")
        self._relay = relay

    async def send_to(self, receive: Receive, send: Send) -> None:
        try:
            with Departure(receive, Watch()):
                await self._pump(send)
        except (ClientLeft, ClientNotReading):
            pass
        finally:
            self._relay.close()

    async def _pump(self, send: Send) -> None:
        def pass_on(data: bytes) -> Awaitable[None]:
            return send({"type": "http.response.body", "body": data, "more_body": True})

        headers = [*self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await self._relay.pump(pass_on)
        await send({"type": "http.response.body", "body": b""})
