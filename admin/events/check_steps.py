"""The steps of `events check`: requests as an attendee sends them, with advice for each failure."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp

from admin import times
from admin.errors import CommandError
from admin.http import NoResponse, Response, open_session, parse_object, send
from admin.target import cache_time
from shared.core.models import CHAT, EMBEDDINGS, IMAGES, RESPONSES

SECONDS = 120
"""The timeout of a request; the slowest models need almost as long."""

STEPS = ("address", "ready", "credential", "event open", "models", "completion", "stream")
_CHANGED = "Check the network between you and the app: something changes the response."
_PROMPT = [{"role": "user", "content": "Reply with one word: ready"}]


@dataclass(frozen=True, slots=True)
class Step:
    """`ok` is None for a step that was skipped after a failure."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


class _Failed(Exception):
    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


async def run_steps(url: str, event_code: str, user: str) -> list[Step]:
    """Run every step in order. Later steps are skipped after a failure."""
    async with open_session(url, SECONDS) as session:
        steps = await _run(_App(session, url, f"{event_code}/{user}"))
    if any(step.ok is False for step in steps):
        skipped = [name for name in STEPS if not any(step.name.startswith(name) for step in steps)]
        steps += [Step(name, None, "skipped") for name in skipped]
    return [replace(step, advice=_filled(step.advice, event_code)) for step in steps]


def _filled(advice: str, event_code: str) -> str:
    return advice.replace("CODE", event_code).replace("N seconds", cache_time())


async def _run(app: _App) -> list[Step]:
    checks = (_check_address, _check_ready, _check_credential, _check_open, _check_models)
    steps: list[Step] = []
    for name, check in zip(STEPS, checks, strict=False):
        steps.append(await _step(name, check(app)))
        if not steps[-1].ok:
            break
    for model, apis in app.models.items():
        steps += await _model_steps(app, model, apis)
    return steps


async def _model_steps(app: _App, model: str, apis: Collection[str]) -> list[Step]:
    """What the model is good for. A picture costs too much for a test."""
    steps = []
    if CHAT in apis:
        steps.append(await _step(f"completion {model}", _check_completion(app, model)))
        steps.append(await _step(f"stream {model}", _check_stream(app, model)))
    if RESPONSES in apis:
        steps.append(await _step(f"response {model}", _check_response(app, model)))
    if EMBEDDINGS in apis:
        steps.append(await _step(f"embedding {model}", _check_embedding(app, model)))
    if IMAGES in apis:
        steps.append(Step(f"image {model}", None, "not tested, because a picture costs too much"))
    return steps


async def _step(name: str, check: Awaitable[str]) -> Step:
    try:
        return Step(name, True, await check)
    except _Failed as failure:
        return Step(name, False, failure.found, failure.advice)
    except NoResponse as reason:
        advice = "Check the address and your network, and that the app is running."
        return Step(name, False, str(reason), advice)


@dataclass
class _App:
    """The app, and what earlier steps found out about the event."""

    session: aiohttp.ClientSession
    url: str
    credential: str
    event: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Collection[str]] = field(default_factory=dict)
    """With the APIs that each serves."""

    async def get(self, path: str) -> Response:
        """Without the credential, because the address may be that of another server."""
        return await send(self.session, self.url + path, {})

    async def call(self, path: str, body: object = None) -> Response:
        """As the attendee. Raises _Failed if the status is not 200."""
        response = await send(self.session, f"{self.url}/v1/{path}", {"api-key": self.credential}, body)
        if response.status != 200:
            advice = _ADVICE.get(response.error.code, "See docs/errors.md and the app's log.")
            raise _Failed(_failure(response), advice)
        return response


def _failure(response: Response) -> str:
    error = response.error
    return f"{response.status} {error.code}: {error.message or response.text[:200].strip()}"


async def _check_address(app: _App) -> str:
    response = await app.get("/healthz")
    if response.status != 200 or "status" not in response.json:
        found = f"/healthz returned {response.status}, but this is not the proxy"
        raise _Failed(found, "Check --url, and that the app is deployed (`azd deploy`).")
    return "the app responds"


async def _check_ready(app: _App) -> str:
    response = await app.get("/readyz")
    if response.status != 200:
        advice = "Check the app's settings, its role on the storage account and its log (docs/deploy.md)."
        raise _Failed(_failure(response), advice)
    return "the app can read its tables"


async def _check_credential(app: _App) -> str:
    app.event = (await app.call("event")).json
    remaining = [
        f"{unit['remaining']:,} of {unit['limit']:,} {name} left today"
        for name in ("requests", "tokens")
        if isinstance(unit := app.event.get(name), dict)
    ]
    if isinstance(budget := app.event.get("budget"), dict):
        money = (f"{budget[name]:.2f}" for name in ("remaining", "limit"))
        remaining.insert(0, f"{' of '.join(money)} {budget['currency']} left today")
    user = f"{app.event.get('name')}, as {app.event.get('user')}"
    return f"{user}; {', '.join(remaining)}" if remaining else user


async def _check_open(app: _App) -> str:
    dates = _dates(app.event)
    if not app.event.get("open"):
        raise _Failed(f"the event is closed; its dates are {dates}", _ADVICE[_closed_code(app.event)])
    return dates


