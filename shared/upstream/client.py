"""Sends requests to Azure OpenAI: URL, key or token, and headers by allow-list in both directions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from yarl import URL

from ..core.errors import UpstreamError
from ..core.models import API_V1, MANAGED_IDENTITY, Deployment
from ..core.trace import Trace
from .connections import Body, ConnectionFailed, Connections, Response, Target, header

_log = logging.getLogger(__name__)

SENT_HEADERS = frozenset({b"x-ms-client-request-id"})
"""The client's headers that go upstream, besides the trace. The credential never goes upstream."""

FIXED_HEADERS = {
    b"accept": b"*/*",
    b"accept-encoding": b"identity",
    b"content-type": b"application/json",
}

RETURNED_HEADERS = {
    "content-type": b"content-type",
    "apim-request-id": b"apim-request-id",
    "x-request-id": b"x-request-id",
    "x-ms-client-request-id": b"x-ms-client-request-id",
    "openai-processing-ms": b"openai-processing-ms",
}
"""The upstream's headers that the client gets. Not its rate limits, which are shared, and not its region."""


class NoKey(UpstreamError):
    """The setting that should hold a deployment's key is empty."""


class NoToken(UpstreamError):
    """The app's identity returned no token."""


class TokenSource(Protocol):
    async def token(self) -> str:
        """A bearer token of the app's own identity.

        Raises:
            UpstreamError: the identity returned none.
        """


class Upstream:
    """Sends requests to deployments. `key` returns the value of a setting by its name."""

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
    ) -> Response:
        """Post `body` with the headers of `trace`, and wait for the status of the response.

        Raises:
            NoKey: the setting that should hold the deployment's key is empty.
            NoToken: the app's identity returned no token.
            UpstreamError: no connection, or no response.
        """
        headers = _headers(client_headers, trace)
        try:
            target = self._target(deployment)
            if deployment.auth == MANAGED_IDENTITY:
                headers += header(b"authorization", f"Bearer {await self._token()}".encode())
            return await self._connections.send(target, headers, body)
        except ConnectionFailed as error:
            _log.warning("deployment %s: %s", deployment.id, error)
            raise UpstreamError("The model could not be reached. Try again in a moment.") from error

    def _target(self, deployment: Deployment) -> Target:
        """Prepared once, with the key of that moment: a new key needs a restart."""
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
            raise NoKey("The proxy has no key for this model. Contact your organiser.")
        return secret


def chat_url(deployment: Deployment) -> URL:
    """The address of chat completions, by the deployment's `api_version`."""
    base = URL(deployment.endpoint) / "openai"
    if deployment.api_version == API_V1:
        return base / "v1" / "chat" / "completions"
    path = base / "deployments" / deployment.deployment_name / "chat" / "completions"
    return path.with_query({"api-version": deployment.api_version})


def returned_headers(response: Response) -> dict[bytes, bytes]:
    """The headers of the upstream's response that the client gets."""
    get = response.headers.get
    return {
        name: value.encode()
        for upstream_name, name in RETURNED_HEADERS.items()
        if (value := get(upstream_name)) is not None and value.isascii() and value.isprintable()
    }


def _headers(client: Mapping[bytes, bytes], trace: Trace) -> bytes:
    """Leaves out a client's header that cannot be sent. The failure would count against the deployment."""
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
