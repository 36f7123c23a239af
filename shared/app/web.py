"""The handlers of the triggers: an HTTP request in, a response out, every failure in its envelope."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType

from ..core.deadlines import Deadlines, Overdue
from ..core.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ProxyError,
    RequestTooLarge,
    StoreUnavailable,
)
from ..core.ids import new_id
from ..core.settings import Settings, SettingsError
from ..functions import process
from ..functions.http import Receive, Request, Response, Send
from ..upstream.relay import ClientDeaf, Relay
from .page import page
from .proxy import Reply, refuse
from .wiring import Wiring

_log = logging.getLogger(__name__)

WATCH_AFTER_SECONDS = 0.05
"""A call that takes less than this is not watched for a client that leaves: the watch would cost more than it
saves."""

_JSON = {b"content-type": b"application/json"}
_CLIENT_LEFT = Reply(499, {}, b"")


def _handler(
    work: Callable[[Web, Request], Awaitable[Reply]],
) -> Callable[[Web, Request], Awaitable[Response]]:
    """Make a handler of a method: whatever the method raises becomes a response.

    No exception may leave a handler: after a CancelledError, the host waits for the response for ever.
    """

    async def handle(self: Web, req: Request) -> Response:
        try:
            reply = await work(self, req)
        except ProxyError as error:
            reply = refuse(error, new_id())
        except _ClientLeft:
            reply = _CLIENT_LEFT
        except asyncio.CancelledError:
            _log.warning("The platform cancelled a call.")
            reply = refuse(InternalError(), new_id())
        except Exception:
            _log.exception("A call failed because of a fault in the proxy.")
            reply = refuse(InternalError(), new_id())
        if isinstance(reply.body, Relay):
            return _Streamed(reply.status, reply.headers, reply.body)
        return Response(reply.status, reply.headers, reply.body)

    return handle


class Web:
    """The handlers. Everything is built at the first request: nothing is opened at import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._wiring: Wiring | None = None
        process.silence_logs()
        process.freeze_modules()

    @_handler
    async def chat(self, req: Request) -> Reply:
        """A chat completion, by any of its routes."""
        wiring, came_at = self._wiring or self._open(), time.monotonic()
        try:
            with self._body_in_time.block():
                body = await _body(req.receive, wiring.settings.max_body_bytes)
        except ProxyError as error:
            wiring.proxy.refused(req.headers, error)
            raise
        with _Departure(req.receive, self._unwatched):  # only one may read at a time, so not before
            return await wiring.proxy.chat(req.headers, body, req.path_params.get("deployment"), came_at)

    @_handler
    async def models(self, req: Request) -> Reply:
        """The models of the caller's event."""
        return await self._open().proxy.models(req.headers)

    @_handler
    async def model(self, req: Request) -> Reply:
        """One model of the caller's event."""
        return await self._open().proxy.model(req.headers, req.path_params["model"])

    @_handler
    async def event(self, req: Request) -> Reply:
        """The caller's event."""
        return await self._open().proxy.event(req.headers)

    @_handler
    async def ready(self, _: Request) -> Reply:
        """Whether the settings are valid and the tables respond."""
        await self._open().tables.check()
        return Reply(200, {**_JSON}, b'{"status":"ready"}')

    @_handler
    async def alive(self, _: Request) -> Reply:
        """Whether the process runs. Touches nothing else."""
        return Reply(200, {**_JSON}, b'{"status":"alive"}')

    @_handler
    async def home(self, _: Request) -> Reply:
        """The attendee's page. Touches nothing else."""
        return page()

    @_handler
    async def unknown(self, req: Request) -> Reply:
        """A path that this proxy does not serve."""
        raise NotFound(
            f"Nothing is at {req.path[:100]!r}: this proxy serves chat completions only, "
            "at /v1/chat/completions."
        )

    @_handler
    async def without_v1(self, req: Request) -> Reply:
        """A path of ours without its prefix."""
        path = req.path[:200]
        raise NotFound(
            f"{path!r} lacks /v1: it should be {'/v1' + path!r}. "
            "The base_url or azure_endpoint of an SDK ends in /v1."
        )

    def method_not_allowed(self, allowed: str) -> Callable[[Request], Awaitable[Response]]:
        """A handler for a path that takes only the method `allowed`."""

        @_handler
        async def refuse_method(_: Web, req: Request) -> Reply:
            raise MethodNotAllowed(f"{req.path[:100]!r} takes {allowed}, not {req.method}.", allowed)

        async def handle(req: Request) -> Response:
            return await refuse_method(self, req)

        return handle

    async def remove_old_rows(self) -> None:
        """Remove the rows that are older than the settings allow. For a timer.

        Raises:
            StoreUnavailable: the settings cannot be used.
        """
        try:
            await self._open().retention.remove_old_rows()
        except asyncio.CancelledError:  # the Functions host would wait for the end for ever
            _log.warning("The platform cancelled the removal of old rows.")

    async def close(self) -> None:
        """Close what was opened. The platform kills the process instead."""
        wiring, self._wiring = self._wiring, None
        if wiring is not None:
            await wiring.close()

    def _open(self) -> Wiring:
        if self._wiring is None:
            try:
                settings = Settings.read(self._environment)
                self._body_in_time = _body_in_time(settings.longest_body_seconds)
                self._unwatched = Overdue(WATCH_AFTER_SECONDS)
                self._wiring = Wiring(settings)
            except (SettingsError, ValueError, TypeError) as error:
                _log.error("the settings cannot be used: %s", error)
                raise StoreUnavailable(
                    "The proxy is not set up correctly. Tell your organiser.", 30
                ) from error
        return self._wiring


class _Streamed(Response):
    """A stream as a response. It owns the stream from the first byte to the last."""

    __slots__ = ("_relay",)

    def __init__(self, status: int, headers: Mapping[bytes, bytes], relay: Relay) -> None:
        super().__init__(status, headers, b"")
        self._relay = relay

    async def send_to(self, receive: Receive, send: Send) -> None:
        try:
            with _Departure(receive, Overdue(WATCH_AFTER_SECONDS)):
                await self._pump(send)
        except (_ClientLeft, ClientDeaf):
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


class _ClientLeft(Exception):
    """The client closed the connection while it was being served."""


class _Departure:
    """Raises `_ClientLeft` in the block when the client leaves."""

    def __init__(self, receive: Receive, unwatched: Overdue) -> None:
        self._receive = receive
        self._unwatched = unwatched
        self._left = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.current_task(self._unwatched.loop)
        self._unwatched.enter(self)

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._unwatched.leave(self)
        if self._watch is not None:
            self._watch.cancel()
        if self._left and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._task is not None:
                self._task.uncancel()
            raise _ClientLeft

    def is_late(self) -> None:
        """Begin to watch the client."""
        self._watch = self._unwatched.loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._task is not None:
            self._task.cancel()


def _body_in_time(seconds: float) -> Deadlines:
    text = f"The body did not arrive within {seconds:g} seconds. Send it at once."
    return Deadlines(seconds, partial(InvalidRequest, text))


async def _body(receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it is longer than `limit` bytes; the rest is not read.
        _ClientLeft: the client left before it had sent all of it.
    """
    body, more = b"", True
    parts: list[bytes] = []
    size = 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        body, more = message["body"], message["more_body"]
        size += len(body)
        if size > limit:
            raise RequestTooLarge(f"The body is larger than {limit:,} bytes. Send fewer or shorter messages.")
        parts.append(body)
    return body if len(parts) == 1 else b"".join(parts)
