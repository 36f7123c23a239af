"""Run in an empty environment by `test_package.py`: imports the app from a folder, and asks it twice.

It stands where Azure's worker stands: the app's folder comes last on the path, and handlers get a Starlette
request.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


def main() -> None:
    sys.path.append(sys.argv[1])
    began = time.perf_counter()
    import function_app  # noqa: PLC0415  # what is measured

    seconds = time.perf_counter() - began
    imported = _files()
    functions = {function.get_function_name(): function for function in function_app.app.get_functions()}
    alive, refused = asyncio.run(_ask_both(functions["healthz"], functions["v1_chat"]))
    answer = {
        "import_milliseconds": round(seconds * 1000),
        "functions": len(functions),
        "alive": alive,
        "refused": refused,
        "imported": imported,
        "used": _files(),
    }
    sys.stdout.write(json.dumps(answer))


def _files() -> list[str]:
    """Where everything that is imported by now came from."""
    return sorted(
        {str(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
    )


async def _ask_both(healthz: Any, chat: Any) -> list[tuple[int, str]]:
    return [await _ask(healthz, "GET", "/healthz"), await _ask(chat, "POST", "/v1/chat/completions")]


async def _ask(function: Any, method: str, path: str) -> tuple[int, str]:
    """Call a handler, and collect what it sends."""
    from starlette.requests import Request  # noqa: PLC0415  # after what is measured

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": headers,
        "query_string": b"",
    }
    scope |= {"scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1), "path_params": {}}
    response = await function.get_user_function()(Request(scope, receive, send))
    await response(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body.decode()


if __name__ == "__main__":
    main()
