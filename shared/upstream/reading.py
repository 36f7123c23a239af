"""Reads what a deployment returned, and decides whether it can be passed on."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from ..apis.api import Api
from ..core.errors import UpstreamError
from ..core.models import FailureKind, Usage
from .failures import Failure, failure_of, is_failure, refuses_proxy, response_failure
from .long_response import MOST_BYTES, MOST_KEPT_BYTES
from .response import ConnectionFailed, NotDecoded, UpstreamResponse

_LONG_ERROR = "The model returned an error that is too long to be passed on. Send a shorter request."


class Received(msgspec.Struct, frozen=True):
    """A response to pass on."""

    body: bytes | None = None
    """The whole body. None for a stream, of which nothing is read yet, and for a body that is too long."""
    usage: Usage | None = None
    begun: bytes | None = None
    """The first part of a body that is too long to be kept."""


async def read(response: UpstreamResponse, api: Api, request: bytes) -> Received:
    """Read a whole response to the body `request`; leave a stream unread.

    Raises:
        Failure, UpstreamError: it cannot be passed on.
    """
    if is_failure(response.status):
        with suppress(NotDecoded):  # the status says enough
            response.decode()
        raise await failure_of(response)
    try:
        response.decode()
        if response.status == 200 and _is_event_stream(response):
            return Received()
        body = response.read_arrived()
        if body is None:
            body = await response.read_all(MOST_BYTES if api.is_kept_whole else MOST_KEPT_BYTES)
    except NotDecoded as error:
        text = "The model returned a response that cannot be decompressed. Try again."
        raise Failure(UpstreamError(text), FailureKind.FAILED, str(error)) from error
    except ConnectionFailed as error:
        raise UpstreamError("The answer was cut off. Try again.") from error
    if not response.at_end:
        return _long(response, api, body)
    if response.status >= 400 and refuses_proxy(response.status, body) and not api.has_own_data(request):
        raise response_failure(response)
    return Received(body, _usage(response, api, body))


def _is_event_stream(response: UpstreamResponse) -> bool:
    content_type = response.headers.get("content-type", "")
    return content_type[:17].lower() == "text/event-stream" and content_type.isascii()


def _long(response: UpstreamResponse, api: Api, begun: bytes) -> Received:
    """A response that is too long to be kept. Raises Failure.

    An error is replaced. It does not count against the deployment, because the request may have caused it.
    """
    if response.status < 400:
        if api.is_kept_whole or not begun.lstrip().startswith(b"{"):
            response.close()
            raise _invalid_response()
        return Received(begun=begun)
    response.close()
    error = UpstreamError(_LONG_ERROR)
    response.status, response.headers = error.status, {"content-type": "application/json"}
    return Received(error.body())


def _usage(response: UpstreamResponse, api: Api, body: bytes) -> Usage | None:
    """The usage in a response. Raises Failure if a good status comes with an invalid body."""
    try:
        return api.usage_of(body)
    except ValueError:
        if response.status >= 400:
            return None
        raise _invalid_response() from None


def _invalid_response() -> Failure:
    error = UpstreamError("The model returned an invalid response. Try again.")
    return Failure(error, FailureKind.FAILED, "invalid response")
