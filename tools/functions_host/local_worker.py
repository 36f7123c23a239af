"""The Python worker in this process, with the parts of `http_v2` that the app's HTTP extension uses.

Each call arrives twice, as an invocation and as a request. `http_coordinator` joins them by their id. It has
the private names of the real one, keeps as much, and waits as long.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from shared.functions.extension import WebApp
from shared.functions.http import Receive, Request, Scope, Send

from .app import Handler


class _Call:
    def __init__(self) -> None:
        self.http_request: Request | None = None
        self.http_response: object = None
        self.http_request_available_event = asyncio.Event()
        self.http_response_available_event = asyncio.Event()


class Coordinator:
    def __init__(self) -> None:
        self._context_references = defaultdict[str, _Call](_Call)

    def set_http_request(self, invocation_id: str, request: Request) -> None:
        call = self._context_references[invocation_id]
        call.http_request = request
        call.http_request_available_event.set()

    def set_http_response(self, invocation_id: str, response: object) -> None:
        """Raises KeyError: the call was removed."""
        call = dict.__getitem__(self._context_references, invocation_id)
        call.http_response = response
        call.http_response_available_event.set()

    async def wait_for_request(self, invocation_id: str) -> Request:
        """Raises ValueError: the invocation was ended without a request."""
        call = self._context_references[invocation_id]
        await call.http_request_available_event.wait()
        request, call.http_request = call.http_request, None
        if request is None:
            raise ValueError(f"Invocation {invocation_id} has no request.")
        return request

    async def wait_for_response(self, invocation_id: str) -> object:
        call = self._context_references[invocation_id]
        await call.http_response_available_event.wait()
        return call.http_response

    def forget(self, invocation_id: str) -> None:
        self._context_references.pop(invocation_id, None)


http_coordinator = Coordinator()
"""Of all hosts in this process. The extension finds it by the module of `catch_all`."""


async def catch_all(request: Request) -> object:
    """The response for a request. Raises the exception that its trigger raised."""
    invocation_id = request.headers["x-ms-invocation-id"]
    http_coordinator.set_http_request(invocation_id, request)
    response = await http_coordinator.wait_for_response(invocation_id)
    if isinstance(response, Exception):
        raise response
    return response


class LocalWorker:
    needs_whole_body = False
    address = ""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self.web_app = WebApp()
        self.web_app.route(catch_all)
        self.invocations: dict[str, asyncio.Task[None]] = {}
        """Those that have not ended, by their ids."""

    def invoke(self, function: str, invocation_id: str, data: dict[str, Any]) -> asyncio.Task[None]:
        run = self._run(self._handlers[function], invocation_id, data["http"]["params"])
        task = self.invocations[invocation_id] = asyncio.get_running_loop().create_task(run)
        return task

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.web_app(scope, receive, send)

    async def close(self) -> None:
        """Cancels the invocations that have not ended."""
        running, self.invocations = self.invocations, {}
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
        for invocation_id in running:
            http_coordinator.forget(invocation_id)

    async def _run(self, handler: Handler, invocation_id: str, params: dict[str, str]) -> None:
        try:
            request = await http_coordinator.wait_for_request(invocation_id)
            request.path_params = {**params}
            response: object = await handler.call(**{handler.parameter: request})
        except Exception as error:  # as in the cloud: a CancelledError that escapes gets no response
            response = error
        finally:
            self.invocations.pop(invocation_id, None)
        http_coordinator.set_http_response(invocation_id, response)
