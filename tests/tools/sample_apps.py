"""Small apps and a client for the tests of the hosts. The app with many functions is in `sample`."""

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import azure.functions as func
from yarl import URL

from shared.functions.http import Request, Response
from tests.responses import WireResponse, response_of
from tools.functions_host import FunctionsHost

SAMPLE = Path(__file__).with_name("sample")


async def call(url: str, target: str, method: str = "GET", **options: Any) -> WireResponse:
    """`target` goes over the wire as it is written."""
    async with aiohttp.ClientSession(max_line_size=100_000, max_field_size=100_000) as session:
        return await response_of(session.request(method, URL(url + target, encoded=True), **options))


def new_app() -> func.FunctionApp:
    return func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def echo_app(*declared: tuple[str, str] | tuple[str, str, Iterable[str]]) -> func.FunctionApp:
    """Each function, declared as name, route and methods, responds with its name and its parameters."""
    app = new_app()
    for name, route, *methods in declared:
        _add_echo(app, name, route, methods[0] if methods else ("GET", "POST"))
    return app


def _add_echo(app: func.FunctionApp, name: str, route: str, methods: Iterable[str]) -> None:
    @app.function_name(name)
    @app.route(route, methods=list(methods))
    async def echo(req: Request) -> Response:
        return Response(200, {}, json.dumps({"function": name, "params": req.path_params}).encode())


def app_of(handler: Any, trigger: str = "route", **options: Any) -> func.FunctionApp:
    app = new_app()
    getattr(app, trigger)(**options)(handler)
    return app


def host_of(handler: Callable[[Request], Awaitable[Any]], *methods: str) -> FunctionsHost:
    """A host of one function, at /x."""
    return FunctionsHost(app_of(handler, route="x", methods=[*methods] or ["GET"]), route_prefix="")
