"""The hooks of azure.yaml, run like azd runs them, with stand-ins for the app and for `manage.py`.

`test_rehearsal.py` runs them with the real app and the real `manage.py`.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.infra.conftest import ROOT, run_hook

ANSWER = {"choices": [{"message": {"role": "assistant", "content": "ready"}}]}
MADE_UP = "amber-otter-mango-thud"
ROLE_IS_MISSING = "403: the role is missing"
NO_ROLE = {"error": {"code": "upstream_error", "message": "The proxy may not call this model yet."}}


@dataclass
class Project:
    """A copy of the hooks, with stand-ins for `manage.py` and for the app."""

    root: Path
    url: str = ""
    ready: Iterator[int] = field(default_factory=lambda: repeat(200))
    """What the app returns to `GET /readyz`; `responses` to the request."""
    responses: Iterator[tuple[int, Any]] = field(default_factory=lambda: repeat((200, ANSWER)))
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, hook: str) -> tuple[int, str]:
        variables = {
            "HOOK_SECONDS": "8",
            "SERVICE_API_URI": self.url,
            "AZURE_OPENAI_ENDPOINTS": '["https://one.example/"]',
            "AZURE_OPENAI_EXISTING_ENDPOINTS": '["https://two.example"]',
            "AZURE_OPENAI_DEPLOYMENTS": '[{"name": "chat", "model": "gpt-5.4", "capacity": 30}]',
            "STAND_IN_STATE": str(self.root / "state.json"),
        }
        return run_hook(self.root, hook, variables | self.variables)

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "state.json").read_text(encoding="utf-8")))

    def fail(self, command: str, times: int, status: int = 1, message: str = ROLE_IS_MISSING) -> None:
        failures = {command: {"times": times, "status": status, "message": message}}
        (self.root / "state.json").write_text(json.dumps(self.state | {"failures": failures}))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(ROOT / "infra" / "hooks", tmp_path / "infra" / "hooks")
    shutil.copy(Path(__file__).with_name("manage_stand_in.py"), tmp_path / "manage.py")
    (tmp_path / "state.json").write_text('{"events": {}, "deployments": [], "calls": [], "failures": {}}')
    project = Project(tmp_path)

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond(next(project.ready), {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.respond(*next(project.responses))

        def respond(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        project.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield project
        server.shutdown()


def test_new_and_existing_accounts_are_registered_before_the_event(project: Project) -> None:
    assert project.run("after_deploy.py")[0] == 0
    endpoints = [row["endpoint"] for row in project.state["deployments"]]
    assert endpoints == ["https://one.example/", "https://two.example"]
    commands = [call[:2] for call in project.state["calls"]]
    assert commands[-2:] == [["events", "create"], ["events", "show"]]


def test_new_event_has_a_made_up_code_and_totals_and_both_are_printed(project: Project) -> None:
    status, output = project.run("after_deploy.py")
    assert status == 0 and list(project.state["events"]) == [MADE_UP]
    assert f"event code  {MADE_UP}\n" in output and f"api-key: {MADE_UP}/" in output
    assert "Limit: 10,000 requests and 10,000,000 tokens for the whole event" in output


def test_the_log_of_a_pipeline_does_not_have_the_code(project: Project) -> None:
    project.variables = {"CI": "true"}
    status, output = project.run("after_deploy.py")
    assert status == 0 and MADE_UP not in output
    assert "event code  see `python3 manage.py events list`" in output


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AZURE_OPENAI_ENDPOINTS", "nonsense", "AZURE_OPENAI_ENDPOINTS"),
        ("EVENT_STARTS", "nonsense", "EVENT_STARTS"),
        (
            "EVENT_REQUESTS_PER_DAY",
            "0",
            "EVENT_REQUESTS_PER_DAY is 0, which refuses every request. Use none for",
        ),
        ("EVENT_BUDGET", "0", "EVENT_BUDGET is 0, which refuses every request. Use none for no limit."),
    ],
)
def test_wrong_variable_is_named(project: Project, name: str, value: str, message: str) -> None:
    project.variables = {name: value}
    status, output = project.run("after_deploy.py")
    assert status == 1 and message in output and project.state["events"] == {}


DEFAULTS = {"requests-per-day": "200", "tokens-per-day": "300000", "max-output-tokens": "4000"}
DEFAULTS |= {"requests-total": "10000", "tokens-total": "10000000"}
BUDGETS = {"budget": "200", "budget-per-day": "2", "requests-total": "5000"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, DEFAULTS),
        (dict.fromkeys(DEFAULTS, "None"), {}),
        (BUDGETS, {**BUDGETS, "max-output-tokens": "4000"}),  # budgets replace the other defaults
    ],
)
def test_limits_of_the_event(project: Project, given: dict[str, str], expected: dict[str, str]) -> None:
    project.variables = {f"EVENT_{name.upper().replace('-', '_')}": value for name, value in given.items()}
    assert project.run("after_deploy.py")[0] == 0
    event = project.state["events"][MADE_UP]
    others = {"--name", "--starts", "--ends", "--time-zone"}
    assert {name: event[name] for name in event.keys() - others} == {f"--{n}": v for n, v in expected.items()}


def test_environment_describes_the_event_and_an_empty_variable_is_unset(project: Project) -> None:
    project.variables = {
        "EVENT_CODE": "Amber-Otter",
        "EVENT_NAME": "Spring; $(touch x)",
        "EVENT_STARTS": "2027-03-05T08:00",
        "EVENT_ENDS": "",
        "EVENT_TIME_ZONE": "Europe/Oslo",
    }
    project.run("after_deploy.py")
    event = project.state["events"]["amber-otter"]
    assert event["--name"] == "Spring; $(touch x)"
    assert (event["--starts"], event["--ends"]) == ("2027-03-05T08:00", "2027-03-12T08:00:00")
    assert event["--time-zone"] == "Europe/Oslo"


def test_hook_waits_for_the_app_and_for_the_role_on_the_model(project: Project) -> None:
    project.ready = iter([503, 503, 200])
    project.responses = iter([(502, NO_ROLE), (200, ANSWER)])
    status, output = project.run("after_deploy.py")
    assert status == 0 and "readyz returns 503" in output
    assert "502 The proxy may not call this model yet." in output


def test_model_that_never_works_fails_the_hook_but_keeps_the_event(project: Project) -> None:
    project.variables = {"HOOK_SECONDS": "2"}
    project.responses = repeat((502, NO_ROLE))
    status, output = project.run("after_deploy.py")
    assert status == 1 and "did not succeed within 2 s" in output
    assert "Run `azd hooks run postdeploy` again." in output
    assert set(project.state["events"]) == {MADE_UP}


def test_failed_registration_creates_no_event_and_can_be_repeated(project: Project) -> None:
    project.fail("deployments add", times=1)
    status, output = project.run("after_deploy.py")
    assert status == 1 and "`manage.py deployments add` failed: 403: the role is missing" in output
    assert project.state["events"] == {}
    assert project.run("after_deploy.py")[0] == 0


REFUSALS = [
    (403, {"code": "event_not_started"}, "is not open: Why."),
    (401, {"code": "invalid_event_token", "param": "claim"}, "has passes: Why."),
    (429, {"code": "event_budget_exceeded"}, "has spent its budget: Why."),
]


@pytest.mark.parametrize(("status", "error", "expected"), REFUSALS)
def test_event_that_refuses_the_hook_is_no_failure(
    project: Project, status: int, error: dict[str, str], expected: str
) -> None:
    project.responses = repeat((status, {"error": {"message": "Why.", **error}}))
    exit_status, output = project.run("after_deploy.py")
    assert exit_status == 0 and f"The model was not called, because the event {expected}" in output


def test_provisioning_waits_until_the_role_works(project: Project) -> None:
    project.fail("events list", times=3)
    status, output = project.run("after_provision.py")
    assert status == 0 and "The roles work." in output
    assert output.count(ROLE_IS_MISSING) == 3


def test_provisioning_gives_up_with_the_commands_to_run_again(project: Project) -> None:
    project.variables = {"HOOK_SECONDS": "2"}
    project.fail("events list", times=-1)
    status, output = project.run("after_provision.py")
    assert status == 1 and "Run `azd provision` again, then `azd deploy`." in output

    calls = len(project.state["calls"])
    project.fail("events list", times=-1, status=2, message="PROXY_TABLES is not a connection string")
    assert project.run("after_provision.py")[0] == 1
    assert len(project.state["calls"]) == calls + 1, "a wrong setting is not retried"


@pytest.mark.parametrize(("hook", "value"), [("after_provision.py", "true"), ("after_deploy.py", "1")])
def test_private_tables_are_not_touched(project: Project, hook: str, value: str) -> None:
    project.variables = {"VNET_ENABLED": value, "ADMIN_IP_ADDRESSES": " ,"}
    status, output = project.run(hook)
    assert status == 0 and "tables are private" in output
    assert project.state["calls"] == []