def _closed_code(event: dict[str, Any]) -> str:
    """Why the event is closed: by its dates, else it is stopped."""
    try:
        starts, ends = (datetime.fromisoformat(str(event.get(name))) for name in ("starts_at", "ends_at"))
    except ValueError:
        return "event_inactive"
    if datetime.now(UTC) < starts:
        return "event_not_started"
    return "event_ended" if ends <= datetime.now(UTC) else "event_inactive"


def _dates(event: dict[str, Any]) -> str:
    """In the event's time zone, or as sent if they cannot be read."""
    sent = [str(event.get(name)) for name in ("starts_at", "ends_at")]
    try:
        zone = times.find_zone(str(event.get("time_zone")))
        starts, ends = (datetime.fromisoformat(at) for at in sent)
    except (ValueError, CommandError):
        return " to ".join(sent)
    return times.format_period(starts, ends, zone)


async def _check_models(app: _App) -> str:
    data = (await app.call("models")).json.get("data", [])
    app.models = {str(model.get("id")): model.get("apis", (CHAT,)) for model in data}
    default = app.event.get("default_model")
    if not app.models:
        advice = "Add one with `deployments add`, or choose others with `events update CODE --models A,B`."
        raise _Failed("no model of the event is deployed", advice)
    if default is not None and default not in app.models:
        advice = "Choose another with `events update CODE --default-model MODEL`."
        raise _Failed(f"the default model {default} is not deployed", advice)
    return ", ".join(f"{name} (default)" if name == default else name for name in app.models)


async def _check_completion(app: _App, model: str) -> str:
    response = await app.call("chat/completions", {"model": model, "messages": _PROMPT})
    if "choices" not in response.json:
        raise _Failed("the response has no completion", _CHANGED)
    usage = response.json.get("usage") or {}
    return f"{usage.get('total_tokens', 'no')} tokens in {response.seconds:.1f} s"


async def _check_response(app: _App, model: str) -> str:
    """Without leaving the response in Azure."""
    body = {"model": model, "input": "Reply with one word: ready", "store": False}
    response = await app.call("responses", body)
    if response.json.get("object") != "response":
        raise _Failed("the answer is no response", _CHANGED)
    usage = response.json.get("usage") or {}
    return f"{usage.get('total_tokens', 'no')} tokens in {response.seconds:.1f} s"


async def _check_embedding(app: _App, model: str) -> str:
    response = await app.call("embeddings", {"model": model, "input": "ready"})
    if not response.json.get("data"):
        raise _Failed("the response has no embedding", _CHANGED)
    usage = response.json.get("usage") or {}
    return f"{usage.get('total_tokens', 'no')} tokens in {response.seconds:.1f} s"


async def _check_stream(app: _App, model: str) -> str:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = await app.call("chat/completions", {"model": model, "messages": _PROMPT} | options)
    lines = response.text.splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    chunks = [chunk for one in data if (chunk := parse_object(one))]
    if error := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
        found = f"the stream was cut off: {error.get('message')}"
        raise _Failed(found, "Try again. If it fails again, see the app's log.")
    if response.content_type != "text/event-stream" or data[-1:] != ["[DONE]"]:
        advice = "Check the network between you and the app: something cuts streams."
        raise _Failed("the stream is incomplete", advice)
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    if usage is None:
        advice = "The API version may be too old: use `deployments update MODEL DEPLOYMENT --api-version v1`."
        raise _Failed("the stream has no usage, so calls are charged more than they use", advice)
    return f"{len(chunks)} chunks, {usage.get('total_tokens')} tokens in {response.seconds:.1f} s"


_ADVICE = {
    "invalid_event_token": "Check the code with `events list`. A new event works within N seconds. "
    "Check that the app and this command use the same tables. At an event with passes, use --user NAME.PASS: "
    "`attendees passes CODE` prints them.",
    "attendee_blocked": "Use another --user, or `attendees unblock CODE NAME`, and wait N seconds.",
    "event_not_started": "To open it for a test, use `events update CODE --starts now`, and wait N seconds.",
    "event_ended": "To extend it, use `events update CODE --ends DATE`, and wait N seconds.",
    "event_inactive": "It is stopped. To reopen it, use `events update CODE --resume`, and wait N seconds.",
    "model_not_found": "Compare `deployments list` with the models in `events show CODE`.",
    "request_quota_exceeded": "Use another --user, or `events update CODE --requests-per-day N`.",
    "token_quota_exceeded": "Use another --user, or `events update CODE --tokens-per-day N`.",
    "event_quota_exceeded": "Use `events update CODE --requests-total N --tokens-total N`.",
    "budget_exceeded": "Use another --user, or `events update CODE --budget-per-day AMOUNT`.",
    "event_budget_exceeded": "Use `events update CODE --budget AMOUNT`.",
    "model_not_priced": "Set the price with `deployments update MODEL DEPLOYMENT --prompt-price P "
    "--completion-price P`, and wait N seconds.",
    "rate_limited": "Wait a minute, or use `events update CODE --requests-per-minute N`.",
    "upstream_busy": "Every deployment of the model is at its limit. Give it more capacity, or add another.",
    "upstream_error": "The app cannot use the deployment. Check its key or role, and that it still exists; "
    "see `deployments list`. A new role takes some minutes to work.",
    "upstream_timeout": "The model is too slow. Try again, or add another deployment.",
    "store_unavailable": "The app cannot read its tables. Check its role on the storage account.",
}
