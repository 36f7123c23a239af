"""The handlers of the triggers: an HTTP request in, a response out, every failure as an error response."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from ..core.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ProxyError,
    RequestTooLarge,
    StoreUnavailable,
)
from ..core.settings import Settings, SettingsError
from ..functions import process
from ..functions.http import Receive, Request, Response
from .departure import ClientLeft, Departure, Watch
from .page import page
from .responses import JSON, error_response
from .wiring import Wiring

_log = logging.getLogger(__name__)

_CLIENT_LEFT = Response(499, {}, b"")


def _handler(
    work: Callable[[Web, Request], Awaitable[Response]],
) -> Callable[[Web, Request], Awaitable[Response]]:
    """Turn a method into a handler: every exception of the method becomes a response.

    No exception may leave a handler. After a CancelledError, the host would wait for the response forever.
    """

    async def handle(self: Web, req: Request) -> Response:
        try:
            return await work(self, req)
        except ProxyError as error:
            return error_response(error)
        except ClientLeft:
            return _CLIENT_LEFT
        except asyncio.CancelledError:
            _log.warning("The platform cancelled a call.")
        except Exception:
            _log.exception("A call failed because of a bug in the proxy.")
        return error_response(InternalError())

    return handle


class Web:
    """The handlers. The proxy is built at the first request, not at import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._wiring: Wiring | None = None
        process.silence_logs()
        process.freeze_modules()

    @_handler
    async def chat(self, req: Request) -> Response:
        """A chat completion, by any of its routes."""
        wiring, clock_at_arrival = self._wiring or self._open(), time.monotonic()
        try:
            body = await _body(req.receive, wiring.settings)
        except ProxyError as error:
            wiring.proxy.count_refusal(req.headers, error)
            raise
        deployment = req.path_params.get("deployment")
        with Departure(req.receive, self._watch):  # not earlier: only one place may read at a time
            return await wiring.proxy.chat(req.headers, body, deployment, clock_at_arrival)

    @_handler
    async def models(self, req: Request) -> Response:
        """The models of the attendee's event."""
        return await self._open().proxy.models(req.headers)

    @_handler
    async def model(self, req: Request) -> Response:
        """One model of the attendee's event."""
        return await self._open().proxy.model(req.headers, req.path_params["model"])

    @_handler
    async def event(self, req: Request) -> Response:
        """The attendee's event."""
        return await self._open().proxy.event(req.headers)

    @_handler
    async def ready(self, _: Request) -> Response:
        """Whether the settings are valid and the tables respond."""
        await self._open().tables.check()
        return Response(200, JSON, b'{"status":"ready"}')

    @_handler
    async def alive(self, _: Request) -> Response:
        """Whether the process runs. Uses neither settings nor tables."""
        return Response(200, JSON, b'{"status":"alive"}')

    @_handler
    async def home(self, _: Request) -> Response:
        """The attendee's page. Uses neither settings nor tables."""
        return page()

    @_handler
    async def unknown(self, req: Request) -> Response:
        """A path that the proxy does not serve."""
        raise NotFound(
            f"{req.path[:100]!r} is not supported here. The proxy serves chat completions only: "
            "use /v1/chat/completions."
        )

    @_handler
    async def without_v1(self, req: Request) -> Response:
        """A path of the API without its prefix."""
        path = req.path[:200]
        raise NotFound(
            f"{path!r} is missing /v1: use {'/v1' + path!r}. "
            "In an SDK, let base_url or azure_endpoint end with /v1."
        )

    def method_not_allowed(self, allowed: str) -> Callable[[Request], Awaitable[Response]]:
        """A handler for the other methods of a path that accepts only `allowed`."""

        @_handler
        async def refuse_method(_: Web, req: Request) -> Response:
            path = req.path[:100]
            raise MethodNotAllowed(f"{path!r} does not accept {req.method}. Use {allowed}.", allowed)

        async def handle(req: Request) -> Response:
            return await refuse_method(self, req)

        return handle

    async def remove_old_rows(self) -> None:
        """Remove the rows that are older than the settings allow. A timer calls this.

        Raises:
            StoreUnavailable: the settings cannot be used.
        """
        try:
            await self._open().retention.remove_old_rows()
        except asyncio.CancelledError:  # the Functions host would wait for the end forever
            _log.warning("The platform cancelled the removal of old rows.")

    async def close(self) -> None:
        """Close what was opened. For tests and `dev.py run`: the platform kills the process instead."""
        wiring, self._wiring = self._wiring, None
        if wiring is not None:
            await wiring.close()

    def _open(self) -> Wiring:
        if self._wiring is None:
            try:
                settings = Settings.read(self._environment)
                self._watch = Watch()
                self._wiring = Wiring(settings)
            except (SettingsError, ValueError, TypeError) as error:
                _log.error("the settings cannot be used: %s", error)
                raise StoreUnavailable(
                    "The proxy is not set up correctly. Contact your organiser.", 30
                ) from error
        return self._wiring


async def _body(receive: Receive, settings: Settings) -> bytes:
    """The whole body.

    Raises:
        InvalidRequest: it did not arrive in time.
        RequestTooLarge: it is longer than the settings allow. The rest is not read.
        ClientLeft: the client left before the end.
    """
    try:
        async with asyncio.timeout(settings.longest_body_seconds):
            return await _read(receive, settings.max_body_bytes)
    except TimeoutError as error:
        raise InvalidRequest(
            f"The body did not arrive within {settings.longest_body_seconds:g} seconds. "
            "Check your connection and try again."
        ) from error


async def _read(receive: Receive, limit: int) -> bytes:
    body, more = b"", True
    parts: list[bytes] = []
    size = 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body, more = message["body"], message["more_body"]
        size += len(body)
        if size > limit:
            raise RequestTooLarge(
                f"The request is larger than {limit / 1_000_000:g} MB. "
                "Send a smaller image or fewer messages."
            )
        parts.append(body)
    return body if len(parts) == 1 else b"".join(parts)
