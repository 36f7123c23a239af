"""Which responses of a deployment are passed on to the attendee, and what the others mean."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from ..core.errors import ProxyError, UpstreamBusy, UpstreamError
from ..core.models import FailureKind
from .response import ConnectionFailed, UpstreamResponse

NOT_FOUND_CODES = ("404", "DeploymentNotFound", "ResourceNotFound", "model_not_found")
"""The codes of a 404 about the deployment's name. A 404 with another code is about the request. Not a set,
because a code may be of any type, such as an object, which no set can look up."""

REFUSAL_STATUSES = frozenset({401, 403, 404})
"""The statuses by which Azure refuses our key, role or deployment name."""

REFUSED = "The model refused the proxy's own key or deployment name. Contact your organiser."
"""The text for the attendee, like the next two."""
QUOTA_USED_UP = "The organiser's own quota for this model is used up. Contact your organiser."
BUSY = "The model is busy. Try again in a few seconds."

BODY_SECONDS, BODY_BYTES = 1.0, 64 * 1024
"""What is read of the body of a 429 at most. It says whether waiting helps."""

COOL_DOWN_HEADERS = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))
AT_ONCE_SECONDS = 1.0
"""The cool-down if they name 0 or a date in the past."""
RESET_HEADERS = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
"""Every response has them, but only on a 429 do they say when the next request is allowed."""


class Failure(Exception):
    """A deployment gave no response that can be passed on."""

    def __init__(
        self, error: ProxyError, kind: FailureKind, status: str, cool_down_seconds: float | None = None
    ) -> None:
        super().__init__(status)
        self.error = error
        """For the attendee, if no other deployment serves the call."""
        self.kind = kind
        self.status = status
        """For the administrator, in a word or two."""
        self.cool_down_seconds = cool_down_seconds
        """How long Azure wants no further request, if it says so."""


def is_failure(status: int) -> bool:
    """Whether a response with this status is a failure of the deployment, whatever its body is."""
    return status in {408, 429} or status // 100 not in {2, 4}


def refuses_proxy(status: int, body: bytes) -> bool:
    """Whether a response refuses our key, role or deployment name."""
    if status == 404:
        return error_of(body).get("code") in NOT_FOUND_CODES
    return status in REFUSAL_STATUSES


async def failure_of(response: UpstreamResponse) -> Failure:
    """What a response means for which `is_failure` is true. Reads the body of a 429."""
    body = b""
    if response.status == 429:
        with suppress(ConnectionFailed, TimeoutError):
            async with asyncio.timeout(BODY_SECONDS):
                while len(body) < BODY_BYTES and (data := await response.read()):
                    body += data
    return response_failure(response, body)


def response_failure(response: UpstreamResponse, body: bytes = b"") -> Failure:
    """What a response means for which `is_failure` or `refuses_proxy` is true."""
    status = response.status
    if status in REFUSAL_STATUSES:
        return Failure(UpstreamError(REFUSED), FailureKind.REFUSED, str(status))
    if status == 429 and error_of(body).get("code") == "insufficient_quota":
        return Failure(UpstreamError(QUOTA_USED_UP), FailureKind.REFUSED, "429 quota used up")
    seconds = cool_down_seconds(response)
    if status == 429:
        return Failure(UpstreamBusy(BUSY, 1), FailureKind.BUSY, "429", seconds)
    error = UpstreamError("The model failed to respond. Try again.")
    return Failure(error, FailureKind.FAILED, str(status), seconds)


def cool_down_seconds(response: UpstreamResponse) -> float | None:
    """How long Azure wants no further request, by the first header with a positive number or a date."""
    headers = response.headers
    seconds = [_seconds(headers.get(name, "")) * unit for name, unit in COOL_DOWN_HEADERS]
    if 0 in seconds:
        seconds.append(AT_ONCE_SECONDS)
    if response.status == 429:
        seconds += [_seconds(headers.get(name, "")) for name in RESET_HEADERS]
    return next((value for value in seconds if value > 0), None)


def error_of(body: bytes) -> dict[str, Any]:
    """The members of `error` in a response; empty if there is none."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_duration = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+").fullmatch
_parts = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)").findall


def _seconds(text: str) -> float:
    """The seconds in a plain number (Azure's form), in `1m2.5s` (OpenAI's form) or until a date (RFC 9110).

    0 for a date in the past, and -1 for anything else.
    """
    if _duration(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _parts(text))
    try:
        return float(text)
    except ValueError:
        return _seconds_until(text)


def _seconds_until(date: str) -> float:
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return -1.0
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
