"""Calls the deployed app over HTTP, as an attendee does. The standard library is enough."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from waiting import Attempt

_USER = "azd-check"
_MODEL_ANSWER_SECONDS = 120


def is_ready(url: str) -> Attempt:
    """Whether the app runs and reaches its tables."""
    status, body = _send(urllib.request.Request(f"{url}/readyz"), 30)  # noqa: S310  # the address that azd gave
    return Attempt(status == 200, f"{url}/readyz answers {status or 'nothing'}: {body[:200].strip()}")


def call(url: str, code: str, model: str | None, answers: list[str]) -> Attempt:
    """Ask the model for a word; what it says is added to `answers`."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Reply with one word: ready"}]}
    asked |= {"model": model} if model else {}
    headers = {"content-type": "application/json", "api-key": f"{code}/{_USER}"}
    request = urllib.request.Request(  # noqa: S310  # the address that azd gave
        f"{url}/v1/chat/completions", json.dumps(asked).encode(), headers, method="POST"
    )
    status, body = _send(request, _MODEL_ANSWER_SECONDS)
    if status == 200:
        answers.append(str(json.loads(body)["choices"][0]["message"].get("content")))
        return Attempt(True, "")
    code_of_refusal, message = _refusal(body)
    if status == 403 and code_of_refusal.startswith("event_"):
        answers.append(f"nothing yet, because the event is not open: {message}")
        return Attempt(True, "")
    # A new event is seen within the cache's time (401, 404), a new role within minutes (502).
    return Attempt(False, f"{status or 'no answer'} {message}", final=status == 400)


def _send(request: urllib.request.Request, seconds: float) -> tuple[int, str]:
    """Status and body; status 0 and the reason when there was no answer."""
    try:
        with urllib.request.urlopen(request, timeout=seconds) as reply:  # noqa: S310  # as above
            return reply.status, reply.read().decode(errors="replace")
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def _refusal(body: str) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", body[:200].strip()
