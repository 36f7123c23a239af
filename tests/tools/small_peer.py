"""A relay that stands for another proxy in the benchmark's tests.

`python -m tests.tools.small_peer PORT UPSTREAM_PORT [GOOD]`: after GOOD responses it sends only 500s.
"""

import sys
from itertools import count

from aiohttp import web
from aiohttp.typedefs import Handler

from tools.bench import passthrough


def main() -> None:
    port, upstream, good = (*map(int, sys.argv[1:]), sys.maxsize)[:3]
    numbers = count()

    @web.middleware
    async def breaking(request: web.Request, handler: Handler) -> web.StreamResponse:
        if next(numbers) < good:
            return await handler(request)
        sys.stderr.write("out of order\n")
        return web.Response(status=500, text="broken")

    app = passthrough.create_app(f"http://127.0.0.1:{upstream}")
    app.middlewares.append(breaking)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
