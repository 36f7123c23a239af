"""The app in the worker library of the cloud.

In the cloud another process, the Functions host, passes on each request and sends an invocation for it over
gRPC; the log goes back the same way. Here the request itself begins its invocation, no other process takes
part, and the log goes to a file. The event loop is uvloop, as in the cloud.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from shared.functions.extension import WebApp
from shared.functions.http import Receive, Scope, Send
from tools.official_runtime.runtime import listens
from tools.official_runtime.worker import Worker
from tools.processes import ROOT

from . import loops

_ROUTE: Final = "v1/chat/completions"


class _Invoking:
    """Stands around the worker's ASGI application, and begins each request's invocation."""

    def __init__(self, worker: Worker, app: Any) -> None:
        self._worker = worker
        self._app = app
        self._ids = itertools.count(1)
        self._under_way: set[asyncio.Task[Any]] = set()
        self.invoke: Callable[[str], Coroutine[Any, Any, Any]]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        invocation_id = f"00000000-0000-0000-0000-{next(self._ids):012}"
        scope["headers"].append((b"x-ms-invocation-id", invocation_id.encode()))
        task = asyncio.create_task(self.invoke(invocation_id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        response: Awaitable[None] = self._app(scope, receive, send)
        return response


async def _main() -> None:
    worker, made, around = Worker(str(ROOT)), WebApp.get_app, list[_Invoking]()

    def get_app(self: WebApp) -> Any:
        around.append(_Invoking(worker, made(self)))
        return around[0]

    WebApp.get_app = get_app  # type: ignore[method-assign] # the worker makes its server of it
    index = await worker.index()
    if "fault" in index:
        raise SystemExit(index["fault"])
    around[0].invoke = worker.invoker(*_chat(index["functions"]), f"/{_ROUTE}")
    await listens(index["http_uri"])
    print(f"app in the worker on {index['http_uri']}", flush=True)
    await asyncio.Event().wait()


def _chat(functions: list[tuple[str, str, list[str]]]) -> tuple[str, str]:
    """Of the function that answers the benchmark's requests: its id, and its parameter."""
    for function_id, _, bindings in functions:
        for binding in map(json.loads, bindings):
            if binding.get("route") == _ROUTE:
                return function_id, binding["name"]
    raise SystemExit(f"no function has the route {_ROUTE}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(_main())
