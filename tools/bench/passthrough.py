"""`python -m tools.bench.passthrough PORT UPSTREAM_PORT`: a bare relay, to measure the app against.

It does the least that forwards a chat completion with aiohttp.
"""

import asyncio
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


if __name__ == "__main__":
    PORT, UPSTREAM_PORT = sys.argv[1:3]
    loop = loops.new()
    asyncio.set_event_loop(loop)
    app = create_app(f"http://127.0.0.1:{UPSTREAM_PORT}")
    web.run_app(app, host="127.0.0.1", port=int(PORT), access_log=None, print=None, backlog=2048, loop=loop)
