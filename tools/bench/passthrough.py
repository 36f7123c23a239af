"""A bare relay, to measure the app against: the least that forwards a chat completion with aiohttp."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from tools import loops

_SESSION = web.AppKey("session", aiohttp.ClientSession)


def create_app(upstream: str) -> web.Application:
    async def open_session(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False) as made:
            app[_SESSION] = made
            yield

    async def relay(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"content-type": "application/json", "api-key": "key", "accept-encoding": "identity"}
        session = request.app[_SESSION]
        async with session.post(upstream + request.path, data=body, headers=headers) as got:
            kind = {"content-type": got.headers["content-type"]}
            if not kind["content-type"].startswith("text/event-stream"):
                return web.Response(status=got.status, headers=kind, body=await got.read())
            response = web.StreamResponse(status=got.status, headers=kind)
            await response.prepare(request)
            async for data in got.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    app = web.Application()
    app.cleanup_ctx.append(open_session)
    app.router.add_post("/{path:.*}", relay)
    return app


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    loop = loops.new()
    asyncio.set_event_loop(loop)
    print(f"pass-through on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(create_app(sys.argv[1]), sock=listener, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
