"""The hooks of azure.yaml, run like azd runs them, with stand-ins for the app and for `manage.py`.

`hooks.yaml` says what they must do. `test_rehearsal.py` runs them with the real app and the real `manage.py`.
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml

from tests.infra.conftest import run_hook
from tools.processes import ROOT

TABLE: Final = yaml.safe_load(Path(__file__).with_name("hooks.yaml").read_text(encoding="utf-8"))
ANSWER: Final = {"choices": [{"message": {"role": "assistant", "content": "ready"}}]}


@contextmanager
def app(row: Any) -> Iterator[str]:
    """A server that responds like the app of this row; yields its URL."""
    ready = chain(row["ready"], repeat(row["ready"][-1]))
    responses = chain(row["responses"], repeat(row["responses"][-1]))

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond(next(ready), {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, error = next(responses)
            self.respond(status, {"error": error} if error else ANSWER)

        def respond(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", TABLE["rows"])
def test_hook(tmp_path: Path, name: str) -> None:
    row = TABLE["row"] | TABLE["rows"][name]
    shutil.copytree(ROOT / "infra" / "hooks", tmp_path / "infra" / "hooks")
    shutil.copy(Path(__file__).with_name("manage_stand_in.py"), tmp_path / "manage.py")
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"calls": [], "failure": row["failure"]}))

    with app(row) as url:
        variables = TABLE["row"]["variables"] | {"SERVICE_API_URI": url, "STAND_IN_STATE": str(state)}
        status, output = run_hook(tmp_path, row["hook"], variables | row["variables"])

    calls = json.loads(state.read_text())["calls"]
    assert status == row["status"], output
    assert [text for text in row["prints"] if output.count(text) < row["prints"].count(text)] == []
    assert [text for text in row["hides"] if text in output] == []
    assert row["commands"] in (None, [" ".join(call[:2]) for call in calls])
    lines = "\n".join(map(shlex.join, calls))
    assert [part for part in row["arguments"] if part not in lines] == []
