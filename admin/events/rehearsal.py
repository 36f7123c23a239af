"""The steps of an attendee's day, each with what was found and what to do if it failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from admin import times
from admin.faults import Fault
from admin.http import opened, unreached
from admin.options import CACHE_TIME

if TYPE_CHECKING:
    import aiohttp

SECONDS = 120
"""For one call, as the slowest model may take."""

_PROMPT = [{"role": "user", "content": "Reply with one word: ready"}]
_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Step:
    """`ok` is None where an earlier failure left nothing to try."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


class _Answer(NamedTuple):
    """Status 0: there was none, and `text` says why."""

    status: int
    text: str
    type: str = ""
    seconds: float = 0.0

    @property
    def json(self) -> dict[str, Any]:
        try:
            body = json.loads(self.text)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def code(self) -> str:
        error = self.json.get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""

    @property
    def told(self) -> str:
        """The status, and the sentence of the app's refusal."""
        error = self.json.get("error")
        message = str(error.get("message", "")) if isinstance(error, dict) else self.text[:200].strip()
        return f"{self.status} {self.code}: {message}" if self.status else message


async def rehearsed(url: str, credential: str) -> list[Step]:
    """Every step, in order; those after a failure that leaves them nothing are not tried."""
    async with opened(url, SECONDS) as session:
        app = _App(session, url, credential)
        steps = [await _reachable(app)]
        if steps[-1].ok:
            steps.append(await _ready(app))
        if steps[-1].ok:
            steps += await _inside(app)
    missing = [name for name in _NAMES if not any(step.name.startswith(name) for step in steps)]
    return [*steps, *(Step(name, None, "not tried") for name in missing)]


_NAMES = ("address", "ready", "credential", "event open", "models", "completion", "stream")


