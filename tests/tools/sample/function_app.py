"""An app on the extension that has no policy, for the tests of the host and of the worker."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import azure.functions as func

sys.path.append(str(Path(__file__).parents[3]))

import shared.functions.extension  # noqa: F401 - the worker serves HTTP with it
from shared.functions.http import Receive, Request, Response, Send

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
SET_BY_THE_HOST = {"host", "x-forwarded-host", "x-ms-invocation-id"}


async def parts_of(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        yield message["body"]


async def until_the_client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    Path(os.environ["ENDED"]).touch()  # noqa: ASYNC240 - short


@app.route("plain/{one}/{*rest}", methods=["GET", "POST", "DELETE"])
async def plain(req: Request) -> Response:
    found: dict[str, Any] = {
        "method": req.method,
        "path": req.path,
        "raw": req.scope["raw_path"].decode(),
        "params": dict(req.path_params),
        "query": req.scope["query_string"].decode(),
        "body": b"".join([part async for part in parts_of(req.receive)]).decode(),
        "setting": os.environ.get("A_SETTING"),
    }
    print("plain", found["query"], flush=True)  # noqa: T201 - for the worker's log
    return Response(201, {b"x-own": b"1"}, json.dumps(found).encode())


@app.route("headers", methods=["GET"])
async def headers(req: Request) -> Response:
    kept = {name.decode(): value.decode() for name, value in req.scope["headers"]}
    body = json.dumps({name: kept[name] for name in sorted(kept.keys() - SET_BY_THE_HOST)})
    return Response(200, {}, body.encode())


@app.route("result/{kind}", methods=["GET"])
async def result(req: Request):  # type: ignore[no-untyped-def] # results of any kind
    if req.path_params["kind"] == "error":
        raise RuntimeError("secret")
    return {"text": "text", "empty": Response(204, {}, b"")}.get(req.path_params["kind"])


class Parts(Response):
    """Sends back the parts of the request's body, as they come."""

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-own", b"1")]})
        async for part in self.parts(receive):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def parts(self, receive: Receive) -> AsyncIterator[bytes]:
        return parts_of(receive)


class Endless(Parts):
    async def parts(self, receive: Receive) -> AsyncIterator[bytes]:
        left = asyncio.create_task(until_the_client_leaves(receive))
        while not left.done():
            yield b"chunk"
            await asyncio.sleep(0.02)


class Cut(Parts):
    async def parts(self, receive: Receive) -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError


@app.route("echo", methods=["POST"])
async def echo(req: Request) -> Response:
    return Parts(202, {}, b"")


@app.route("endless", methods=["GET"])
async def endless(req: Request) -> Response:
    return Endless(200, {}, b"")


@app.route("cut", methods=["GET"])
async def cut(req: Request) -> Response:
    return Cut(200, {}, b"")


@app.route("silent", methods=["GET"])
async def silent(req: Request) -> Response:
    await until_the_client_leaves(req.receive)
    return Response(204, {}, b"")


@app.timer_trigger("timer", "0 0 0 1 1 *")
async def tick(timer: func.TimerRequest) -> None:
    if not timer.past_due:
        Path(os.environ["TICKED"]).touch()  # noqa: ASYNC240 - short
