"""Run in an empty environment by `test_package.py`: imports the app from a folder, and calls it twice.

It stands where Azure's worker stands: the app's folder comes last on the path, and handlers get the request of
the app's HTTP extension.
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
    alive, refused = asyncio.run(_call_both(functions["healthz"], functions["v1_chat"]))
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


async def _call_both(healthz: Any, chat: Any) -> list[tuple[int, str]]:
    return [await _call(healthz, "GET", "/healthz"), await _call(chat, "POST", "/v1/chat/completions")]


async def _call(function: Any, method: str, path: str) -> tuple[int, str]:
    from shared.functions.http import Request  # noqa: PLC0415  # after what is measured

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    response = await function.get_user_function()(Request(scope, receive))
    return response.status, response.body.decode()


if __name__ == "__main__":
    main()
