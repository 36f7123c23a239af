"""Sends requests to Azure OpenAI: URL, key or token, and headers by allow-list in both directions."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from yarl import URL

from ..apis.api import Api
from ..core.errors import UpstreamError
from ..core.models import API_V1, MANAGED_IDENTITY, Deployment
from ..core.trace import Trace
from .connections import Connections, Target, UpstreamBody, header
from .response import ConnectionFailed, UpstreamResponse

_log = logging.getLogger(__name__)

SENT_HEADERS = {b"x-ms-client-request-id": re.compile(rb"[ -~]{1,128}").fullmatch}
"""The client's headers that go upstream, besides the trace, and the form of their values. The credential
never goes upstream."""

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
        self._targets: dict[str, dict[Deployment, Target]] = {}
        """By the name of the API."""

    async def send(
        self,
        api: Api,
        deployment: Deployment,
        body: UpstreamBody,
        client_headers: Mapping[bytes, bytes],
        trace: Trace,
    ) -> UpstreamResponse:
        """Post `body` with the headers of `trace`, and wait for the status of the response.

        Raises:
            NoKey: the setting that should hold the deployment's key is empty.
            NoToken: the app's identity returned no token.
            UpstreamError: no connection, or no response.
        """
        headers = _headers(client_headers, trace)
        try:
            if deployment.auth == MANAGED_IDENTITY:
                headers += await self._authorization()
            return await self._connections.send(self._target(api, deployment), headers, body)
        except ConnectionFailed as error:
            raise _unreachable(deployment, error) from error

    async def request(
        self,
        method: str,
        api: Api,
        deployment: Deployment,
        path: Sequence[str],
        query: Sequence[tuple[str, str]],
        trace: Trace,
    ) -> UpstreamResponse:
        """Send a request without a body to a path below that of the API. Raises as `send` does."""
        address, headers = url(api, deployment), _headers({}, trace)
        for segment in path:
            address /= segment
        try:
            if deployment.auth == MANAGED_IDENTITY:
                headers += await self._authorization()
            target = Target(address.extend_query(query), self._fixed_headers(deployment), method)
            return await self._connections.send(target, headers, UpstreamBody(b""))
        except ConnectionFailed as error:
            raise _unreachable(deployment, error) from error

    def _target(self, api: Api, deployment: Deployment) -> Target:
        """Prepared once, with the key of that moment: a new key needs a restart."""
        targets = self._targets.get(api.name)
        if targets is None:
            targets = self._targets[api.name] = {}
        target = targets.get(deployment)
        if target is None:
            headers = self._fixed_headers(deployment)
            target = targets[deployment] = Target(url(api, deployment), headers)
        return target

    def _fixed_headers(self, deployment: Deployment) -> dict[bytes, bytes]:
        """Raises NoKey."""
        headers = dict(FIXED_HEADERS)
        if deployment.auth != MANAGED_IDENTITY:
            headers[b"api-key"] = self._secret(deployment).encode()
        return headers

    async def _authorization(self) -> bytes:
        """The header with the token of the app's identity. Raises ConnectionFailed or NoToken."""
        try:
            token = await self._tokens.token()
        except UpstreamError as error:
            raise NoToken(error.message) from error
        return header(b"authorization", f"Bearer {token}".encode())

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


def _unreachable(deployment: Deployment, error: ConnectionFailed) -> UpstreamError:
    _log.warning("deployment %s: %s", deployment.id, error)
    return UpstreamError("The model could not be reached. Try again in a moment.")


def url(api: Api, deployment: Deployment) -> URL:
    """The address of an API, by the deployment's `api_version`."""
    base = URL(deployment.endpoint) / "openai"
    if deployment.api_version == API_V1:
        return (base / "v1").joinpath(api.path)
    if api.is_below_deployment:
        base = base / "deployments" / deployment.deployment_name
    return base.joinpath(api.path).with_query({"api-version": deployment.api_version})


def returned_headers(response: UpstreamResponse) -> dict[bytes, bytes]:
    """The headers of the upstream's response that the client gets."""
    get = response.headers.get
    return {
        name: value.encode()
        for upstream_name, name in RETURNED_HEADERS.items()
        if (value := get(upstream_name)) is not None and value.isascii() and value.isprintable()
    }


def _headers(client: Mapping[bytes, bytes], trace: Trace) -> bytes:
    """Leaves out a client's header of another form. Its failure would count against the deployment."""
    lines = [b"%b: %b\r\n" % line for line in trace.items()]
    for name, has_form in SENT_HEADERS.items():
        sent = client.get(name)
        if sent is not None and has_form(sent):
            lines.append(b"%b: %b\r\n" % (name, sent))
    return b"".join(lines)
