"""The calls to Azure OpenAI: one session for the life of the process, headers by allow-list both ways."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from yarl import URL

from ..core.errors import ProxyError, UpstreamBusy, UpstreamError
from ..core.models import API_V1, MANAGED_IDENTITY, Deployment, Trouble
from ..core.trace import Trace
from .connections import ConnectionFailed, Connections, Response, Target, header

_log = logging.getLogger(__name__)

SENT_HEADERS: Final = frozenset({b"x-ms-client-request-id"})
"""What of the client's headers goes upstream, besides its trace. Never the credential, in no header."""

FIXED_HEADERS: Final = {
    b"accept": b"*/*",
    b"accept-encoding": b"identity",
    b"content-type": b"application/json",
}

RETURNED_HEADERS: Final = {
    "content-type": b"content-type",
    "apim-request-id": b"apim-request-id",
    "x-request-id": b"x-request-id",
    "x-ms-client-request-id": b"x-ms-client-request-id",
    "openai-processing-ms": b"openai-processing-ms",
}
"""What of the upstream's headers comes back. Its rate limits are shared, its region and names are private."""

NOT_FOUND_CODES: Final = frozenset({"404", "DeploymentNotFound", "ResourceNotFound", "model_not_found"})
"""Of a 404 about the deployment's name. With any other code it is about what the request names."""

COOL_DOWN_HEADERS: Final = (("retry-after-ms", 0.001), ("retry-after", 1.0))
RESET_HEADERS: Final = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
"""They stand on every answer; only on a 429 do they tell when there is room again."""


class NoKey(UpstreamError):
    """The setting that should hold a deployment's key is empty."""


class NoToken(UpstreamError):
    """The app's identity gives no token."""


class TokenSource(Protocol):
    async def token(self) -> str:
        """A bearer token of the app's own identity.

        Raises:
            UpstreamError: when none can be had.
        """


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the upstream may take, in seconds; all below the platform's own 230."""

    first_byte: float
    """For one deployment to begin a stream."""
    whole: float
    """From a call's arrival to its whole answer, over all tries together."""


class Body:
    """A request's bytes, and whether they went out: what was never forwarded is not charged."""

    def __init__(self, content: bytes, *, is_urgent: bool = False) -> None:
        self.content = content
        self.is_urgent = is_urgent
        """A stream's: somebody waits for its first word."""
        self.is_sent = False


class Answer:
    """The upstream's answer: its status and headers are here, its body is read from it."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        get = response.headers.get
        self.headers = {
            sent: value.encode()
            for name, sent in RETURNED_HEADERS.items()
            if (value := get(name)) is not None and value.isascii() and value.isprintable()
        }

    def cool_down_seconds(self) -> float | None:
        """How long Azure asks us to stay away: by the first header that tells; 0 or less means unknown."""
        headers = self._response.headers
        told = [_seconds(headers.get(name, "")) * unit for name, unit in COOL_DOWN_HEADERS]
        if self.status == 429:
            told += [_seconds(headers.get(name, "")) for name in RESET_HEADERS]
        return next((seconds for seconds in told if seconds > 0), None)

    @property
    def is_stream(self) -> bool:
        return self.headers.get(b"content-type", b"").startswith(b"text/event-stream")

    async def read(self) -> bytes:
        """What has arrived since the last call; empty at the end.

        Raises:
            UpstreamError: the connection was cut.
        """
        try:
            return await self._response.read()
        except ConnectionFailed as error:
            raise UpstreamError("The model's answer was cut off. What came is not complete.") from error

    async def read_all(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: the connection was cut.
        """
        try:
            return await self._response.read_all()
        except ConnectionFailed as error:
            raise UpstreamError("The model's answer was cut off. Try again.") from error

    def close(self) -> None:
        """End the call now. A connection whose answer was read to its end is kept for the next."""
        self._response.close()


