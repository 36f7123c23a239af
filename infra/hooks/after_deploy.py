"""After `azd deploy`: registers the model deployments, creates the first event, and calls it as an attendee.

Each step looks first at what is there, so that running it again does no harm. The event comes last and in one
command: there is never half of one.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from administrator import is_out_of_reach, must, read
from attendee import call, is_ready
from waiting import StopError, give_time, say, wait_for

_AGAIN = "Run `azd hooks run postdeploy` again; it goes on where it stopped."


class Target(NamedTuple):
    """One deployment of one account, and the model that attendees ask for to reach it."""

    model: str
    endpoint: str
    deployment: str


def main() -> int:
    url = _environment("SERVICE_API_URI", "").rstrip("/")
    code = _environment("EVENT_CODE", "hackathon").lower()
    if is_out_of_reach():
        say("The tables are private: register deployments and events from inside. See docs/deploy.md.")
        return 0
    try:
        _prepare(url, code)
    except StopError as stop:
        say(f"{stop}\n{_AGAIN}")
        return 1
    return 0


def _prepare(url: str, code: str) -> None:
    if not url:
        raise StopError("SERVICE_API_URI is not set: run `azd provision` first.")
    say("Waiting until the app answers.")
    wait_for("The app", lambda: is_ready(url), seconds=_patience(300), pause=5)
    targets = _targets()
    _register(targets)
    _create_event(code)
    say("Calling a model as an attendee.")
    answers: list[str] = []
    model = targets[0].model if targets else None
    wait_for("The call", lambda: call(url, code, model, answers), seconds=_patience(600), pause=10)
    _tell(url, code, answers[-1])


def _targets() -> list[Target]:
    endpoints = [*_list("AZURE_OPENAI_ENDPOINTS"), *_list("AZURE_OPENAI_EXISTING_ENDPOINTS")]
    deployments = _list("AZURE_OPENAI_DEPLOYMENTS")
    return [Target(item["model"], endpoint, item["name"]) for endpoint in endpoints for item in deployments]


def _list(name: str) -> list[Any]:
    """Texts or objects, as main.bicep puts them out."""
    try:
        found = json.loads(os.environ.get(name) or "[]")
    except ValueError as error:
        raise StopError(f"{name} is not a JSON list: {error}.") from error
    return found if isinstance(found, list) else []


def _register(targets: list[Target]) -> None:
    known = {
        (row["model"], row["endpoint"].rstrip("/"), row["deployment_name"])
        for row in read("deployments", "list")
    }
    for target in targets:
        model, endpoint, name = target
        if (model, endpoint.rstrip("/"), name) in known:
            say(f"The deployment {name} at {endpoint} is registered already.")
            continue
        # Not checked here: the administrator may have no role on the account. The call at the end checks all.
        options = ("--endpoint", endpoint, "--deployment", name, "--managed-identity", "--no-check")
        must("deployments", "add", model, *options)
        say(f"Registered the deployment {name} at {endpoint} for the model {model}.")


def _create_event(code: str) -> None:
    if code in [event["code"] for event in read("events", "list")]:
        say(f"The event {code} exists already, and stays as it is.")
        return
    starts, ends = _dates()
    options = ["--name", _environment("EVENT_NAME", code), "--starts", starts, "--ends", ends]
    for option, name, default in _LIMITS:
        if (value := _environment(name, default)) and value != "0":
            options += [option, value]
    must("events", "create", code, *options)
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
        raise StopError(f"EVENT_STARTS is no date and time, such as 2026-12-01T09:00: {error}.") from error


def _environment(name: str, default: str) -> str:
    """An unset variable and an empty one are the same: pipelines hand over empty ones."""
    return os.environ.get(name, "").strip() or default


def _patience(default: float) -> float:
    return give_time(os.environ.get("HOOK_SECONDS"), default)


def _tell(url: str, code: str, answer: str) -> None:
    say(f"It answered: {answer}\n")
    say(f"URL         {url}/v1")
    say(f"event code  {code}")
    say("Attendees add their GitHub user name to the code:\n")
    say(f'curl {url}/v1/chat/completions -H "content-type: application/json" \\')
    say(f'  -H "api-key: {code}/GITHUB_USER" \\')
    say("""  -d '{"messages": [{"role": "user", "content": "Say hello"}]}'""")
    if code == "hackathon":
        say("\nAnybody can guess this code. For a real event: python3 manage.py events create CODE ...")


if __name__ == "__main__":
    sys.exit(main())
