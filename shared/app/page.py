"""The pages of attendees and organisers: each is one file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from ..functions.http import Response

_inline = {kind: re.compile(f"<{kind}>(.*?)</{kind}>", re.DOTALL) for kind in ("script", "style")}


@cache
def page(file: str) -> Response:
    """The page in this file. Its headers allow only its own script and style, and requests to this proxy."""
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hashes(text, 'script')}; style-src {_hashes(text, 'style')}"
    )
    headers = {
        b"content-type": b"text/html; charset=utf-8",
        b"content-security-policy": policy.encode(),
        b"referrer-policy": b"no-referrer",
        b"x-content-type-options": b"nosniff",
        b"cache-control": b"public, max-age=300",
    }
    return Response(200, headers, text.encode())


def _hashes(text: str, kind: str) -> str:
    """The hash of each `script` or `style` element ("Content Security Policy Level 3")."""
    digests = (hashlib.sha256(part.encode()).digest() for part in _inline[kind].findall(text))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
