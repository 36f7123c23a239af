"""The Bicep compiler as one process that stays alive: a snapshot takes 0.2 s in it, and 2 s on its own.

`bicep jsonrpc` speaks JSON-RPC on standard input and output. Its `getSnapshot` evaluates a template without Azure,
like `bicep snapshot`, which azd runs before it deploys.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"


class BicepError(Exception):
    """The compiler rejects the template or its parameters."""


def find() -> str | None:
    """The compiler on the PATH, or where azd and `az bicep install` put it."""
    folders = [
        os.environ.get("PATH", ""),
        str(Path.home() / ".azd" / "bin"),
        str(Path.home() / ".azure" / "bin"),
    ]
    return shutil.which("bicep", path=os.pathsep.join(folders))


class Compiler:
    def __init__(self) -> None:
        program = find()
        assert program, "There is no Bicep compiler. Run `az bicep install`."
        self._process = subprocess.Popen(
            [program, "jsonrpc", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = count(1)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def compile(self, path: Path) -> tuple[list[str], Any]:
        """The errors and warnings of the compiler and the linter, and the template if there are no errors."""
        result = self._call("compile", path=str(path))
        diagnostics = [
            f"{Path(one['source']).name}: {one['code']}: {one['message']}" for one in result["diagnostics"]
        ]
        return diagnostics, json.loads(result.get("contents") or "null")

    def format(self, path: Path) -> str:
        return str(self._call("format", path=str(path))["contents"])

    def snapshot(self, infra: Path, parameters: Mapping[str, Any]) -> Any:
        """The resources and outputs of a deployment of `infra/main.bicep`.

        Raises:
            BicepError: the deployment would fail; with the message.
        """
        path = infra / f"{next(self._numbers)}.bicepparam"
        # External inputs are checked by the deployment, as azd's JSON file is, and not by the compiler.
        lines = [f"param {name} = externalInput('test', '{name}')\n" for name in parameters]
        path.write_text("".join(["using 'main.bicep'\n", *lines]), encoding="utf-8")
        result = self._call(
            "getSnapshot",
            path=str(path),
            metadata={"subscriptionId": SUBSCRIPTION, "tenantId": SUBSCRIPTION, "location": "swedencentral"},
            externalInputs=[
                {"kind": "test", "config": name, "value": value} for name, value in parameters.items()
            ],
        )
        return json.loads(result["snapshot"])

    def _call(self, method: str, **parameters: Any) -> Any:
        request = {
            "jsonrpc": "2.0",
            "id": next(self._numbers),
            "method": f"bicep/{method}",
            "params": parameters,
        }
        content = json.dumps(request).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._process.stdin.flush()
        response = self._read()
        if "error" in response:
            raise BicepError(response["error"].get("data", response["error"])["message"])
        return response["result"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return json.loads(self._process.stdout.read(length))
