"""The steps of `events check`: requests as an attendee sends them, with advice for each failure."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import aiohttp

from admin import times
from admin.errors import CommandError
from admin.http import explain, open_session

SECONDS = 120
"""The timeout of a request; the slowest models need almost as long."""

STEPS = ("address", "ready", "credential", "event open", "models", "completion", "stream")
_PROMPT = [{"role": "user", "content": "Reply with one word: ready"}]


@dataclass(frozen=True, slots=True)
class Step:
    """`ok` is None for a step that was skipped after a failure."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


class _Response(NamedTuple):
    """Status 0 means that there was no response; `text` says why."""

    status: int
    text: str
    type: str = ""
    seconds: float = 0.0

    @property
    def json(self) -> dict[str, Any]:
        return _parse_object(self.text)

    @property
    def failure(self) -> str:
        """The status, code and message of an error."""
        error = self._error
        message = str(error.get("message", "")) if error else self.text[:200].strip()
        return f"{self.status} {error.get('code', '')}: {message}" if self.status else message

    @property
    def _error(self) -> dict[str, Any]:
        error = self.json.get("error")
        return error if isinstance(error, dict) else {}

    def require_success(self) -> None:
        if self.status == 200:
            return
        if not self.status:
            raise _Failed(self.failure, "Check the network between you and the app.")
        default = "See docs/errors.md and the app's log."
        raise _Failed(self.failure, _ADVICE.get(str(self._error.get("code")), default))


class _Failed(Exception):
    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


async def rehearse(url: str, event_code: str, user: str) -> list[Step]:
    """Run every step in order. Later steps are skipped after a failure."""
    async with open_session(url, SECONDS) as session:
        app = _App(session, url, f"{event_code}/{user}")
        steps = [await _step("address", _check_address(app))]
        if steps[-1].ok:
            steps.append(await _step("ready", _check_ready(app)))
        if steps[-1].ok:
            steps += await _event_steps(app)
    skipped = [name for name in STEPS if not any(step.name.startswith(name) for step in steps)]
    steps += [Step(name, None, "skipped") for name in skipped]
    return [replace(step, advice=step.advice.replace("CODE", event_code)) for step in steps]


async def _step(name: str, check: Awaitable[str]) -> Step:
    try:
        return Step(name, True, await check)
    except _Failed as failure:
        return Step(name, False, failure.found, failure.advice)


async def _event_steps(app: _App) -> list[Step]:
    response = await app.get("/v1/event")
    event = response.json
    steps = [await _step("credential", _check_credential(response))]
    if steps[-1].ok:
        steps.append(await _step("event open", _check_open(event)))
    if not steps[-1].ok:
        return steps
    response = await app.get("/v1/models")
    models = [str(model.get("id")) for model in response.json.get("data", [])]
    steps.append(await _step("models", _check_models(response, models, event.get("default_model"))))
    for model in models:
        steps.append(await _step(f"completion {model}", _check_completion(app, model)))
        steps.append(await _step(f"stream {model}", _check_stream(app, model)))
    return steps


