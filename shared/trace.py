"""The trace of a call, by which its line in the log, Azure's own and Application Insights are joined.

Source: W3C Trace Context, sections "traceparent Header" and "tracestate Header".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

_draw = Random().getrandbits  # noqa: S311 - ids, no secrets; seeded by the system, so that no two instances draw the same

_valid = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL
).fullmatch


def trace_headers(client: Mapping[bytes, bytes]) -> dict[str, str]:
    """The headers that carry the trace upstream: the client's own where they are valid, else new ones."""
    parent = client.get(b"traceparent")
    if parent is None or not _valid(parent):
        drawn = _draw(192).to_bytes(24).hex()
        return {"traceparent": f"00-{drawn[:32]}-{drawn[32:]}-01"}
    headers = {"traceparent": parent.decode("latin-1")}
    if (state := client.get(b"tracestate")) is not None:
        headers["tracestate"] = state.decode("latin-1")
    return headers


def trace_id(headers: Mapping[str, str]) -> str:
    """Of `trace_headers`: the 32 hexadecimal digits that all who take part have in common."""
    return headers["traceparent"][3:35]
