"""The HTTP requests of the commands that test a deployment or the app."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from admin.target import LOCAL_HOSTS


class NoResponse(Exception):
    """There was no response; the message says why."""


class ApiError(NamedTuple):
    """The error in a response. A member that is missing is empty."""

    code: str
    message: str
    param: str


class Response(NamedTuple):
    status: int
    content_type: str
    text: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        return parse_object(self.text)

    @property
    def error(self) -> ApiError:
        error = self.json.get("error")
        members = error if isinstance(error, dict) else {}
        return ApiError(*(str(members.get(name) or "") for name in ApiError._fields))


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`; empty if there is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def open_session(url: str, seconds: float) -> aiohttp.ClientSession:
    """A session for requests to `url`. It uses the environment's network proxy, but not on this machine."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        trust_env=urlsplit(url).hostname not in LOCAL_HOSTS,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def send(
    session: aiohttp.ClientSession, url: str | URL, headers: dict[str, str], body: object = None
) -> Response:
    """POST `body`, or GET if there is none. Raises NoResponse."""
    began = monotonic()
    method = "GET" if body is None else "POST"
    try:
        async with session.request(
            method, url, json=body, headers=headers, allow_redirects=False
        ) as response:
            text = (await _read(response)).decode("utf-8", "replace")
            return Response(response.status, response.content_type, text, monotonic() - began)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        parts = urlsplit(str(url))
        raise NoResponse(explain(error, f"{parts.scheme}://{parts.netloc}")) from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Of a stream that is cut, what came before: the app sends the reason as the last event."""
    body = b""
    try:
        async for data in response.content.iter_any():
            body += data
    except (aiohttp.ClientPayloadError, aiohttp.ClientOSError):
        if response.content_type != "text/event-stream":
            raise
    return body


def explain(error: Exception, origin: str) -> str:
    """Why there was no response from the server at `origin`."""
    match error:
        case TimeoutError():
            return f"{origin} did not respond in time"
        case aiohttp.ClientConnectorDNSError():
            return f"cannot find the host of {origin}"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"this machine does not trust the certificate of {origin}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {origin}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return f"{origin} closed the connection without a response"
        case _:
            return f"{origin} does not send valid HTTP ({type(error).__name__})"