class _App:
    def __init__(self, session: aiohttp.ClientSession, url: str, credential: str) -> None:
        self._session, self._url, self._credential = session, url, credential

    async def get(self, path: str) -> _Response:
        return await self._send("GET", path, None)

    async def chat(self, **body: Any) -> _Response:
        return await self._send("POST", "/v1/chat/completions", {"messages": _PROMPT, **body})

    async def _send(self, method: str, path: str, body: Any) -> _Response:
        began = monotonic()
        headers = {"api-key": self._credential} if path.startswith("/v1/") else {}
        try:
            request = self._session.request(
                method, self._url + path, json=body, headers=headers, allow_redirects=False
            )
            async with request as response:
                text = (await response.read()).decode("utf-8", "replace")
                return _Response(response.status, text, response.content_type, monotonic() - began)
        except TimeoutError:
            return _Response(0, f"no response within {SECONDS} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _Response(0, explain(error, self._url))


async def _check_address(app: _App) -> str:
    response = await app.get("/healthz")
    if not response.status:
        raise _Failed(response.failure, "Check the address and your network, and that the app is running.")
    if response.status != 200 or "status" not in response.json:
        found = f"/healthz returned {response.status}, but this is not the proxy"
        raise _Failed(found, "Check --url, and that the app is deployed (`azd deploy`).")
    return "the app responds"


async def _check_ready(app: _App) -> str:
    response = await app.get("/readyz")
    if response.status != 200:
        advice = "Check the app's settings, its role on the storage account and its log (docs/deploy.md)."
        raise _Failed(response.failure, advice)
    return "the app can read its tables"


async def _check_credential(response: _Response) -> str:
    response.require_success()
    event = response.json
    remaining = [
        f"{unit['remaining']:,} of {unit['limit']:,} {name} left today"
        for name in ("requests", "tokens")
        if isinstance(unit := event.get(name), dict)
    ]
    return f"{event.get('name')}, as {event.get('user')}" + (f"; {', '.join(remaining)}" if remaining else "")


async def _check_open(event: dict[str, Any]) -> str:
    dates = _dates(event)
    if not event.get("open"):
        raise _Failed(
            f"the event is closed; its dates are {dates}",
            "To open it for a test, use `events update CODE --starts now`; to extend it, `--ends DATE`; "
            "after a stop, `--resume`. Then wait 30 seconds.",
        )
    return dates


def _dates(event: dict[str, Any]) -> str:
    """In the event's time zone, or as sent if they cannot be read."""
    sent = [str(event.get(name)) for name in ("starts_at", "ends_at")]
    try:
        zone = times.find_zone(str(event.get("time_zone")))
        starts, ends = (times.format_local(datetime.fromisoformat(at), zone) for at in sent)
    except (ValueError, CommandError):
        return " to ".join(sent)
    return f"{starts} to {ends}, {zone.key}"


async def _check_models(response: _Response, models: list[str], default: str | None) -> str:
    response.require_success()
    if not models:
        advice = "Add one with `deployments add`, or choose others with `events update CODE --models A,B`."
        raise _Failed("no model of the event is deployed", advice)
    if default is not None and default not in models:
        advice = "Choose another with `events update CODE --default-model MODEL`."
        raise _Failed(f"the default model {default} is not deployed", advice)
    return ", ".join(f"{name} (default)" if name == default else name for name in models)


async def _check_completion(app: _App, model: str) -> str:
    response = await app.chat(model=model)
    response.require_success()
    if "choices" not in response.json:
        advice = "Check the network between you and the app: something changes the response."
        raise _Failed("the response has no completion", advice)
    usage = response.json.get("usage") or {}
    return f"{usage.get('total_tokens', 'no')} tokens in {response.seconds:.1f} s"


async def _check_stream(app: _App, model: str) -> str:
    response = await app.chat(model=model, stream=True, stream_options={"include_usage": True})
    response.require_success()
    lines = response.text.splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    chunks = [chunk for one in data if (chunk := _parse_object(one))]
    if error := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
        found = f"the stream was cut off: {error.get('message')}"
        raise _Failed(found, "Try again. If it fails again, see the app's log.")
    if response.type != "text/event-stream" or data[-1:] != ["[DONE]"]:
        advice = "Check the network between you and the app: something cuts streams."
        raise _Failed("the stream is incomplete", advice)
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    if usage is None:
        advice = "The API version may be too old: use `deployments update MODEL DEPLOYMENT --api-version v1`."
        raise _Failed("the stream has no usage, so tokens are estimated", advice)
    return f"{len(chunks)} chunks, {usage.get('total_tokens')} tokens in {response.seconds:.1f} s"


def _parse_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`; empty if there is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_ADVICE = {
    "invalid_event_token": "Check the code with `events list`. A new event works within 30 seconds. "
    "Check that the app and this command use the same tables.",
    "event_not_started": "Wait, or use `events update CODE --starts now`.",
    "event_ended": "To extend it, use `events update CODE --ends DATE`.",
    "event_inactive": "To reopen it, use `events update CODE --resume`.",
    "model_not_found": "Compare `deployments list` with the models in `events show CODE`.",
    "request_quota_exceeded": "Use another --user, or `events update CODE --requests-per-day N`.",
    "token_quota_exceeded": "Use another --user, or `events update CODE --tokens-per-day N`.",
    "event_quota_exceeded": "Use `events update CODE --requests-total N --tokens-total N`.",
    "rate_limited": "Wait a minute, or use `events update CODE --requests-per-minute N`.",
    "upstream_busy": "Every deployment of the model is at its limit. Give it more capacity, or add another.",
    "upstream_error": "The app cannot use the deployment. Check its key or role, and that it still exists; "
    "see `deployments list`. A new role takes some minutes to work.",
    "upstream_timeout": "The model is too slow. Try again, or add another deployment.",
    "store_unavailable": "The app cannot read its tables. Check its role on the storage account.",
}
