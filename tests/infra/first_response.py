"""`test_package.py` runs this in an empty environment: it imports the app from a folder, and calls it twice.

Like Azure's worker, it puts the app's folder last on the path, and gives the requests of the HTTP extension.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def main() -> None:
    sys.path.append(sys.argv[1])
    import function_app  # noqa: PLC0415  # what is tested

    imported = loaded_files()
    functions = {function.get_function_name(): function for function in function_app.app.get_functions()}
    responses = [
        asyncio.run(call(functions[name].get_user_function(), method, path))
        for name, method, path in (
            ("healthz", "GET", "/healthz"),
            ("v1_chat", "POST", "/v1/chat/completions"),
        )
    ]
    json.dump({"responses": responses, "imported": imported, "used": loaded_files()}, sys.stdout)


def loaded_files() -> list[str]:
    return sorted(
        {str(file) for module in sys.modules.values() if (file := getattr(module, "__file__", None))}
    )


async def call(function: Any, method: str, path: str) -> tuple[int, str]:
    from shared.functions.http import Request  # noqa: PLC0415  # only the app's folder has it

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    response = await function(Request(scope, receive))
    return response.status, response.body.decode()


if __name__ == "__main__":
    main()
