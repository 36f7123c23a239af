"""The app in the worker library of the cloud.

In the cloud another process, the Functions host, passes on each request and sends an invocation for it over
gRPC; the log goes back the same way. Here the request itself begins its invocation, no other process takes
part, and the log goes to a file. The event loop is uvloop, as in the cloud.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any, Final

from shared.functions.extension import WebApp
from shared.functions.http import INVOCATION_ID, Receive, Scope, Send
from tools import loops
from tools.official_runtime.cloud_worker import Worker
from tools.official_runtime.runtime import listens
from tools.processes import ROOT

_ROUTE: Final = "v1/chat/completions"


class _InvokingApp:
    """Wraps the worker's ASGI application, and begins each request's invocation."""

    invoke: Callable[[str], Coroutine[Any, Any, Any]]

    def __init__(self, app: WebApp) -> None:
        self._app = app
        self._ids = count(1)
        self._running: set[asyncio.Task[Any]] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        invocation_id = f"00000000-0000-0000-0000-{next(self._ids):012}"
        scope["headers"].append((INVOCATION_ID, invocation_id.encode()))
        task = asyncio.create_task(self.invoke(invocation_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return self._app(scope, receive, send)


async def _main() -> None:
    worker, wrapped = Worker(str(ROOT)), list[_InvokingApp]()

    def get_app(self: WebApp) -> Any:
        wrapped.append(_InvokingApp(self))
        return wrapped[0]

    WebApp.get_app = get_app  # type: ignore[method-assign] # the worker makes its server of it
    index = await worker.index()
    if "fault" in index:
        raise SystemExit(index["fault"])
    wrapped[0].invoke = worker.invoker(*_chat_function(index["functions"]), _DATA)
    await listens(index["http_uri"])
    print(f"app in the worker on {index['http_uri']}", flush=True)
    await asyncio.Event().wait()


_DATA: Final = {"http": {"method": "POST", "url": f"/{_ROUTE}", "params": {}}}


def _chat_function(functions: list[tuple[str, str, list[str]]]) -> tuple[str, str]:
    """The id and the parameter of the function with the benchmark's route."""
    for function_id, _, bindings in functions:
        for binding in map(json.loads, bindings):
            if binding.get("route") == _ROUTE:
                return function_id, binding["name"]
    raise SystemExit(f"No function has the route {_ROUTE}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(_main())
