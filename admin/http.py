"""The HTTP client of the commands that send test requests."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp

from admin.target import LOCAL_HOSTS


def open_session(url: str, seconds: float) -> aiohttp.ClientSession:
    """A session for requests to `url`. It uses the environment's network proxy, but not for this machine."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        trust_env=urlsplit(url).hostname not in LOCAL_HOSTS,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def explain(error: Exception, url: str) -> str:
    """Why `url` sent no response."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"cannot find the host of {url}"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"this machine does not trust the certificate of {url}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {url}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return f"{url} closed the connection without a response"
        case _:
            return f"{url} does not send valid HTTP ({type(error).__name__})"
