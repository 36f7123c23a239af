"""The responses that the proxy sends to its clients: JSON, errors and streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from ..core.errors import ProxyError
from ..core.ids import new_id
from ..functions.http import CUT, Client, Receive, Response, Send
from ..upstream.relay import ClientNotReading, Ending, Relay
from .departure import ClientLeft, Departure

JSON = {b"content-type": b"application/json"}
_NO_HEADERS: Mapping[bytes, bytes] = {}


def json_response(value: Any, headers: Mapping[bytes, bytes] = _NO_HEADERS) -> Response:
    """A 200 with `value` as JSON."""
    all_headers = {**JSON, b"x-request-id": new_id().encode(), **headers}
    return Response(200, all_headers, msgspec.json.encode(value))


def error_response(
    error: ProxyError, headers: Mapping[bytes, bytes] = _NO_HEADERS, request_id: str | None = None
) -> Response:
    """The response for an error. `headers` are added to those of the error."""
    request_id = request_id or new_id()
    all_headers = {**JSON, b"x-request-id": request_id.encode(), **error.headers, **headers}
    return Response(error.status, all_headers, error.body())


class StreamResponse(Response):
    """A stream, whose body comes from `relay`."""

    __slots__ = ("_hides_cuts", "_relay", "client", "on_end")

    client: Client
    """The client of the request. Set it before `send_to`."""

    def __init__(
        self, status: int, headers: Mapping[bytes, bytes], relay: Relay, *, hides_cuts: bool = False
    ) -> None:
        """`hides_cuts` is for clients that show an error event only if the response ends properly."""
        super().__init__(status, headers, b"")
        self._relay = relay
        self._hides_cuts = hides_cuts
        self.on_end: Callable[[], None] | None = None
        """Called when nothing more is sent."""

    async def send_to(self, receive: Receive, send: Send) -> None:
        try:
            with Departure(self.client):
                await self._pump(send)
        except ClientLeft:
            await self._relay.drain()
        except ClientNotReading:
            await send({"type": CUT})
            await self._relay.drain()
        finally:
            self._relay.close()
            if self.on_end is not None:
                self.on_end()

    async def _pump(self, send: Send) -> None:
        def pass_on(data: bytes) -> Awaitable[None]:
            return send({"type": "http.response.body", "body": data, "more_body": True})

        headers = [*self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        is_cut = await self._relay.pump(pass_on) is Ending.CUT and not self._hides_cuts
        await send({"type": CUT} if is_cut else {"type": "http.response.body", "body": b""})
