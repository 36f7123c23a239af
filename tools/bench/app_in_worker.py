"""`python -m tools.bench.app_in_worker PORT`: the app in the worker library of the cloud.

In the cloud another process, the Functions host, passes on each request and sends an invocation for it over
gRPC; the log goes back the same way. Here the request itself begins its invocation, no other process takes
part, and the log goes to a file. The event loop is uvloop, as in the cloud.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any, Final

from shared.functions import extension
from shared.functions.extension import WebApp, WebServer
from shared.functions.http import INVOCATION_ID, Receive, Scope, Send
from tools import loops
from tools.official_runtime.cloud_worker import Worker
from tools.processes import ROOT

_ROUTE: Final = "{*path}"
_PATH: Final = "v1/chat/completions"
_DATA: Final = {"http": {"method": "POST", "url": f"/{_PATH}", "params": {"path": _PATH}}}


class _InvokingServer(WebServer):
    """Serves on the port of the benchmark, and begins each request's invocation."""

    __module__ = WebServer.__module__  # the worker allows subclasses in one module only
    invoke: Callable[[str], Coroutine[Any, Any, Any]]

    def __init__(self, host: str, _: int, app: WebApp) -> None:
        super().__init__(host, int(sys.argv[1]), app)
        self.server.config.app = self._respond
        self._app = app
        self._ids = count(1)
        self._running: set[asyncio.Task[Any]] = set()

    def _respond(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        invocation_id = f"00000000-0000-0000-0000-{next(self._ids):012}"
        scope["headers"].append((INVOCATION_ID, invocation_id.encode()))
        task = asyncio.create_task(self.invoke(invocation_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return self._app(scope, receive, send)


async def main() -> None:
    extension.WebServer = _InvokingServer  # type: ignore[misc, assignment] # the worker takes it by name
    worker = Worker(str(ROOT))
    index = await worker.index()  # it serves nothing yet: this does not yield to the event loop
    if "fault" in index:
        raise SystemExit(index["fault"])
    _InvokingServer.invoke = staticmethod(worker.invoker(*_function(index["functions"]), _DATA))
    await asyncio.Event().wait()


def _function(functions: list[tuple[str, str, list[str]]]) -> tuple[str, str]:
    """The id and the parameter of the function that serves every path."""
    for function_id, _, bindings in functions:
        for binding in map(json.loads, bindings):
            if binding.get("route") == _ROUTE:
                return function_id, binding["name"]
    raise SystemExit(f"No function has the route {_ROUTE}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(main())
