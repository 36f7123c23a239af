"""CORS as local.settings.json asks for it; preflights never reach the app."""

from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from .exchanges import send_answer
from .settings import CorsPolicy

Header = tuple[bytes, bytes]


def is_preflight(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


async def answer_preflight(policy: CorsPolicy, scope: Scope, send: Send) -> None:
    asked = Headers(scope=scope)
    allowed = _origin_headers(policy, asked["origin"])
    for name in ("method", "headers"):
        wanted = asked.get(f"access-control-request-{name}")
        if allowed and wanted is not None:
            plural = b"access-control-allow-" + (b"methods" if name == "method" else b"headers")
            allowed.append((plural, wanted.encode("latin-1")))
    await send_answer(send, 204, b"", *allowed)


def send_with_cors(policy: CorsPolicy, scope: Scope, send: Send) -> Send:
    """`send` itself when the request names no origin that is allowed."""
    added = _origin_headers(policy, Headers(scope=scope).get("origin", ""))

    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        return send(message)

    return send_with_headers if added else send


def _origin_headers(policy: CorsPolicy, origin: str) -> list[Header]:
    if not origin or not policy.allows(origin):
        return []
    if "*" in policy.origins and not policy.credentials:
        return [(b"access-control-allow-origin", b"*")]
    headers = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
    if policy.credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers
