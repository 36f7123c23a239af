"""The Bicep compiler as one process that stays alive: a snapshot takes 0.2 s in it, and 2 s on its own.

`bicep jsonrpc` speaks JSON-RPC on standard input and output. Its `getSnapshot` evaluates a template without Azure,
like `bicep snapshot`, which azd runs before it deploys.
"""

import json
import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

# The folders of azd and of `az bicep install`.
_PLACES = (os.environ.get("PATH", ""), *(str(Path.home() / name / "bin") for name in (".azd", ".azure")))
PROGRAM = shutil.which("bicep", path=os.pathsep.join(_PLACES))
MISSING = "There is no Bicep compiler. Run `az bicep install`, or put `bicep` on the PATH."
_SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
_SCOPE = {"subscriptionId": _SUBSCRIPTION, "tenantId": _SUBSCRIPTION, "location": "swedencentral"}


class BicepError(Exception):
    """The compiler rejects the template or its parameters."""


class Compiler:
    def __init__(self) -> None:
        self._numbers = count(1)
        self._start()

    def _start(self) -> None:
        assert PROGRAM, MISSING
        self._process = Popen([PROGRAM, "jsonrpc", "--stdio"], stdin=PIPE, stdout=PIPE)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def compile(self, path: Path) -> tuple[list[str], Any]:
        """The errors and warnings of the compiler and the linter, and the template if there are no errors."""
        result = self._call("compile", path=str(path))
        all_found = result["diagnostics"]
        found = [f"{Path(one['source']).name}: {one['code']}: {one['message']}" for one in all_found]
        return found, json.loads(result.get("contents") or "null")

    def format(self, path: Path) -> str:
        return str(self._call("format", path=str(path))["contents"])

    def snapshot(self, infra: Path, parameters: Mapping[str, Any]) -> Any:
        """The resources and outputs of a deployment. Raises BicepError with the message if it would fail."""
        path = infra / f"{next(self._numbers)}.bicepparam"
        # The deployment checks external inputs, like azd's JSON file. The compiler would check literals.
        lines = [f"param {name} = externalInput('test', '{name}')\n" for name in parameters]
        path.write_text("".join(["using 'main.bicep'\n", *lines]), encoding="utf-8")
        inputs = [{"kind": "test", "config": name, "value": value} for name, value in parameters.items()]
        result = self._call("getSnapshot", path=str(path), metadata=_SCOPE, externalInputs=inputs)
        return json.loads(result["snapshot"])

    def _call(self, method: str, **parameters: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": f"bicep/{method}", "params": parameters}
        try:
            response = self._response(json.dumps(request).encode())
        except BaseException:  # the time limit of a test: the next request must not get this one's response
            self.close()
            self._start()
            raise
        if "error" in response:
            raise BicepError(response["error"].get("data", response["error"])["message"])
        return response["result"]

    def _response(self, content: bytes) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._process.stdin.flush()
        length = int(self._process.stdout.readline().removeprefix(b"Content-Length:"))
        self._process.stdout.readline()
        return json.loads(self._process.stdout.read(length))
