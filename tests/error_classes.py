"""The error classes of the proxy, for tests that must know them all."""

from __future__ import annotations

from collections.abc import Iterator

from shared.core import quota_errors  # noqa: F401 - its classes are subclasses too
from shared.core.errors import ProxyError


def every_refusal() -> Iterator[type[ProxyError]]:
    """Each error class with a code of its own."""
    waiting = [ProxyError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if "code" in vars(kind):
                yield kind
