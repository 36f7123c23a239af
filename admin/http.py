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


def unreached(error: Exception, url: str) -> str:
    """Why no answer came from `url`, in plain words."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"there is no host of the name in {url}: is it written right?"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"{url} shows a certificate that this machine does not trust."
        case aiohttp.ClientConnectorError():
            return f"{url} cannot be reached from here: is the network there, and no firewall between?"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return f"{url} ended the connection without an answer."
        case _:
            return f"what answers at {url} does not speak HTTP as it should ({type(error).__name__})."
