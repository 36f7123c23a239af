"""After `azd deploy`: registers the model deployments, creates the first event, and sends a request to it.

Every step skips what already exists, so the hook can run again. One command creates the event, after all
deployments are registered: a hook that fails leaves no half-finished event.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
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
    prices: tuple[str, ...]
    """As options of `manage.py`. Without them, it takes those of its list."""


def main() -> int:
    url = _environment("SERVICE_API_URI", "").rstrip("/")
    if tables_are_unreachable():
        say("The tables are private. Create events from inside the network: see docs/deploy.md.")
        return 0
    try:
        _prepare(url)
    except StopError as stop:
        say(f"{stop}\n{_AGAIN}")
        return 1
    return 0


def _prepare(url: str) -> None:
    if not url:
        raise StopError("SERVICE_API_URI is not set. Run `azd provision` first.")
    say("Waiting until the app is ready.")
    wait_for("The app", lambda: is_ready(url), seconds=time_limit(300), pause=5)
    targets = _targets()
    _register(targets)
    model = _chat_model(targets)
    code = _find_or_create_event()
    say("Sending a request like an attendee.")
    results: list[str] = []
    wait_for("The request", lambda: call(url, code, model, results), seconds=time_limit(600), pause=10)
    _print_summary(url, code, model, results[-1])


def _targets() -> list[Target]:
    endpoints = [*_list("AZURE_OPENAI_ENDPOINTS"), *_list("AZURE_OPENAI_EXISTING_ENDPOINTS")]
    deployments = _list("AZURE_OPENAI_DEPLOYMENTS")
    return [
        Target(item["model"], endpoint, item["name"], tuple(_prices(item)))
        for endpoint in endpoints
        for item in deployments
    ]


def _prices(item: Any) -> Iterator[str]:
    for member, option in (("promptPrice", "--prompt-price"), ("completionPrice", "--completion-price")):
        if item.get(member):
            yield from (option, item[member])


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
        model, endpoint, name, prices = target
        if (model, endpoint.rstrip("/"), name) in known:
            say(f"The deployment {name} at {endpoint} is already registered.")
            continue
        # Unchecked: the administrator may lack a role on the account. The request at the end tests it.
        options = ("--endpoint", endpoint, "--deployment", name, "--managed-identity", "--no-check")
        run("deployments", "add", model, *options, *prices)
        say(f"Registered the deployment {name} at {endpoint} for the model {model}.")


def _chat_model(targets: list[Target]) -> str | None:
    """The first model of the targets that answers chat completions. `manage.py` knows them by their names."""
    serving = {row["model"] for row in read("deployments", "list") if "chat" in row.get("apis", "chat")}
    models = [target.model for target in targets]
    return next((model for model in models if model in serving), models[0] if models else None)


def _find_or_create_event() -> str:
    """The code of the event. Without EVENT_CODE, its name finds it, and a new one gets a made-up code."""
    code = _environment("EVENT_CODE", "").lower()
    name = _environment("EVENT_NAME", code or "Hackathon")
    for event in read("events", "list"):
        if event["code"] == code or (not code and event["name"].lower() == name.lower()):
            say(f"The event {name} already exists and is unchanged.")
            return str(event["code"])
    starts, ends = _dates()
    options = ["--name", name, "--starts", starts, "--ends", ends]
    options += ["--time-zone", _environment("EVENT_TIME_ZONE", "UTC")]
    created = read("events", "create", *([code] if code else []), *options, *_limits())
    say(f"Created the event {name}, from {starts} to {ends}.")
    return str(created["code"])


_TOTAL, _DAILY = "EVENT_BUDGET", "EVENT_BUDGET_PER_DAY"
_LIMITS = (
    ("--budget", _TOTAL, "none", None),
    ("--budget-per-day", _DAILY, "none", None),
    ("--requests-per-day", "EVENT_REQUESTS_PER_DAY", "200", _DAILY),
    ("--tokens-per-day", "EVENT_TOKENS_PER_DAY", "300000", _DAILY),
    ("--max-output-tokens", "EVENT_MAX_OUTPUT_TOKENS", "4000", None),
    ("--requests-total", "EVENT_REQUESTS_TOTAL", "10000", _TOTAL),
    ("--tokens-total", "EVENT_TOKENS_TOTAL", "10000000", _TOTAL),
)
"""Option, variable, default, and the budget that replaces the default."""


def _limits() -> list[str]:
    """The options of `events create`. The value 0 means there what it means in `manage.py`: no request."""
    options = []
    for option, name, default, budget in _LIMITS:
        is_replaced = budget is not None and _environment(budget, "none").lower() != "none"
        value = _environment(name, "none" if is_replaced else default)
        if value == "0":
            raise StopError(f"{name} is 0, which refuses every request. Use none for no limit.")
        if value.lower() != "none":
            options += [option, value]
    return options


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


def _print_summary(url: str, code: str, model: str | None, result: str) -> None:
    # With several models, a request must name one.
    named = f'"model": "{model}", ' if model else ""
    shown = "EVENT-CODE" if os.environ.get("CI") else code
    say(f"{result}\n")
    say(f"URL         {url}/v1")
    # Others may read the log of a pipeline.
    say(f"event code  {code if shown == code else 'see `python3 manage.py events list`'}")
    say("Attendees append their GitHub user name to the code:\n")
    say(f'curl {url}/v1/chat/completions -H "content-type: application/json" \\')
    say(f'  -H "api-key: {shown}/GITHUB_USER" \\')
    say(f"  -d '{{{named}" + '"messages": [{"role": "user", "content": "Say hello"}]}' + "'")
    _print_totals(code, shown)
    if code == "hackathon":
        say("\nThis code is easy to guess. For a real event, run `python3 manage.py events create`.")


def _print_totals(code: str, shown: str) -> None:
    event = read("events", "show", code)
    totals = {"requests": event["requests_total"], "tokens": event["tokens_total"]}
    limits = [f"{limit:,} {unit}" for unit, limit in totals.items() if limit is not None]
    if (cost := event.get("cost_total")) is not None:
        limits.insert(0, f"{event['currency']} {cost / 1_000_000:,.2f}")
    options = "--budget AMOUNT" if cost is not None else "--requests-total N --tokens-total N"
    say(f"\nLimit: {' and '.join(limits) or 'none'} for the whole event.")
    say(f"To change it, run `python3 manage.py events update {shown} {options}`.")


if __name__ == "__main__":
    sys.exit(main())
