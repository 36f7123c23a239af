"""Every error that the proxy returns to a client, with its status and code.

    ProxyError
    ├── InvalidJson                  400  invalid_json
    ├── InvalidRequest               400  invalid_request
    ├── InvalidEventToken            401  invalid_event_token
    ├── EventNotStarted              403  event_not_started
    ├── EventEnded                   403  event_ended
    ├── EventInactive                403  event_inactive
    ├── ModelNotFound                404  model_not_found
    ├── NotFound                     404  not_found
    ├── MethodNotAllowed             405  method_not_allowed
    ├── RequestTooLarge              413  request_too_large
    ├── QuotaExceeded                429
    │   ├── RequestQuotaExceeded          request_quota_exceeded
    │   ├── TokenQuotaExceeded            token_quota_exceeded
    │   └── EventQuotaExceeded            event_quota_exceeded
    ├── RateLimited                  429  rate_limited
    ├── UpstreamBusy                 429  upstream_busy
    ├── InternalError                500  internal_error
    ├── UpstreamError                502  upstream_error
    ├── StoreUnavailable             503  store_unavailable
    └── UpstreamTimeout              504  upstream_timeout

A client sees only texts written here or passed to these classes, never a foreign exception's message.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from types import MappingProxyType
from typing import ClassVar

import msgspec

_NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})


class ProxyError(Exception):
    """An error for the client. `app/web.py` turns it into a response."""

    status: ClassVar[int]
    code: ClassVar[str]
    type: ClassVar[str] = "invalid_request_error"

    def __init__(
        self, message: str, *, param: str | None = None, headers: Mapping[bytes, bytes] = _NO_HEADERS
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers

    def body(self) -> bytes:
        """The JSON body, in the form that the OpenAI SDKs read."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class InvalidJson(ProxyError):
    status, code = 400, "invalid_json"


class InvalidRequest(ProxyError):
    status, code = 400, "invalid_request"


class InvalidEventToken(ProxyError):
    """The credential is missing or malformed, or its event is unknown.

    The text is the same for all, so that it does not help to guess event codes.
    """

    status, code, type = 401, "invalid_event_token", "authentication_error"

    def __init__(self) -> None:
        super().__init__(
            "Your API key is missing or not valid. Use EVENT-CODE/YOUR-NAME, for example hackathon/anna. "
            "Check the event code with your organiser.",
            headers={b"www-authenticate": b'Bearer realm="event"'},
        )


class EventNotStarted(ProxyError):
    status, code, type = 403, "event_not_started", "permission_error"


class EventEnded(ProxyError):
    status, code, type = 403, "event_ended", "permission_error"


class EventInactive(ProxyError):
    status, code, type = 403, "event_inactive", "permission_error"


class ModelNotFound(ProxyError):
    status, code = 404, "model_not_found"


class NotFound(ProxyError):
    status, code = 404, "not_found"


class MethodNotAllowed(ProxyError):
    status, code = 405, "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message, headers={b"allow": allow.encode()})


class RequestTooLarge(ProxyError):
    status, code = 413, "request_too_large"


class _Retry(ProxyError):
    """An error that says when to retry, in whole seconds."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message, headers=self._retry_headers(retry_after_seconds))
        self.retry_after_seconds = retry_after_seconds

    def _retry_headers(self, seconds: float) -> dict[bytes, bytes]:
        return {b"retry-after": _whole_seconds(seconds)}


class QuotaExceeded(ProxyError):
    """A quota is used up. `x-should-retry: false` stops the SDKs from retrying.

    `running` means that running requests hold the rest of the quota, so a retry may succeed soon. Leave out
    `retry_after_seconds` where waiting does not help.
    """

    status, type = 429, "insufficient_quota"

    def __init__(
        self, message: str, retry_after_seconds: float | None = None, *, running: bool = False
    ) -> None:
        headers = {b"x-should-retry": b"true" if running else b"false"}
        if retry_after_seconds is not None:
            headers[b"retry-after"] = _whole_seconds(retry_after_seconds)
        super().__init__(message, headers=headers)


class RequestQuotaExceeded(QuotaExceeded):
    code = "request_quota_exceeded"


class TokenQuotaExceeded(QuotaExceeded):
    code = "token_quota_exceeded"


class EventQuotaExceeded(QuotaExceeded):
    code = "event_quota_exceeded"


class _RetryPrecisely(_Retry):
    """Says it in milliseconds too: the SDKs read both headers."""

    def _retry_headers(self, seconds: float) -> dict[bytes, bytes]:
        return {**super()._retry_headers(seconds), b"retry-after-ms": b"%d" % max(1, ceil(seconds * 1000))}


class RateLimited(_RetryPrecisely):
    status, code, type = 429, "rate_limited", "rate_limit_error"


class UpstreamBusy(_RetryPrecisely):
    status, code, type = 429, "upstream_busy", "rate_limit_error"


class InternalError(ProxyError):
    """A bug in the proxy. Only the log has the details."""

    status, code, type = 500, "internal_error", "server_error"

    def __init__(self) -> None:
        super().__init__(
            "The proxy has an internal error. Try again. If it happens again, contact your organiser."
        )


class UpstreamError(ProxyError):
    status, code, type = 502, "upstream_error", "server_error"


class StoreUnavailable(_Retry):
    status, code, type = 503, "store_unavailable", "server_error"

    def __init__(
        self,
        message: str = "The proxy cannot reach its storage. Try again in a few seconds.",
        retry_after_seconds: float = 5,
    ) -> None:
        super().__init__(message, retry_after_seconds)


class UpstreamTimeout(ProxyError):
    status, code, type = 504, "upstream_timeout", "server_error"


def _whole_seconds(seconds: float) -> bytes:
    return b"%d" % max(1, ceil(seconds))
