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


Trace = Mapping[bytes, bytes]
"""The headers that carry a trace, names in lower case, values as they came."""


def trace_headers(client: Mapping[bytes, bytes]) -> Trace:
    """The headers that carry the trace upstream: the client's own where they are valid, else new ones."""
    parent = client.get(b"traceparent")
    if parent is None or not _valid(parent):
        return {b"traceparent": b"00-%032x-%016x-01" % (_draw(128), _draw(64))}
    state = client.get(b"tracestate")
    return {b"traceparent": parent} if state is None else {b"traceparent": parent, b"tracestate": state}


def trace_id(trace: Trace) -> str:
    """The 32 hexadecimal digits that all who take part have in common."""
    return trace[b"traceparent"][3:35].decode()
