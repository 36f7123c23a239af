"""Errors in the form that Codex shows. It hides the texts of other errors, and of streams that are cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ..core.errors import ProxyError
from ..core.quota_errors import QuotaExceeded
from ..functions.http import Response

USAGE_LIMIT_REACHED = "usage_limit_reached"
"""OpenAI's type for a used-up plan. Other clients know `insufficient_quota`, so they get that."""

MESSAGE = b"x-codex-promo-message"
"""Codex shows this header beside its own text about a used-up plan."""


_replace_unprintable = re.compile(r"[^ -~]").sub


def is_codex(headers: Mapping[bytes, bytes]) -> bool:
    """Whether Codex sent a request with these headers."""
    return headers.get(b"originator", b"").lower().startswith(b"codex")


def quota_refusal(
    response: Response, error: ProxyError, headers: Mapping[bytes, bytes], now: datetime
) -> Response:
    """The refusal of a used-up quota for the client that sent `headers`. Others are unchanged."""
    if not isinstance(error, QuotaExceeded) or error.temporary or not is_codex(headers):
        return response
    changes: dict[str, object] = {"type": USAGE_LIMIT_REACHED}
    if error.renews_in_seconds is not None:
        changes["resets_at"] = int(now.timestamp() + error.renews_in_seconds)
    shown = {MESSAGE: _replace_unprintable("?", error.message).encode()}
    return Response(response.status, {**response.headers, **shown}, error.body(**changes))
