"""An app on the extension that has no policy, for the tests of the hosts."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions import base

sys.path.append(str(Path(__file__).parents[3]))

import shared.functions.extension  # noqa: F401 - the worker serves HTTP with it
from shared.functions.http import Receive, Request, Response, Send

AT_IMPORT = {
    "cwd": str(Path.cwd()),
    "folder": sys.path[-2],  # the last, before the line above
    "placeholder": os.environ.get("OF_THE_PLACEHOLDER"),
}
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def as_json(value: object, status: int = 200) -> Response:
    return Response(status, {b"x-own": b"1"}, json.dumps(value).encode())


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
    found = {
        "method": req.method,
        "path": req.path,
        "raw": req.scope["raw_path"].decode(),
        "params": dict(req.path_params),
        "query": req.scope["query_string"].decode(),
        "body": b"".join([part async for part in parts_of(req.receive)]).decode(),
        "setting": os.environ.get("A_SETTING"),
    }
    return as_json(found, 201)


@app.route("headers", methods=["GET"])
async def headers(req: Request) -> Response:
    return as_json([[name.decode(), value.decode()] for name, value in req.scope["headers"]])


@app.route("worker", methods=["GET"])
async def worker(req: Request) -> Response:
    versions = [version("azure-functions"), version("azurefunctions-extensions-base")]
    folders = [str(Path(str(module.__file__)).parent) for module in (func, base)]
    names = [name for name in sys.modules if name.endswith(".http_v2")]
    return as_json({**AT_IMPORT, "versions": versions, "folders": folders, "http": names})


@app.route("result/{kind}", methods=["GET"])
async def result(req: Request):  # type: ignore[no-untyped-def] # results of any kind
    if req.path_params["kind"] == "error":
        raise RuntimeError("secret")
    return {"text": "text", "empty": Response(204, {}, b"")}.get(req.path_params["kind"])


class Parts(Response):
    """Sends the parts of the request's body back as they come, or chunks without end."""

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-own", b"1")]})
        async for part in endless_parts(receive) if self.body == b"endless" else parts_of(receive):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def endless_parts(receive: Receive) -> AsyncIterator[bytes]:
    left = asyncio.create_task(until_the_client_leaves(receive))
    while not left.done():
        yield b"chunk"
        await asyncio.sleep(0.02)


class Cut(Response):
    """Fails after its first part, or ends without its last."""

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if self.body == b"fail":
            raise RuntimeError


@app.route("echo", methods=["POST"])
async def echo(req: Request) -> Response:
    return Parts(202, {}, b"")


@app.route("endless", methods=["GET"])
async def endless(req: Request) -> Response:
    return Parts(202, {}, b"endless")


@app.route("cut/{how}", methods=["GET"])
async def cut(req: Request) -> Response:
    return Cut(200, {}, req.path_params["how"].encode())


@app.route("silent", methods=["GET"])
async def silent(req: Request) -> Response:
    await until_the_client_leaves(req.receive)
    return Response(204, {}, b"")


@app.timer_trigger("timer", "0 0 0 1 1 *")
async def tick(timer: func.TimerRequest) -> None:
    if not timer.past_due:
        Path(os.environ["TICKED"]).touch()  # noqa: ASYNC240 - short
