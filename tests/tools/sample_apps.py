"""Small apps and a client for the tests of the local host."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiohttp
import azure.functions as func
from azurefunctions.extensions.http.fastapi import (
    JSONResponse,
    Request,
    Response,
)
from yarl import URL

from tools.functions_host import HostSettings

NO_PREFIX = HostSettings(route_prefix="")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def call(url: str, target: str, method: str = "GET", **options: object) -> Answer:
    """`target` goes over the wire as it is written."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(url + target, encoded=True), **options) as response,  # type: ignore[arg-type]
    ):
        return Answer(response.status, response.headers, await response.read())


def new_app() -> func.FunctionApp:
    return func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def echo_app(*declared: tuple[str, str] | tuple[str, str, Iterable[str]]) -> func.FunctionApp:
    """Each function, declared as name, route and methods, answers with its name and its parameters."""
    app = new_app()
    for name, route, *methods in declared:
        _add_echo(app, name, route, methods[0] if methods else ("GET", "POST"))
    return app


def _add_echo(app: func.FunctionApp, name: str, route: str, methods: Iterable[str]) -> None:
    @app.function_name(name)
    @app.route(route, methods=list(methods))
    async def echo(req: Request) -> Response:
        return JSONResponse({"function": name, "params": req.path_params})
