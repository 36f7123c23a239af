"""Small apps and a client for the tests of the local host."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import azure.functions as func
from yarl import URL

from shared.functions.http import Receive, Request, Response, Send
from tools.functions_host import FunctionsHost


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
    """Each function, declared as name, route and methods, responds with its name and its parameters."""
    app = new_app()
    for name, route, *methods in declared:
        _add_echo(app, name, route, methods[0] if methods else ("GET", "POST"))
    return app


def _add_echo(app: func.FunctionApp, name: str, route: str, methods: Iterable[str]) -> None:
    @app.function_name(name)
    @app.route(route, methods=list(methods))
    async def echo(req: Request) -> Response:
        return as_json({"function": name, "params": req.path_params})


def host_of(
    handler: Callable[[Request], Awaitable[Any]], *methods: str, environment: dict[str, str] | None = None
) -> FunctionsHost:
    """A host of one function, at /x."""
    app = new_app()
    app.function_name("f")(app.route("x", methods=[*methods] or ["GET"])(handler))
    return FunctionsHost(app, route_prefix="", environment=environment)


def as_json(value: object) -> Response:
    return Response(200, {b"content-type": b"application/json"}, json.dumps(value).encode())


async def parts_of(req: Request) -> AsyncIterator[bytes]:
    """The parts of a request's body, as they come."""
    more = True
    while more:
        message = await req.receive()
        yield message.get("body", b"")
        more = message.get("more_body", False)


class Stream(Response):
    """Sends each part of a body when it is there."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        super().__init__(200, {}, b"")
        self.parts = parts

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
