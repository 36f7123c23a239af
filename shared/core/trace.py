"""The trace of a call. It connects the proxy's log line with Azure OpenAI's logs and Application Insights.

Source: W3C Trace Context, sections "traceparent Header" and "tracestate Header".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

_draw = Random().getrandbits  # noqa: S311 - ids are not secrets, and each instance has another seed
_valid = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_valid_state = re.compile(rb"[ -~]{1,512}").fullmatch
"""The specification requires 512 characters to be passed on. An upstream may refuse longer headers."""


Trace = Mapping[bytes, bytes]
"""The headers that carry a trace: names in lower case, values unchanged."""


def trace_headers(client: Mapping[bytes, bytes]) -> Trace:
    """The trace headers for the upstream: the client's own if they are valid and short, else new ones."""
    parent = client.get(b"traceparent")
    if parent is None or not _valid(parent):
        digits = _draw(192).to_bytes(24, "big").hex()
        return {b"traceparent": f"00-{digits[:32]}-{digits[32:]}-01".encode()}
    state = client.get(b"tracestate")
    if state is None or not _valid_state(state):
        return {b"traceparent": parent}
    return {b"traceparent": parent, b"tracestate": state}


def trace_id(trace: Trace) -> str:
    """The trace's id: 32 hexadecimal digits, the same in every log."""
    return trace[b"traceparent"][3:35].decode()
