"""Between Functions' types and ours: requests in, replies out, errors into their envelope."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import worker
from .deadlines import Deadlines, Overdue
from .errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ProxyError,
    RequestTooLarge,
    StoreUnavailable,
)
from .page import page
from .proxy import Headers, Reply, new_id, refuse
from .relay import ClientDeaf, Relay
from .settings import Settings, SettingsError
from .wiring import Wiring

_log = logging.getLogger(__name__)

WATCH_AFTER_SECONDS = 0.05
"""A call that is answered sooner after its body came is not watched for a client that leaves: the watch would
cost more than it saves."""

_CLIENT_LEFT = Reply(499, {}, b"")


class Web:
    """What the triggers call. Everything is built at the first request: nothing is opened at import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._wiring: Wiring | None = None
        worker.silence_logs()
        worker.accept_every_path()
        worker.freeze_modules()

    async def chat(self, req: Request) -> Response:
        """A chat completion, by any of its routes."""

        return await _answer(req, partial(self._chat, req))

    async def models(self, req: Request) -> Response:
        """The models of the caller's event."""
        return await _answer(req, lambda: self._open().proxy.models(_headers(req)))

    async def model(self, req: Request) -> Response:
        """One model of the caller's event."""
        name = req.scope["path_params"]["model"]
        return await _answer(req, lambda: self._open().proxy.model(_headers(req), name))

    async def event(self, req: Request) -> Response:
        """The caller's event."""
        return await _answer(req, lambda: self._open().proxy.event(_headers(req)))

    async def ready(self, req: Request) -> Response:
        """Whether the settings are sound and the tables answer."""

        async def work() -> Reply:
            await self._open().tables.check()
            return Reply(200, {b"content-type": b"application/json"}, b'{"status":"ready"}')

        return await _answer(req, work)

    async def remove_old_rows(self) -> None:
        """Remove the rows that are kept no longer. For a timer: it answers nobody.

        Raises:
            StoreUnavailable: the settings cannot be used.
        """
        await self._open().retention.remove_old_rows()

    async def close(self) -> None:
        """Close what was opened. Where the platform kills the process, nobody calls this."""
        wiring, self._wiring = self._wiring, None
        if wiring is not None:
            await wiring.close()

    async def _chat(self, req: Request) -> Reply:
        wiring, came_at = self._wiring or self._open(), time.monotonic()
        try:
            with self._body_in_time.block():
                body = await _body(req, wiring.settings.max_body_bytes)
        except ProxyError as error:
            wiring.proxy.refused(_headers(req), error)
            raise
        with _Departure(req.receive, self._unwatched):  # from here on: only one may read at a time
            deployment = req.scope["path_params"].get("deployment")
            return await wiring.proxy.chat(_headers(req), body, deployment, came_at)

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


async def alive(req: Request) -> Response:
    """Alive; touches nothing else."""

    async def work() -> Reply:
        return Reply(200, {b"content-type": b"application/json"}, b'{"status":"alive"}')

    return await _answer(req, work)


async def home(req: Request) -> Response:
    """The attendee's page; touches nothing else."""

    async def work() -> Reply:
        return page()

    return await _answer(req, work)


async def unknown(req: Request) -> Response:
    """A path that is not there."""

    async def work() -> Reply:
        raise NotFound(
            f"Nothing is at {req.url.path[:100]!r}: this proxy serves chat completions only, "
            "at /v1/chat/completions."
        )

    return await _answer(req, work)


async def without_v1(req: Request) -> Response:
    """A path of ours whose prefix was forgotten."""

    async def work() -> Reply:
        path = req.url.path[:200]
        raise NotFound(
            f"{path!r} lacks /v1: it should be {'/v1' + path!r}. "
            "The base_url or azure_endpoint of an SDK ends in /v1."
        )

    return await _answer(req, work)


async def method_not_allowed(req: Request, allowed: str) -> Response:
    """A path that is there, for another method."""

    async def work() -> Reply:
        raise MethodNotAllowed(f"{req.url.path[:100]!r} takes {allowed}, not {req.method}.", allowed)

    return await _answer(req, work)


class _ReplyResponse(Response):
    """A reply as a Starlette response that writes to the wire itself.

    It owns its stream from the first byte to the last, because only so do a client's leaving and
    the accounting come out the same under every server and framework version.
    """

    background = None

    def __init__(self, reply: Reply) -> None:
        self.status_code = reply.status
        self.raw_headers = [*reply.headers.items()]
        self._content = content = reply.body
        if isinstance(content, bytes):
            self.raw_headers.append((b"content-length", b"%d" % len(content)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if isinstance(self._content, Relay):
                await self._stream(self._content, receive, send)
            else:
                # After all that is ready now, and so beside the answers of other calls: their one reader (in
                # the cloud the platform's host, on this machine) is woken once. docs/decisions/0057
                await asyncio.sleep(0)
                await send(self._start())
                await send({"type": "http.response.body", "body": self._content})
        finally:
            worker.forget_invocation(scope["headers"])

    def _start(self) -> dict[str, object]:
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}

    async def _stream(self, relay: Relay, receive: Receive, send: Send) -> None:
        try:
            with _Departure(receive, Overdue(WATCH_AFTER_SECONDS)):
                await self._pump(relay, send)
        except (_ClientLeft, ClientDeaf):
            pass
        finally:
            relay.close()

    async def _pump(self, relay: Relay, send: Send) -> None:
        async def pass_on(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        await send(self._start())
        await relay.pump(pass_on)
        await send({"type": "http.response.body", "body": b""})


class _ClientLeft(Exception):
    """The client closed the connection while it was being served."""


class _Departure:
    """Ends the block when the client leaves, by `_ClientLeft`."""

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
        """It takes long enough to be watched."""
        self._watch = self._unwatched.loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._task is not None:
            self._task.cancel()


async def _answer(req: Request, work: Callable[[], Awaitable[Reply]]) -> Response:
    """Do the work; whatever goes wrong becomes an answer, for what leaves a handler becomes none."""
    try:
        reply = await work()
    except ProxyError as error:
        reply = refuse(error, new_id())
    except _ClientLeft:
        reply = _CLIENT_LEFT
    except asyncio.CancelledError:
        _log.warning("a call was cancelled by the platform")
        reply = refuse(InternalError(), new_id())
    except Exception:
        _log.exception("a call failed by a fault of ours")
        reply = refuse(InternalError(), new_id())
    return _ReplyResponse(reply)


def _body_in_time(seconds: float) -> Deadlines:
    text = f"The body did not arrive within {seconds:g} seconds. Send it at once."
    return Deadlines(seconds, partial(InvalidRequest, text))


def _headers(req: Request) -> Headers:
    return dict(req.scope["headers"])


async def _body(req: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it is longer than `limit` bytes; the rest is not read.
        _ClientLeft: the client went before it was all here.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await req.receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
        size += len(parts[-1])
        if size > limit:
            raise RequestTooLarge(f"The body is larger than {limit:,} bytes. Send fewer or shorter messages.")
    return b"".join(parts)
