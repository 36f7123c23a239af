"""The handlers of the triggers: an HTTP request in, a response out, every failure as an error response."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from ..apis.api import Api
from ..apis.chat import CHAT
from ..apis.embeddings import EMBEDDINGS
from ..apis.images import IMAGES
from ..apis.responses import RESPONSES
from ..core.errors import InternalError, ProxyError, StoreUnavailable
from ..core.settings import Settings, SettingsError
from ..functions import process
from ..functions.http import Request, Response
from .departure import ClientLeft
from .hints import refusal
from .incoming import Incoming
from .outgoing import JSON, error_response
from .page import page
from .paths import find
from .wiring import Wiring

_log = logging.getLogger(__name__)

_CLIENT_LEFT = Response(499, {}, b"")


class Web:
    """The handlers. The proxy is built at the first request, not at import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._wiring: Wiring | None = None
        process.silence_logs()
        process.freeze_modules()

    async def serve(self, req: Request) -> Response:
        """Every request: `paths.py` names the handler for its path and method.

        No exception leaves it. After a CancelledError, the host would wait for the response forever.
        """
        try:
            return await self._handle(req)
        except ProxyError as error:
            return error_response(error)
        except ClientLeft:
            return _CLIENT_LEFT
        except asyncio.CancelledError:
            _log.warning("The platform cancelled a call.")
        except Exception:
            _log.exception("A call failed because of a bug in the proxy.")
        return error_response(InternalError())

    def _handle(self, req: Request) -> Awaitable[Response]:
        found = find(req.scope["path"])
        name = found.handlers.get(req.scope["method"]) if found else None
        if found is None or name is None:
            raise refusal(req)
        req.path_params = found.parameters
        handle: Callable[[Request], Awaitable[Response]] = getattr(self, name)
        return handle(req)

    def chat(self, req: Request) -> Awaitable[Response]:
        """A chat completion, by any of its routes."""
        return self._call(CHAT, req)

    def responses(self, req: Request) -> Awaitable[Response]:
        """A response of the Responses API, by any of its routes."""
        return self._call(RESPONSES, req)

    async def stored_response(self, req: Request) -> Response:
        """A stored response of the attendee's, to read or to delete."""
        return await self._open().stored.serve(req, "")

    async def cancel_response(self, req: Request) -> Response:
        """The end of a stored response that still runs."""
        return await self._open().stored.serve(req, "cancel")

    async def input_items(self, req: Request) -> Response:
        """The input of a stored response."""
        return await self._open().stored.serve(req, "input_items")

    def embeddings(self, req: Request) -> Awaitable[Response]:
        """The vectors of texts, by any of their routes."""
        return self._call(EMBEDDINGS, req)

    def images(self, req: Request) -> Awaitable[Response]:
        """New images, by any of their routes."""
        return self._call(IMAGES, req)

    async def models(self, req: Request) -> Response:
        """The models of the attendee's event."""
        return await self._open().listings.models(req.headers)

    async def model(self, req: Request) -> Response:
        """One model of the attendee's event."""
        return await self._open().listings.model(req.headers, req.path_params["model"])

    async def event(self, req: Request) -> Response:
        """The attendee's event."""
        return await self._open().listings.event(req.headers)

    async def claim(self, req: Request) -> Response:
        """A name for an attendee, with its pass."""
        wiring = self._open()
        incoming = Incoming(req, wiring.small_bodies, time.monotonic())
        try:
            return await wiring.claims.serve(await incoming.read_body())
        finally:
            incoming.free()

    async def ready(self, _: Request) -> Response:
        """Whether the settings are valid and the tables respond."""
        await self._open().readiness.check()
        return Response(200, JSON, b'{"status":"ready"}')

    async def alive(self, _: Request) -> Response:
        """Whether the process runs. Uses neither settings nor tables."""
        return Response(200, JSON, b'{"status":"alive"}')

    async def home(self, _: Request) -> Response:
        """The attendee's page. Uses neither settings nor tables."""
        return page("page.html")

    async def desk_page(self, _: Request) -> Response:
        """The organiser's page. Uses neither settings nor tables."""
        return page("desk.html")

    async def desk(self, req: Request) -> Response:
        """The figures of the organiser's desk."""
        return await self._open().desk.show(req.headers)

    async def desk_action(self, req: Request) -> Response:
        """A change of the event from the organiser's desk."""
        wiring = self._open()
        incoming = Incoming(req, wiring.bodies, time.monotonic())
        try:
            return await wiring.desk.act(req.path_params["action"], incoming)
        finally:
            incoming.free()

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

    def _call(self, api: Api, req: Request) -> Awaitable[Response]:
        wiring = self._wiring
        if wiring is None:
            wiring = self._open()
            wiring.routing.preload()  # while the first call reads its event
        incoming = Incoming(req, wiring.bodies, time.monotonic())
        return wiring.proxy.serve(api, incoming)

    def _open(self) -> Wiring:
        if self._wiring is None:
            try:
                settings = Settings.read(self._environment)
                self._wiring = Wiring(settings)
            except (SettingsError, ValueError, TypeError) as error:
                _log.error("the settings cannot be used: %s", error)
                raise StoreUnavailable(
                    "The proxy is not set up correctly. Contact your organiser.", 30
                ) from error
        return self._wiring
