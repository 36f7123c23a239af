"""The hooks of azure.yaml, run as azd runs them, against a stand-in for the app and one for `manage.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "ready"}}]}
NOT_STARTED = {"error": {"code": "event_not_started", "message": "It opens on 1 March."}}
BUSY = {"error": {"code": "upstream_error", "message": "The proxy may not call this model yet."}}


@dataclass
class App:
    """The deployed app. It answers what it is told to, first to last; the last one again and again."""

    url: str = ""
    ready: list[int] = field(default_factory=lambda: [200])
    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, ANSWER)])
    credentials: list[str | None] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)


@pytest.fixture
def app() -> Iterator[App]:
    app = App()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(_next(app.ready), {})

        def do_POST(self) -> None:
            app.credentials.append(self.headers["api-key"])
            app.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(*_next(app.answers))

        def _answer(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        app.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield app
        server.shutdown()


@dataclass
class Project:
    """A copy of the hooks with a stand-in for `manage.py` where they look for it."""

    root: Path
    app: App
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, hook: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        variables = inherited | {"HOOK_SECONDS": "2", "SERVICE_API_URI": self.app.url, **_AZD}
        variables |= {"STAND_IN_STATE": str(self.root / "state.json"), **self.variables}
        script = str(self.root / "infra" / "hooks" / hook)
        return subprocess.run(
            [sys.executable, script], env=variables, capture_output=True, text=True, check=False
        )

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "state.json").read_text(encoding="utf-8")))

    def refuse(
        self, command: str, *, times: int, status: int = 1, message: str = "403: the role is missing"
    ) -> None:
        refusal = {"times": times, "status": status, "message": message}
        self._write({**self.state, "refusals": {command: refusal}})

    def _write(self, state: dict[str, Any]) -> None:
        (self.root / "state.json").write_text(json.dumps(state), encoding="utf-8")


_OURS = ("EVENT_", "AZURE_", "PROXY_", "VNET_", "ADMIN_", "HOOK_")
_AZD = {
    "AZURE_OPENAI_ENDPOINTS": '["https://one.example/"]',
    "AZURE_OPENAI_EXISTING_ENDPOINTS": '["https://two.example"]',
    "AZURE_OPENAI_DEPLOYMENTS": '[{"name": "chat", "model": "gpt-5.4", "capacity": 30}]',
}


@pytest.fixture
def project(tmp_path: Path, app: App) -> Project:
    shutil.copytree(ROOT / "infra" / "hooks", tmp_path / "infra" / "hooks")
    shutil.copy(Path(__file__).with_name("manage_stand_in.py"), tmp_path / "manage.py")
    empty: dict[str, Any] = {"events": {}, "deployments": [], "refusals": {}, "calls": []}
    (tmp_path / "state.json").write_text(json.dumps(empty), encoding="utf-8")
    return Project(tmp_path, app)


def test_the_first_run_registers_creates_calls_and_prints(project: Project) -> None:
    done = project.run("after_deploy.py")

    assert done.returncode == 0, done.stdout + done.stderr
    endpoints = [row["endpoint"] for row in project.state["deployments"]]
    assert endpoints == ["https://one.example/", "https://two.example"]
    assert project.state["events"]["hackathon"]["--requests-per-day"] == "200"
    assert project.app.credentials == ["hackathon/azd-check"]
    assert project.app.asked[0]["model"] == "gpt-5.4"
    for line in (
        f"URL         {project.app.url}/v1",
        "event code  hackathon",
        "It answered: ready",
        "curl http",
    ):
        assert line in done.stdout


def test_the_second_run_changes_nothing(project: Project) -> None:
    project.run("after_deploy.py")
    before = {name: project.state[name] for name in ("events", "deployments")}
    done = project.run("after_deploy.py")
    assert done.returncode == 0
    assert "exists already" in done.stdout
    assert {name: project.state[name] for name in ("events", "deployments")} == before


def test_the_environment_describes_the_event_and_empty_is_unset(project: Project) -> None:
    project.variables = {
        "EVENT_CODE": "Amber-Otter",
        "EVENT_NAME": "Spring; $(touch x)",
        "EVENT_STARTS": "2027-03-05T08:00",
        "EVENT_ENDS": "",
        "EVENT_TIME_ZONE": "Europe/Oslo",
        "EVENT_TOKENS_PER_DAY": "0",
    }
    project.run("after_deploy.py")
    event = project.state["events"]["amber-otter"]
    assert event["--name"] == "Spring; $(touch x)"
    assert (event["--starts"], event["--ends"]) == ("2027-03-05T08:00", "2027-03-12T08:00:00")
    assert event["--time-zone"] == "Europe/Oslo"
    assert "--tokens-per-day" not in event


def test_it_waits_for_the_app_and_for_the_role_on_the_model(project: Project) -> None:
    project.app.ready = [503, 503, 200]
    project.app.answers = [(502, BUSY), (200, ANSWER)]
    done = project.run("after_deploy.py")
    assert done.returncode == 0
    assert "readyz answers 503" in done.stdout
    assert "502 The proxy may not call this model yet." in done.stdout


def test_a_model_that_never_answers_is_told_with_what_to_run_again(project: Project) -> None:
    project.app.answers = [(502, BUSY)]
    done = project.run("after_deploy.py")
    assert done.returncode == 1
    assert "did not work within 2 s" in done.stdout
    assert "azd hooks run postdeploy" in done.stdout
    assert set(project.state["events"]) == {"hackathon"}, "the event is whole, and stays"


def test_there_is_no_event_when_a_deployment_could_not_be_registered(project: Project) -> None:
    project.refuse("deployments add", times=1)
    done = project.run("after_deploy.py")
    assert done.returncode == 1
    assert "`manage.py deployments add` failed: 403: the role is missing" in done.stdout
    assert project.state["events"] == {}
    assert project.run("after_deploy.py").returncode == 0, "and running it again goes on"


def test_an_event_that_is_not_open_yet_is_no_failure(project: Project) -> None:
    project.app.answers = [(403, NOT_STARTED)]
    done = project.run("after_deploy.py")
    assert done.returncode == 0
    assert "It opens on 1 March." in done.stdout


@pytest.mark.parametrize("name", ["AZURE_OPENAI_ENDPOINTS", "EVENT_STARTS"])
def test_a_wrong_variable_is_named(project: Project, name: str) -> None:
    project.variables = {name: "nonsense"}
    done = project.run("after_deploy.py")
    assert done.returncode == 1
    assert name in done.stdout
    assert "Traceback" not in done.stderr


def test_provisioning_waits_until_the_role_works(project: Project) -> None:
    project.refuse("events list", times=3)
    done = project.run("after_provision.py")
    assert done.returncode == 0
    assert done.stdout.count("403: the role is missing") == 3
    assert "The roles work." in done.stdout


def test_provisioning_gives_up_and_says_what_to_run_again(project: Project) -> None:
    project.refuse("events list", times=-1)
    done = project.run("after_provision.py")
    assert done.returncode == 1
    assert "Run `azd provision` again, and then `azd deploy`." in done.stdout


def test_provisioning_does_not_wait_for_what_will_never_work(project: Project) -> None:
    project.refuse("events list", times=-1, status=2, message="PROXY_TABLES is not a connection string")
    done = project.run("after_provision.py")
    assert done.returncode == 1
    assert len(project.state["calls"]) == 1


@pytest.mark.parametrize("hook", ["after_provision.py", "after_deploy.py"])
def test_tables_that_cannot_be_reached_are_left_alone(project: Project, hook: str) -> None:
    project.variables = {"VNET_ENABLED": "true"}
    done = project.run(hook)
    assert done.returncode == 0
    assert "tables are private" in done.stdout
    assert project.state["calls"] == []


def _next(waiting: list[Any]) -> Any:
    return waiting.pop(0) if len(waiting) > 1 else waiting[0]
