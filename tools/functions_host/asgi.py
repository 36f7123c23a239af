"""The host as one ASGI callable: from the request to the function and back, nothing buffered in between."""

import asyncio
import hmac
import logging
from collections.abc import Sequence
from os import environ
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from . import cors
from .exchanges import Exchange, Exchanges, receive_at_most, send_answer
from .functions import HttpFunction
from .invocation import Invoke, ThreadPool, invoker, to_error_response, to_response
from .routes import Routes
from .settings import HostSettings

_log = logging.getLogger(__name__)

_NO_HOME_PAGE: Final = "AzureWebJobsDisableHomepage"
_HOME_PAGE: Final = (
    b"<!DOCTYPE html><title>Functions host</title><p>The Functions host is up and running.</p>"
)
_STATUS: Final = b'{"state":"Running"}'
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json; charset=utf-8")
_CLOSE: Final = (b"connection", b"close")


class HostApp:
    def __init__(
        self,
        functions: Sequence[HttpFunction],
        settings: HostSettings,
        exchanges: Exchanges,
        threads: ThreadPool,
    ) -> None:
        self._routes = Routes(functions)
        self._invoke: dict[str, Invoke] = {one.name: invoker(one.handler, threads) for one in functions}
        self._settings = settings
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (policy := self._settings.cors) is not None:
            if cors.is_preflight(scope):
                return await cors.answer_preflight(policy, scope, send)
            send = cors.send_with_cors(policy, scope, send)
        found = self._routes.find(scope["method"], scope["raw_path"])
        if found is None:
            return await _answer_unmatched(scope["path"], send)
        function, scope["path_params"] = found
        if function.needs_key and not _has_key(scope, self._settings.key):
            return await send_answer(send, 401)
        exchange = self._exchanges.open(send)
        try:
            await self._serve(function, scope, receive, exchange)
        finally:
            self._exchanges.close(exchange)

    async def _serve(
        self, function: HttpFunction, scope: Scope, receive: Receive, exchange: Exchange
    ) -> None:
        if scope["method"] != "GET":
            length = _body_length(scope)
            if length is None:
                receive = receive_at_most(self._settings.max_body_bytes, receive, exchange)
            elif length > self._settings.max_body_bytes:
                return await exchange.answer(413, b"", _CLOSE)
        request = Request(scope, receive, exchange)
        try:
            response = to_response(function.name, await self._invoke[function.name](request))
            await response(scope, receive, exchange)
        except asyncio.CancelledError:
            if not _is_being_cancelled():
                _log.warning(
                    "%s let a CancelledError out: in the cloud its client waits for ever", function.name
                )
            raise
        except Exception as error:
            if exchange.begun and not exchange.answered_by_host:
                raise  # the server cuts the connection: after the first byte there is no status
            response = await to_error_response(function.name, request, error)
            await response(scope, receive, exchange)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _body_length(scope: Scope) -> int | None:
    """None for a chunked body, whose length only its end tells."""
    for name, value in reversed(scope["headers"]):  # most clients send it last
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0


def _has_key(scope: Scope, key: str | None) -> bool:
    given = [value for name, value in scope["headers"] if name == b"x-functions-key"]
    given += parse_qs(scope["query_string"]).get(b"code", [])
    return key is not None and any(hmac.compare_digest(one, key.encode()) for one in given)


async def _answer_unmatched(path: str, send: Send) -> None:
    first = path[1:].partition("/")[0].lower()
    if path == "/" and environ.get(_NO_HOME_PAGE, "").lower() == "true":
        await send_answer(send, 204)
    elif path == "/":
        await send_answer(send, 200, _HOME_PAGE, _HTML)
    elif path == "/admin/host/status":
        await send_answer(send, 200, _STATUS, _JSON)
    else:
        await send_answer(send, 401 if first in {"admin", "runtime"} else 404)