class _App:
    def __init__(self, session: aiohttp.ClientSession, url: str, credential: str) -> None:
        self._session, self._url, self._credential = session, url, credential

    async def get(self, path: str) -> _Answer:
        return await self._send("GET", path, None)

    async def chat(self, **body: Any) -> _Answer:
        return await self._send("POST", "/v1/chat/completions", {"messages": _PROMPT, **body})

    async def _send(self, method: str, path: str, body: Any) -> _Answer:
        import aiohttp

        began = monotonic()
        headers = {"api-key": self._credential} if path.startswith("/v1/") else {}
        try:
            call = self._session.request(
                method, self._url + path, json=body, headers=headers, allow_redirects=False
            )
            async with call as response:
                text = (await response.read()).decode("utf-8", "replace")
                return _Answer(response.status, text, response.content_type, monotonic() - began)
        except TimeoutError:
            return _Answer(0, f"no answer within {SECONDS} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _Answer(0, unreached(error, self._url))


async def _reachable(app: _App) -> Step:
    answer = await app.get("/healthz")
    if answer.status == 200 and "status" in answer.json:
        return Step("address", True, "the app answers")
    if answer.status:
        found = f"something answers /healthz with {answer.status}, and it is not this app"
        return Step("address", False, found, "Is --url right, and was the app deployed (`azd deploy`)?")
    return Step("address", False, answer.told, "Is the address right, and does the app run?")


async def _ready(app: _App) -> Step:
    answer = await app.get("/readyz")
    if answer.status == 200:
        return Step("ready", True, "its tables answer")
    advice = "Look at the app's settings, its role on the storage account, and its log (docs/deploy.md)."
    return Step("ready", False, answer.told, advice)


async def _inside(app: _App) -> list[Step]:
    answer = await app.get("/v1/event")
    if answer.status != 200:
        return [Step("credential", False, answer.told, _refused(answer))]
    event = answer.json
    steps = [
        Step("credential", True, f"{event.get('name')}, as {event.get('user')}{_left(event)}"),
        _open(event),
    ]
    if not steps[-1].ok:
        return steps
    listed = await app.get("/v1/models")
    models = [str(one.get("id")) for one in listed.json.get("data", [])]
    steps.append(_models(listed, models, event.get("default_model")))
    for model in models:
        steps += [await _completion(app, model), await _stream(app, model)]
    return steps


def _left(event: dict[str, Any]) -> str:
    told = [
        f"{unit['remaining']:,} of {unit['limit']:,} {name} left today"
        for name in ("requests", "tokens")
        if isinstance(unit := event.get(name), dict)
    ]
    return f"; {', '.join(told)}" if told else ""


def _open(event: dict[str, Any]) -> Step:
    dates = _dates(event)
    if event.get("open"):
        return Step("event open", True, dates)
    advice = (
        "`events update CODE --starts now` opens it for a rehearsal, `--ends ...` makes it longer, and "
        f"`--resume` opens it after a stop. That takes effect within {CACHE_TIME}."
    )
    return Step("event open", False, f"it is closed; its dates are {dates}", advice)


def _dates(event: dict[str, Any]) -> str:
    """In the event's own zone; as the app sent them, where that cannot be read."""
    sent = [str(event.get(name)) for name in ("starts_at", "ends_at")]
    try:
        zone = times.zone(str(event.get("time_zone")))
        starts, ends = (times.shown(datetime.fromisoformat(at), zone) for at in sent)
    except (ValueError, Fault):
        return " to ".join(sent)
    return f"{starts} to {ends}, {zone.key}"


def _models(answer: _Answer, models: list[str], default: str | None) -> Step:
    if answer.status != 200:
        return Step("models", False, answer.told, _refused(answer))
    if not models:
        advice = "`deployments add` adds one; `events update CODE --models ...` names those that there are."
        return Step("models", False, "none that the event may use is deployed", advice)
    if default is not None and default not in models:
        advice = "Name another with `events update CODE --default-model ...`."
        return Step("models", False, f"the default model {default} is not deployed", advice)
    return Step(
        "models", True, ", ".join(f"{name} (default)" if name == default else name for name in models)
    )


async def _completion(app: _App, model: str) -> Step:
    name = f"completion {model}"
    answer = await app.chat(model=model)
    if answer.status != 200:
        return Step(name, False, answer.told, _refused(answer))
    usage = answer.json.get("usage") or {}
    if "choices" not in answer.json:
        return Step(name, False, "200, and no completion in it", "Is something between you and the app?")
    found = f"{usage.get('total_tokens', 'no')} tokens in {answer.seconds:.1f} s"
    return Step(name, True, found)


async def _stream(app: _App, model: str) -> Step:
    name = f"stream {model}"
    answer = await app.chat(model=model, stream=True, stream_options={"include_usage": True})
    if answer.status != 200:
        return Step(name, False, answer.told, _refused(answer))
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    chunks = [chunk for event in events if (chunk := _chunk(event))]
    if error := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
        return Step(
            name, False, f"it broke off: {error.get('message')}", "Try again; see the app's log if it stays."
        )
    if answer.type != _EVENT_STREAM or events[-1:] != ["[DONE]"]:
        return Step(
            name, False, "it did not come to its end", "Is a proxy between you and the app that cuts streams?"
        )
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    if usage is None:
        advice = "The deployment's API version may be too old: `deployments add` it without --api-version."
        return Step(name, False, "it reported no usage, so tokens are estimated", advice)
    found = f"{len(chunks)} events, {usage.get('total_tokens')} tokens in {answer.seconds:.1f} s"
    return Step(name, True, found)


def _chunk(event: str) -> dict[str, Any] | None:
    try:
        chunk = json.loads(event)
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


_ADVICE = {
    "invalid_event_token": "Is the code right (`events list`)? A new event is known within the app's "
    "PROXY_CACHE_SECONDS. Does the app use the tables that this command does?",
    "event_not_started": "Wait, or `events update CODE --starts now`.",
    "event_ended": "`events update CODE --ends ...` makes it longer.",
    "event_inactive": "`events update CODE --resume` opens it again.",
    "model_not_found": "`deployments list` shows what is there, `events show CODE` what the event may use.",
    "request_quota_exceeded": "Use another --user, or `events update CODE --requests-per-day ...`.",
    "token_quota_exceeded": "Use another --user, or `events update CODE --tokens-per-day ...`.",
    "event_quota_exceeded": "`events update CODE --requests-total ... --tokens-total ...` gives it more.",
    "rate_limited": "Wait a minute, or `events update CODE --requests-per-minute ...`.",
    "upstream_busy": "Every deployment of the model is at its limit: give it more capacity, or add another.",
    "upstream_error": "The app cannot use the deployment: is its key or role right, is it still there? "
    "`deployments list` shows how it was last seen; a new role works after some minutes.",
    "upstream_timeout": "The model takes too long: try again, or add a deployment elsewhere.",
    "store_unavailable": "The tables do not answer the app: see its role on the storage account.",
}


def _refused(answer: _Answer) -> str:
    if not answer.status:
        return "Is the network there? Does a proxy between you and the app cut long answers?"
    return _ADVICE.get(answer.code, "See docs/errors.md, and the app's log.")
