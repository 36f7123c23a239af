"""The host in this process: `async with FunctionsHost(app, port=0) as host: host.url`."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

import azure.functions as func

from shared.functions.extension import WebServer

from .app import DEFAULT_PREFIX, added_to_environment, app_at, read_functions
from .front import Front
from .local_worker import LocalWorker
from .routes import AppFault
from .serving import address_of, serving

_HOST: Final = "127.0.0.1"
App = func.FunctionApp | Path | str


class FunctionsHost:
    """Serves an app: an object, or the path of a function_app.py or of its directory.

    The route prefix is that of host.json unless given, and "api" for an app object. Variables that are set
    come before `environment`, which comes before the Values of local.settings.json. What is added to the
    process's environment is removed when the host stops. Entering raises AppFault.
    """

    url = ""

    def __init__(
        self, app: App, *, port: int = 0, route_prefix: str | None = None, environment: Mapping[str, str] = {}
    ) -> None:
        self._app = app
        self._port = port
        self._prefix = route_prefix
        self._environment = environment
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            app, prefix = self._load(opened)
            self.functions = read_functions(app, prefix if self._prefix is None else self._prefix)
            self.worker = LocalWorker(self.functions.http)
            web_server = self._listen()
            opened.callback(web_server.listener.close)
            opened.push_async_callback(self.worker.close)
            self.worker.address = address_of(web_server.listener)
            self.url = f"http://{self.worker.address}"
            # Host and app share one server: a second one would cost as much as the app.
            web_server.server.config.app = Front(self.functions.routes, self.worker, os.environ)
            await opened.enter_async_context(serving(web_server.server, web_server.serve()))
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Cuts every connection, and cancels what runs."""
        await self._closing.aclose()

    async def run_timer(self, name: str) -> None:
        """Runs a timer function. Raises what it raises."""
        handler = self.functions.timers[name]
        await handler.call(**{handler.parameter: func.timer.TimerRequest(past_due=False)})

    def _load(self, opened: AsyncExitStack) -> tuple[func.FunctionApp, str]:
        if isinstance(self._app, Path | str):
            return opened.enter_context(app_at(Path(self._app), self._environment))
        opened.enter_context(added_to_environment(self._environment))
        return self._app, DEFAULT_PREFIX

    def _listen(self) -> WebServer:
        try:
            return WebServer(_HOST, self._port, self.worker.web_app)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            message = f"Cannot use port {self._port} of {_HOST}: {reason}. Choose another one with --port."
            raise AppFault(message) from error
