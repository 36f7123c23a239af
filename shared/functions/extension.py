"""The app's own HTTP extension, with which the Functions worker serves HTTP.

The worker finds it by its classes that derive from `azurefunctions.extensions.base`, and uses two of them by
name: `WebApp` and `WebServer`. The Functions host sends each call as two halves: an invocation over gRPC, and
an HTTP request to `WebServer`. The worker matches them by the header `x-ms-invocation-id`.

This module uses only names of base 1.0, which a specialized worker of Python 3.11 or 3.12 contains.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping

from azurefunctions.extensions import base

from ..core.errors import InternalError, InvalidRequest
from .cors import ORIGIN, is_preflight, preflight_response, with_cors
from .http import INVOCATION_ID, Receive, Request, Response, Scope, Send, error_response
from .invocations import Invocations
from .server import Server, listen

_log = logging.getLogger(__name__)

_ID_AS_TEXT = INVOCATION_ID.decode()

_GUID = b"00000000-0000-0000-0000-000000000000"
_DIGITS = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
"""Makes `_GUID` of each GUID: a regular expression takes three times as long."""

_BAD_ID = error_response(InvalidRequest("The header x-ms-invocation-id is not valid. Remove it."))
_FAILED = error_response(InternalError())


class _PathParameters(base.RequestSynchronizer):  # type: ignore[misc] # base has no types
    def sync_route_params(self, request: Request, path_params: Mapping[str, str]) -> None:
        request.path_params = path_params


class _RequestType(metaclass=base.RequestTrackerMeta):  # type: ignore[metaclass] # base has no types
    request_type = Request
    synchronizer = _PathParameters()


class _ResponseType(metaclass=base.ResponseTrackerMeta):  # type: ignore[metaclass] # base has no types
    label = base.ResponseLabels.STANDARD
    response_type = Response


class WebApp(base.WebApp):  # type: ignore[misc] # base has no types
    """An ASGI application around the function that the worker passes to `route`."""

    def route(
        self, catch_all: Callable[[Request], Awaitable[object]]
    ) -> Callable[[Request], Awaitable[object]]:
        """Keep the worker's function. It waits for the invocation of a request, and returns its response."""
        self._catch_all = catch_all
        self.invocations = Invocations(sys.modules.get(catch_all.__module__))
        return catch_all

    def get_app(self) -> WebApp:
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if has_origin := ORIGIN in request.headers:
            send = with_cors(send)
        raw_id = request.headers.get(INVOCATION_ID, b"")
        invocation_id = raw_id.decode("latin-1")
        is_guid = raw_id.translate(_DIGITS) == _GUID
        is_repeated = len(request.headers) < len(scope["headers"]) and _count_ids(scope) > 1
        if is_repeated or not is_guid or not self.invocations.begin(invocation_id):
            await _BAD_ID.send_to(receive, send)
            return
        request.headers[_ID_AS_TEXT] = invocation_id  # the worker looks it up as text, not bytes
        try:
            response = await self._catch_all(request)
        except Exception:
            _log.exception("An invocation failed.")
            response = _FAILED
        self.invocations.end(invocation_id)  # not reached after a cancellation: the invocation still runs
        if has_origin and is_preflight(request):
            response = preflight_response(request)
        await (response if isinstance(response, Response) else _FAILED).send_to(receive, send)


class WebServer(base.WebServer):  # type: ignore[misc] # base has no types
    """Serves the app on the port that the worker chose.

    Takes the port at once, before the worker reports it to the host. `serve` runs later: by then the host may
    have sent a request, or another process may have taken the port.
    """

    def __init__(self, hostname: str, port: int, web_app: WebApp) -> None:
        """Raises OSError: the port is in use."""
        super().__init__(hostname, port, web_app)
        self.listener = listen(hostname, port)
        self.server = Server(self.web_app)
        self._invocations = web_app.invocations

    async def serve(self) -> None:
        """Serve until the process ends."""
        with self._invocations.watch():
            await self.server.serve([self.listener])


def _count_ids(scope: Scope) -> int:
    return sum(name == INVOCATION_ID for name, _ in scope["headers"])


def _forget_stale_flag() -> None:
    """Let a specialized worker check again whether the app has an HTTP extension.

    With `PYTHON_ENABLE_INIT_INDEXING` on the placeholder, the worker of Python 3.11 and 3.12 checks before it
    loads the app, and keeps the result. Every path would return 404.
    """
    registry = getattr(sys.modules.get("azure_functions_worker.http_v2"), "HttpV2Registry", None)
    if getattr(registry, "_http_v2_enabled_checked", False) and not getattr(
        registry, "_http_v2_enabled", True
    ):
        registry._http_v2_enabled_checked = False  # type: ignore[union-attr] # private to the worker


_forget_stale_flag()
