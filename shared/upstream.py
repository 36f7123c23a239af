"""The calls to Azure OpenAI: one session for the life of the process, headers by allow-list both ways."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from yarl import URL

from . import deadlines
from .connections import ConnectionFailed, Connections, Response, Target, header
from .errors import ProxyError, UpstreamBusy, UpstreamError, UpstreamTimeout
from .models import API_V1, MANAGED_IDENTITY, Deployment

_log = logging.getLogger(__name__)

SENT_HEADERS: Final = (b"traceparent", b"tracestate", b"x-ms-client-request-id")
"""What of the client's headers goes upstream. Never the credential, whichever header it came in."""

FIXED_HEADERS: Final = {
    b"accept": b"*/*",
    b"accept-encoding": b"identity",
    b"content-type": b"application/json",
}

RETURNED_HEADERS: Final = (
    "content-type",
    "apim-request-id",
    "x-request-id",
    "x-ms-client-request-id",
    "openai-processing-ms",
)
"""What of the upstream's headers comes back. Its rate limits are shared, its region and names are private."""

OUR_FAULTS: Final = frozenset({401, 403, 404})
"""Refusals that concern our key, role or deployment name, not the attendee's request."""

COOL_DOWN_HEADERS: Final = (
    ("retry-after-ms", 0.001),
    ("retry-after", 1.0),
    ("x-ratelimit-reset-requests", 1.0),
    ("x-ratelimit-reset-tokens", 1.0),
)
MAX_COOL_DOWN_SECONDS: Final = 60.0
DEFAULT_COOL_DOWN_SECONDS: Final = 10.0


class TokenSource(Protocol):
    async def token(self) -> str:
        """A bearer token of the app's own identity.

        Raises:
            UpstreamError: when none can be had.
        """


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the upstream may take, in seconds; all below the platform's own 230."""

    first_byte: float
    whole: float


class Body:
    """A request's bytes, and whether they went out: what was never forwarded is not charged."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.is_sent = False


class Answer:
    """The upstream's answer: its status and headers are here, its body is read from it."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        self.headers = {
            name: value
            for name in RETURNED_HEADERS
            if (value := response.headers.get(name)) is not None and value.isascii() and value.isprintable()
        }

    def cool_down_seconds(self) -> float:
        """How long Azure asks us to stay away: by the first header that tells; 0 or less means unknown."""
        for name, unit in COOL_DOWN_HEADERS:
            seconds = _seconds(self._response.headers.get(name, "")) * unit
            if seconds > 0:
                return min(seconds, MAX_COOL_DOWN_SECONDS)
        return DEFAULT_COOL_DOWN_SECONDS

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

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
        limits: Deadlines,
        key: Callable[[str], str | None],
        tokens: TokenSource,
    ) -> None:
        self._connections = connections
        self._to_begin = _limit(limits.first_byte)
        self._to_end = _limit(limits.whole)
        self._key = key
        self._tokens = tokens
        self._targets: dict[Deployment, Target] = {}

    def deadline(self, *, stream: bool) -> deadlines.Block:
        """For `with`: bounds the wait for a whole answer, or for the beginning of a stream.

        Raises:
            UpstreamTimeout: when it takes longer.
        """
        return (self._to_begin if stream else self._to_end).block()

    async def send(self, deployment: Deployment, body: Body, client_headers: Mapping[bytes, bytes]) -> Answer:
        """Post `body` and wait for the answer's status.

        Raises:
            UpstreamError: it could not be reached, or we have no credential for it.
        """
        try:
            target, headers = self._target(deployment), b""
            if deployment.auth == MANAGED_IDENTITY:
                headers = header(b"authorization", f"Bearer {await self._tokens.token()}".encode())
            for name in SENT_HEADERS:
                if (value := client_headers.get(name)) is not None:
                    headers += header(name, value)
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

    def _secret(self, deployment: Deployment) -> str:
        secret = self._key(deployment.auth)
        if secret is None:
            _log.error(
                "deployment %s: the setting %s, which should hold its key, is empty",
                deployment.id,
                deployment.auth,
            )
            raise UpstreamError("The proxy has no key for this model. Tell your organiser.")
        return secret


def _limit(seconds: float) -> deadlines.Deadlines:
    text = f'The model did not answer within {seconds:g} seconds. Ask for less, or use "stream": true.'
    return deadlines.Deadlines(seconds, lambda: UpstreamTimeout(text))


def chat_url(deployment: Deployment) -> URL:
    """Where chat completions are, in the API form that the deployment's row names."""
    base = URL(deployment.endpoint) / "openai"
    if deployment.api_version == API_V1:
        return base / "v1" / "chat" / "completions"
    path = base / "deployments" / deployment.deployment_name / "chat" / "completions"
    return path.with_query({"api-version": deployment.api_version})


def fault(answer: Answer, deployment: Deployment) -> ProxyError | None:
    """What an attendee is told instead of this answer; None where it is the attendee's own to read."""
    status = answer.status
    if 200 <= status < 300 or (400 <= status < 500 and status not in OUR_FAULTS | {408, 429}):
        return None
    _log.warning("deployment %s answered %d", deployment.id, status)
    if status == 429:
        return UpstreamBusy("The model is busy for everybody. Try again shortly.", answer.cool_down_seconds())
    if status in OUR_FAULTS:
        return UpstreamError("The model refused the proxy's own credentials or name. Tell your organiser.")
    return UpstreamError("The model failed to answer. Try again.")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
