"""`test_package.py` runs this in an empty environment: it imports the app from a folder, and calls it twice.

Like Azure's worker, it puts the app's folder last on the path, and gives the requests of the HTTP extension.
"""

import asyncio
import json
import sys
from typing import Any


def loaded_files() -> list[str]:
    return sorted({str(file) for one in sys.modules.values() if (file := getattr(one, "__file__", None))})


async def call(name: str, method: str, path: str) -> tuple[int, str]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    response = await functions[name].get_user_function()(Request(scope, receive))
    return response.status, response.body.decode()


sys.path.append(sys.argv[1])
import function_app  # noqa: E402  # what is tested

imported = loaded_files()
from shared.functions.http import Request  # noqa: E402  # only the app's folder has it

functions: dict[Any, Any] = {one.get_function_name(): one for one in function_app.app.get_functions()}
calls = (("proxy", "GET", "/healthz"), ("proxy", "POST", "/v1/chat/completions"))
responses = [asyncio.run(call(*one)) for one in calls]
json.dump({"responses": responses, "imported": imported, "used": loaded_files()}, sys.stdout)