class Upstream:
    """Sends bodies to deployments. `key` gives the secret that a named setting holds."""

    def __init__(
        self,
        connections: Connections,
        key: Callable[[str], str | None],
        tokens: TokenSource,
    ) -> None:
        self._connections = connections
        self._key = key
        self._tokens = tokens
        self._targets: dict[Deployment, Target] = {}

    async def send(
        self,
        deployment: Deployment,
        body: Body,
        client_headers: Mapping[bytes, bytes],
        trace: Trace,
    ) -> Answer:
        """Post `body` and wait for the answer's status. `trace` goes with it.

        Raises:
            NoKey: the setting that should hold its key is empty.
            NoToken: the app's identity gives none.
            UpstreamError: it could not be reached.
        """
        headers = _headers(client_headers, trace)
        try:
            target = self._target(deployment)
            if deployment.auth == MANAGED_IDENTITY:
                headers += header(b"authorization", f"Bearer {await self._token()}".encode())
            return Answer(await self._connections.send(target, headers, body))
        except ConnectionFailed as error:
            _log.warning("deployment %s could not be reached: %s", deployment.id, error)
            raise UpstreamError("The model could not be reached. Try again in a moment.") from error

    def _target(self, deployment: Deployment) -> Target:
        """With the key, which stays what it was when the process began."""
        target = self._targets.get(deployment)
        if target is None:
            headers = dict(FIXED_HEADERS)
            if deployment.auth != MANAGED_IDENTITY:
                headers[b"api-key"] = self._secret(deployment).encode()
            target = self._targets[deployment] = Target(chat_url(deployment), headers)
        return target

    async def _token(self) -> str:
        try:
            return await self._tokens.token()
        except UpstreamError as error:
            raise NoToken(error.message) from error

    def _secret(self, deployment: Deployment) -> str:
        secret = self._key(deployment.auth)
        if secret is None:
            _log.error(
                "deployment %s: the setting %s, which should hold its key, is empty",
                deployment.id,
                deployment.auth,
            )
            raise NoKey("The proxy has no key for this model. Tell your organiser.")
        return secret


def _headers(client: Mapping[bytes, bytes], trace: Trace) -> bytes:
    """A client's header that cannot be sent on is left out: the deployment is not to blame for it."""
    sent = trace
    if not SENT_HEADERS.isdisjoint(client):
        sent = {**trace, **{name: client[name] for name in SENT_HEADERS if name in client}}
    headers = b""
    for name, value in sent.items():
        try:
            headers += header(name, value)
        except ConnectionFailed:
            continue
    return headers


def chat_url(deployment: Deployment) -> URL:
    """Where chat completions are, in the API form that the deployment's row names."""
    base = URL(deployment.endpoint) / "openai"
    if deployment.api_version == API_V1:
        return base / "v1" / "chat" / "completions"
    path = base / "deployments" / deployment.deployment_name / "chat" / "completions"
    return path.with_query({"api-version": deployment.api_version})


class Fault(Exception):
    """A deployment gave no answer that is the attendee's to read.

    `error` is what the attendee is told where no other serves, `seen` what the operator is, in a word,
    and `seconds` for how long Azure asks us to stay away, where it does.
    """

    def __init__(self, error: ProxyError, trouble: Trouble, seen: str, seconds: float | None = None) -> None:
        super().__init__(seen)
        self.error = error
        self.trouble = trouble
        self.seen = seen
        self.seconds = seconds


OUR_FAULTS: Final = frozenset({401, 403, 404})
"""Refusals that concern our key, role or deployment name, not the attendee's request."""


def is_useless(status: int) -> bool:
    """Whether nothing in an answer of this status is the attendee's to read."""
    return status in {408, 429} or status // 100 not in {2, 4}


def is_ours(status: int, body: bytes) -> bool:
    """Whether a refusal is about our key, role or name: a 404 can also be about what the request names."""
    if status == 404:
        return error_of(body).get("code") in NOT_FOUND_CODES
    return status in OUR_FAULTS


def fault(answer: Answer) -> Fault:
    """What an answer means that is not the attendee's to read."""
    status = answer.status
    if status in OUR_FAULTS:
        text = "The model refused the proxy's own credentials or name. Tell your organiser."
        return Fault(UpstreamError(text), Trouble.REFUSED, str(status))
    seconds = answer.cool_down_seconds()
    if status == 429:
        busy = UpstreamBusy("The model is busy for everybody. Try again shortly.", 1)
        return Fault(busy, Trouble.BUSY, "429", seconds)
    text = "The model failed to answer. Try again."
    return Fault(UpstreamError(text), Trouble.FAILED, str(status), seconds)


def error_of(body: bytes) -> dict[str, Any]:
    """The members of `error` in an answer, in Azure's or OpenAI's shape; none where it has no such thing."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
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
