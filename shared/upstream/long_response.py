"""Passes on a whole response that is too long to be kept, and finds its usage on the way."""

from __future__ import annotations

import logging

from ..apis.usage import ReadUsage, UsageFinder, read_usage
from ..core.errors import ProxyError, UpstreamError
from ..core.models import Usage

MOST_KEPT_BYTES = 1024 * 1024
"""A longer response is passed on piece by piece."""

MOST_BYTES = 64 * 1024 * 1024
"""A longer response that must be kept is refused."""

MOST_PASSED_BYTES = 256 * 1024 * 1024
"""A longer response is cut. 2048 embeddings of 3072 numbers, as decimals, have about 130 MB."""

_log = logging.getLogger(__name__)


class LongResponse:
    """One response. It has the form of a `StreamReader`, but it is complete when the connection says so."""

    failed = False
    in_event = False

    def __init__(self, read: ReadUsage = read_usage) -> None:
        self._finder = UsageFinder(read)
        self.output_bytes = 0
        self.done = False

    @property
    def usage(self) -> Usage | None:
        return self._finder.usage

    def feed(self, data: bytes) -> bytes:
        """Raises UpstreamError: the response is too long."""
        self.output_bytes += len(data)
        if self.output_bytes > MOST_PASSED_BYTES:
            _log.warning("A response was longer than %d bytes and was cut.", MOST_PASSED_BYTES)
            raise UpstreamError("The answer is too long.")
        self._finder.feed(data)
        return data

    def end(self) -> bool:
        self.done = True
        return True

    def error_event(self, _: ProxyError) -> bytes:
        """Nothing: within a whole response, only the cut can show the failure."""
        return b""
