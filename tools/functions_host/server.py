"""The host in this process: `async with FunctionsHost(app, port=0) as host: host.url`."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import azure.functions as func

from .asgi import HostApp
from .exchanges import Exchanges
from .functions import Functions, read_functions
from .invocation import ThreadPool
from .loader import find_script, load_app
from .serving import Server, listen, url_of
from .settings import HostSettings, added_to_environment
from .timers import Timers


class FunctionsHost:
    """Serves an app: an object, or the path of a function_app.py or of its directory.

    `settings` are those of the app's directory unless given; for an app object, the defaults. `environment`
    comes before the Values of local.settings.json, and what is set already before both; all of it is taken
    back when the host stops. Entering raises AppFault, of which PortInUse is one.
    """

    def __init__(
        self,
        app: func.FunctionApp | Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: HostSettings | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.functions = Functions((), ())
        self.url = ""
        self._app = app
        self._address = (host, port)
        self._settings = settings
        self._environment = dict(environment or {})
        self._closing = ExitStack()

    async def __aenter__(self) -> Self:
        with ExitStack() as opened:
            listener = opened.enter_context(listen(*self._address))
            settings, app = self._load(opened)
            self.functions = read_functions(app, settings.route_prefix)
            await self._start(listener, settings, opened)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self, *, hard: bool = False) -> None:
        """Gives what is under way a moment to end; `hard` cuts every connection at once."""
        await self._timers.stop()
        await self._server.stop(hard=hard)
        self._closing.close()

    def _load(self, opened: ExitStack) -> tuple[HostSettings, func.FunctionApp]:
        if not isinstance(self._app, Path | str):
            settings = self._settings or HostSettings()
            self._set_environment(settings, opened)
            return settings, self._app
        script = find_script(Path(self._app))
        settings = self._settings or HostSettings.read(script.parent)
        self._set_environment(settings, opened)
        return settings, load_app(script)

    def _set_environment(self, settings: HostSettings, opened: ExitStack) -> None:
        opened.enter_context(added_to_environment({**settings.values, **self._environment}))

    async def _start(self, listener: socket.socket, settings: HostSettings, opened: ExitStack) -> None:
        threads, exchanges = ThreadPool(), Exchanges(settings.response_seconds)
        opened.callback(threads.close)
        opened.callback(exchanges.stop)
        app = HostApp(self.functions.http, settings, exchanges, threads)
        self._timers = Timers(self.functions.timers, threads)
        self._server = Server(app)
        await self._server.start(listener)
        exchanges.start()
        self._timers.start()
        self.url = url_of(listener)
