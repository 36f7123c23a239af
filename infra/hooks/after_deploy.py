"""After `azd deploy`: registers the model deployments, creates the first event, and sends a request to it.

Every step skips what already exists, so the hook can run again. One command creates the event, after all
deployments are registered: a hook that fails leaves no half-finished event.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from administrator import read, run, tables_are_unreachable
from attendee import call, is_ready
from waiting import StopError, say, time_limit, wait_for

_AGAIN = "Run `azd hooks run postdeploy` again. It skips what is done."


class Target(NamedTuple):
    """One deployment of one account, and the model name that attendees use."""

    model: str
    endpoint: str
    deployment: str


def main() -> int:
    url = _environment("SERVICE_API_URI", "").rstrip("/")
    code = _environment("EVENT_CODE", "hackathon").lower()
    if tables_are_unreachable():
        say("The tables are private. Create events from inside the network: see docs/deploy.md.")
        return 0
    try:
        _prepare(url, code)
    except StopError as stop:
        say(f"{stop}\n{_AGAIN}")
        return 1
    return 0


def _prepare(url: str, code: str) -> None:
    if not url:
        raise StopError("SERVICE_API_URI is not set. Run `azd provision` first.")
    say("Waiting until the app is ready.")
    wait_for("The app", lambda: is_ready(url), seconds=time_limit(300), pause=5)
    targets = _targets()
    _register(targets)
    _create_event(code)
    say("Sending a request like an attendee.")
    results: list[str] = []
    model = targets[0].model if targets else None
    wait_for("The request", lambda: call(url, code, model, results), seconds=time_limit(600), pause=10)
    _print_summary(url, code, results[-1])


def _targets() -> list[Target]:
    endpoints = [*_list("AZURE_OPENAI_ENDPOINTS"), *_list("AZURE_OPENAI_EXISTING_ENDPOINTS")]
    deployments = _list("AZURE_OPENAI_DEPLOYMENTS")
    return [Target(item["model"], endpoint, item["name"]) for endpoint in endpoints for item in deployments]


def _list(name: str) -> list[Any]:
    """An output of main.bicep that is a list."""
    try:
        found = json.loads(os.environ.get(name) or "[]")
    except ValueError as error:
        raise StopError(f"{name} is not a JSON list: {error}. Run `azd provision` to set it.") from error
    return found if isinstance(found, list) else []


def _register(targets: list[Target]) -> None:
    known = {
        (row["model"], row["endpoint"].rstrip("/"), row["deployment_name"])
        for row in read("deployments", "list")
    }
    for target in targets:
        model, endpoint, name = target
        if (model, endpoint.rstrip("/"), name) in known:
            say(f"The deployment {name} at {endpoint} is already registered.")
            continue
        # Unchecked: the administrator may lack a role on the account. The request at the end tests it.
        options = ("--endpoint", endpoint, "--deployment", name, "--managed-identity", "--no-check")
        run("deployments", "add", model, *options)
        say(f"Registered the deployment {name} at {endpoint} for the model {model}.")


def _create_event(code: str) -> None:
    if code in [event["code"] for event in read("events", "list")]:
        say(f"The event {code} already exists and is unchanged.")
        return
    starts, ends = _dates()
    options = ["--name", _environment("EVENT_NAME", code), "--starts", starts, "--ends", ends]
    for option, name, default in _LIMITS:
        if (value := _environment(name, default)) and value != "0":
            options += [option, value]
    run("events", "create", code, *options)
    say(f"Created the event {code}, from {starts} to {ends}.")


_LIMITS = (
    ("--time-zone", "EVENT_TIME_ZONE", "UTC"),
    ("--requests-per-day", "EVENT_REQUESTS_PER_DAY", "200"),
    ("--tokens-per-day", "EVENT_TOKENS_PER_DAY", "300000"),
    ("--max-output-tokens", "EVENT_MAX_OUTPUT_TOKENS", "4000"),
)


def _dates() -> tuple[str, str]:
    starts = _environment("EVENT_STARTS", datetime.now(UTC).isoformat(timespec="seconds"))
    if ends := _environment("EVENT_ENDS", ""):
        return starts, ends
    try:
        return starts, (datetime.fromisoformat(starts) + timedelta(days=7)).isoformat()
    except ValueError as error:
        raise StopError(f"EVENT_STARTS is not a date and time: {error}. Example: 2026-12-01T09:00") from error


def _environment(name: str, default: str) -> str:
    """An empty variable counts as unset: pipelines pass empty ones."""
    return os.environ.get(name, "").strip() or default


def _print_summary(url: str, code: str, result: str) -> None:
    say(f"{result}\n")
    say(f"URL         {url}/v1")
    say(f"event code  {code}")
    say("Attendees append their GitHub user name to the code:\n")
    say(f'curl {url}/v1/chat/completions -H "content-type: application/json" \\')
    say(f'  -H "api-key: {code}/GITHUB_USER" \\')
    say("""  -d '{"messages": [{"role": "user", "content": "Say hello"}]}'""")
    if code == "hackathon":
        say("\nThis code is easy to guess. For a real event, run `python3 manage.py events create`.")


if __name__ == "__main__":
    sys.exit(main())
