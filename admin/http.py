"""The client for calls that an administrator makes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def opened(url: str, seconds: float) -> aiohttp.ClientSession:
    """A session for calls to `url`, through the proxy that the environment names, where one is on the way."""
    import aiohttp

    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        trust_env=urlsplit(url).hostname not in LOCAL,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
