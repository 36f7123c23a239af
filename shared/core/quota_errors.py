"""The errors of a quota that is used up. `errors.py` has all others, and the drawn tree."""

from __future__ import annotations

from .errors import ProxyError, whole_seconds

MOST_RETRY_AFTER_SECONDS = 60
"""The longest wait that a used-up quota sends as `retry-after`."""


class QuotaExceeded(ProxyError):
    """A quota is used up. `x-should-retry: false` stops the SDKs from retrying.

    `temporary` means that running requests or other instances hold the rest of the quota, so a retry may
    succeed soon. Leave out `retry_after_seconds` where waiting does not help. A long wait gives no
    `retry-after`: many clients would sleep until then and show nothing. The message says when to come back.
    """

    status, type = 429, "insufficient_quota"

    def __init__(
        self, message: str, retry_after_seconds: float | None = None, *, temporary: bool = False
    ) -> None:
        headers = {b"x-should-retry": b"true" if temporary else b"false"}
        self.temporary = temporary
        self.renews_in_seconds = None if temporary else retry_after_seconds
        """When the quota comes back by itself."""
        if retry_after_seconds is not None and retry_after_seconds <= MOST_RETRY_AFTER_SECONDS:
            headers[b"retry-after"] = whole_seconds(retry_after_seconds)
        super().__init__(message, headers=headers)


class RequestQuotaExceeded(QuotaExceeded):
    code = "request_quota_exceeded"


class TokenQuotaExceeded(QuotaExceeded):
    code = "token_quota_exceeded"


class EventQuotaExceeded(QuotaExceeded):
    code = "event_quota_exceeded"


class BudgetExceeded(QuotaExceeded):
    """The attendee's own budget in money is spent."""

    code = "budget_exceeded"


class EventBudgetExceeded(QuotaExceeded):
    """The budget of the whole event is spent."""

    code = "event_budget_exceeded"
