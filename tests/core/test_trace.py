"""The trace headers that go upstream."""

from __future__ import annotations

import pytest

from shared.core.trace import trace_headers

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("state", [b"", b"a=\xe9", b"a=\x00", b"a=\x7f", b"a=\r\nb", b"a=" + b"x" * 40_000])
def test_a_tracestate_that_an_upstream_may_refuse_is_left_out(state: bytes) -> None:
    assert trace_headers({b"traceparent": PARENT, b"tracestate": state}) == {b"traceparent": PARENT}
