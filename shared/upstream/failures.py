"""Which responses of a deployment are the attendee's to read, and what the others mean."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..core.errors import ProxyError, UpstreamBusy, UpstreamError
from ..core.models import FailureKind
from .connections import Response

NOT_FOUND_CODES = frozenset({"404", "DeploymentNotFound", "ResourceNotFound", "model_not_found"})
"""Codes of a 404 about the deployment's name. With any other code it is about something in the request."""

REFUSALS_OF_US = frozenset({401, 403, 404})
"""Statuses that concern our key, role or deployment name, not the attendee's request."""

COOL_DOWN_HEADERS = (("retry-after-ms", 0.001), ("retry-after", 1.0))
RESET_HEADERS = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
"""They stand on every response; only on a 429 do they say when there is room again."""


class Failure(Exception):
    """A deployment gave no response that the attendee may read."""

    def __init__(
        self, error: ProxyError, trouble: FailureKind, seen: str, seconds: float | None = None
    ) -> None:
        super().__init__(seen)
        self.error = error
        """For the attendee, if no other deployment serves the call."""
        self.trouble = trouble
        self.seen = seen
        """For the operator, in a word."""
        self.seconds = seconds
        """How long Azure asks us to stay away, if it does."""


def is_failure(status: int) -> bool:
    """Whether no response of this status is the attendee's to read."""
    return status in {408, 429} or status // 100 not in {2, 4}


def refuses_us(status: int, body: bytes) -> bool:
    """Whether a response refuses our key, role or deployment name."""
    if status == 404:
        return error_of(body).get("code") in NOT_FOUND_CODES
    return status in REFUSALS_OF_US


def failure(response: Response) -> Failure:
    """The failure that a response means, if `is_failure` or `refuses_us`."""
    status = response.status
    if status in REFUSALS_OF_US:
        text = "The model refused the proxy's own key or deployment name. Contact your organiser."
        return Failure(UpstreamError(text), FailureKind.REFUSED, str(status))
    seconds = cool_down_seconds(response)
    if status == 429:
        busy = UpstreamBusy("The model is busy. Try again in a few seconds.", 1)
        return Failure(busy, FailureKind.BUSY, "429", seconds)
    text = "The model failed to respond. Try again."
    return Failure(UpstreamError(text), FailureKind.FAILED, str(status), seconds)


def cool_down_seconds(response: Response) -> float | None:
    """How long Azure asks us to stay away, by the first header that says so; 0 or less means unknown."""
    headers = response.headers
    seconds = [_seconds(headers.get(name, "")) * unit for name, unit in COOL_DOWN_HEADERS]
    if response.status == 429:
        seconds += [_seconds(headers.get(name, "")) for name in RESET_HEADERS]
    return next((value for value in seconds if value > 0), None)


def error_of(body: bytes) -> dict[str, Any]:
    """The members of `error` in a response, in Azure's or OpenAI's shape; empty if it has none."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_duration = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+").fullmatch
_parts = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)").findall


def _seconds(text: str) -> float:
    """A plain number, as Azure writes it, or `1m2.5s`, as OpenAI does; 0 for anything else."""
    if _duration(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _parts(text))
    try:
        return float(text)
    except ValueError:
        return 0.0
