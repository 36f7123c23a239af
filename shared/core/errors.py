"""Every error that the proxy returns to a client, with its status and code.

    ProxyError
    ├── InvalidJson                  400  invalid_json
    ├── InvalidRequest               400  invalid_request
    ├── UnsupportedValue             400  unsupported_value
    ├── ContextTooLong               400  context_length_exceeded
    ├── InvalidEventToken            401  invalid_event_token
    ├── InvalidDeskKey               401  invalid_desk_key
    ├── EventNotStarted              403  event_not_started
    ├── EventEnded                   403  event_ended
    ├── EventInactive                403  event_inactive
    ├── AttendeeBlocked              403  attendee_blocked
    ├── ToolNotAllowed               403  tool_not_allowed
    ├── ModelNotFound                404  model_not_found
    ├── NotFound                     404  not_found
    ├── MethodNotAllowed             405  method_not_allowed
    ├── ChangedMeanwhile             409  changed_meanwhile
    ├── NameTaken                    409  name_taken
    ├── NoSeatsLeft                  409  no_seats_left
    ├── RequestTooLarge              413  request_too_large
    ├── UnsupportedEncoding          415  unsupported_encoding
    ├── WebSocketNotSupported        426  websocket_not_supported
    ├── QuotaExceeded                429  (in `quota_errors.py`)
    │   ├── RequestQuotaExceeded          request_quota_exceeded
    │   ├── TokenQuotaExceeded            token_quota_exceeded
    │   ├── EventQuotaExceeded            event_quota_exceeded
    │   ├── BudgetExceeded                budget_exceeded
    │   └── EventBudgetExceeded           event_budget_exceeded
    ├── RateLimited                  429  rate_limited
    ├── UpstreamBusy                 429  upstream_busy
    ├── InternalError                500  internal_error
    ├── UpstreamError                502  upstream_error
    ├── StoreUnavailable             503  store_unavailable
    ├── ModelNotPriced               503  model_not_priced
    ├── Overloaded                   503  overloaded
    └── UpstreamTimeout              504  upstream_timeout

A client sees only texts written here or passed to these classes, never a foreign exception's message.
"""

from __future__ import annotations

import re
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

    def body(self, **changes: object) -> bytes:
        """The JSON body, in the form that the OpenAI SDKs read, with `changes` of its members."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error | changes})


class InvalidJson(ProxyError):
    status, code = 400, "invalid_json"


class InvalidRequest(ProxyError):
    status, code = 400, "invalid_request"


class UnsupportedValue(ProxyError):
    """A value that the proxy cannot meter, or cannot keep apart from other attendees. `param` names it."""

    status, code = 400, "unsupported_value"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param=param)


class ContextTooLong(ProxyError):
    """The prompt is longer than the model's context. The code is OpenAI's own, which clients know."""

    status, code = 400, "context_length_exceeded"


class InvalidEventToken(ProxyError):
    """The credential is missing or malformed, its event is unknown, or it lacks the pass of its user.

    The text may say what is wrong with the form of the key. Whether an event code exists, it says only to a
    client that knows the code. `param` is then the event's kind of access, if the pass is wrong.
    """

    status, code, type = 401, "invalid_event_token", "authentication_error"

    def __init__(self, message: str = "", param: str | None = None) -> None:
        super().__init__(
            message
            or "Your API key is missing or not valid. Use EVENT-CODE/YOUR-NAME, for example hackathon/anna. "
            "Check the event code with your organiser.",
            param=param,
            headers={b"www-authenticate": b'Bearer realm="event"'},
        )


class InvalidDeskKey(ProxyError):
    """The desk key is missing, malformed, wrong or void, or its event is gone. One text for all of them."""

    status, code, type = 401, "invalid_desk_key", "authentication_error"

    def __init__(self) -> None:
        super().__init__(
            "This desk link does not work: it is not complete, a newer one replaces it, or its event "
            "is gone. For the link, use `events desk CODE`."
        )


class EventNotStarted(ProxyError):
    status, code, type = 403, "event_not_started", "permission_error"


class EventEnded(ProxyError):
    status, code, type = 403, "event_ended", "permission_error"


class EventInactive(ProxyError):
    status, code, type = 403, "event_inactive", "permission_error"


class AttendeeBlocked(ProxyError):
    """The organiser has blocked this user."""

    status, code, type = 403, "attendee_blocked", "permission_error"


class ToolNotAllowed(ProxyError):
    """A tool that runs at the upstream and costs more than tokens. The event does not allow it."""

    status, code, type = 403, "tool_not_allowed", "permission_error"


class ModelNotFound(ProxyError):
    status, code = 404, "model_not_found"


class NotFound(ProxyError):
    status, code = 404, "not_found"


class MethodNotAllowed(ProxyError):
    status, code = 405, "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message, headers={b"allow": allow.encode()})


class ChangedMeanwhile(ProxyError):
    """Another organiser has changed the value in the meantime. Nothing is changed."""

    status, code = 409, "changed_meanwhile"


class NameTaken(ProxyError):
    """The pass of this name is taken."""

    status, code = 409, "name_taken"


class NoSeatsLeft(ProxyError):
    """As many names are taken as the event has seats."""

    status, code = 409, "no_seats_left"


class RequestTooLarge(ProxyError):
    status, code = 413, "request_too_large"


class UnsupportedEncoding(ProxyError):
    """The body is compressed."""

    status, code = 415, "unsupported_encoding"


class WebSocketNotSupported(ProxyError):
    """Codex and others then use HTTP."""

    status, code = 426, "websocket_not_supported"


class _Retry(ProxyError):
    """An error that says when to retry, in whole seconds."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message, headers=self._retry_headers(retry_after_seconds))
        self.retry_after_seconds = retry_after_seconds

    def _retry_headers(self, seconds: float) -> dict[bytes, bytes]:
        return {b"retry-after": whole_seconds(seconds)}


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


class ModelNotPriced(ProxyError):
    """The event has a budget, and the cost of a call is not known. An unknown cost is never free."""

    status, code, type = 503, "model_not_priced", "server_error"


class Overloaded(_Retry):
    """The instance has no memory for another large body."""

    status, code, type = 503, "overloaded", "server_error"


class UpstreamTimeout(ProxyError):
    status, code, type = 504, "upstream_timeout", "server_error"


def wrong_member(error: msgspec.ValidationError) -> str | None:
    """The member of a body that is wrong, missing or unknown. None if the body itself is not an object."""
    named = re.search(r"(?:field `|at `\$\.)(\w+)`$", str(error))
    return named and named[1]


def whole_seconds(seconds: float) -> bytes:
    """The value of `retry-after`."""
    return b"%d" % max(1, ceil(seconds))
