"""Calls the deployed app over HTTP, like an attendee, with the standard library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from waiting import Attempt

_USER = "azd-check"
_RESPONSE_SECONDS = 120
_NOT_CALLED = {
    "event_not_started": "is not open",
    "event_ended": "is not open",
    "event_inactive": "is not open",
    "event_quota_exceeded": "has used its quota",
    "event_budget_exceeded": "has spent its budget",
    "pass": "has passes",
}
"""Refusals of an event that the organiser has set up so: they say nothing about the deployment."""


def is_ready(url: str) -> Attempt:
    """Whether the app runs and can read its tables."""
    status, body = _send(urllib.request.Request(f"{url}/readyz"), 30)  # noqa: S310  # azd gave the address
    return Attempt(status == 200, f"{url}/readyz returns {status or 'no response'}: {body[:200].strip()}")


def call(url: str, code: str, model: str | None, results: list[str]) -> Attempt:
    """Send one message to the model, and append what the model says to `results`."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Reply with one word: ready"}]}
    body |= {"model": model} if model else {}
    headers = {"content-type": "application/json", "api-key": f"{code}/{_USER}"}
    request = urllib.request.Request(  # noqa: S310  # azd gave the address
        f"{url}/v1/chat/completions", json.dumps(body).encode(), headers, method="POST"
    )
    status, content = _send(request, _RESPONSE_SECONDS)
    if status == 200:
        answer = json.loads(content)["choices"][0]["message"].get("content")
        results.append(f"The model answered: {answer}")
        return Attempt(True, "")
    error, message = _error(content)
    if error in _NOT_CALLED:
        results.append(f"The model was not called, because the event {_NOT_CALLED[error]}: {message}")
        return Attempt(True, "")
    # The app needs its cache time to see a new event (401 or 404), and minutes to use a new role (502).
    return Attempt(False, f"{status or 'No response:'} {message}", final=status == 400)


def _send(request: urllib.request.Request, seconds: float) -> tuple[int, str]:
    """Status and body; status 0 and the reason if there is no response."""
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310  # azd gave the address
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def _error(body: str) -> tuple[str, str]:
    """The code and the message. The code `pass` is ours: the event wants a key with a pass."""
    try:
        error = json.loads(body)["error"]
        code = "pass" if error.get("param") in {"claim", "roster"} else str(error["code"])
        return code, str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", body[:200].strip()
