"""The line of the log that tells of a call."""

from __future__ import annotations

import logging

import pytest

from shared.metering import Meter, hashed
from shared.models import Credential, Usage


def test_a_call_is_one_record_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("shared.metering").info("usual")
    trace = {b"traceparent": b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)}
    who, usage = Credential("e", "u"), Usage(1, 2)
    for number in range(2):
        Meter().count(f"id-{number}", trace, who, "m", "d", 200, "finished", 1, (2.4, 3.6), usage)
    usual, *records = caplog.records
    assert [record.getMessage() for record in records] == [
        f'call {{"request_id":"id-{number}","trace_id":"{"a" * 32}",'
        f'"event":"{hashed("e")}","user":"{hashed("u")}","model":"m","deployment":"d","status":200,'
        '"ending":"finished","attempts":1,"first_byte_ms":2,"total_ms":4,"prompt_tokens":1,"completion_tokens":2}'
        for number in range(2)
    ]
    for record in records:
        assert record.__dict__.keys() == usual.__dict__.keys()
        assert (record.name, record.levelname, record.module) == (usual.name, "INFO", "metering")
        assert usual.created <= record.created <= usual.created + 60
        assert usual.relativeCreated <= record.relativeCreated <= usual.relativeCreated + 60_000
        assert 0 <= record.msecs < 1000


def test_a_call_that_failed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    trace = {b"traceparent": b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)}
    Meter().count("id", trace, Credential("e", "u"), "m", "d", 502, "cut", 1, (None, 1.0), Usage())
    (record,) = caplog.records
    assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")
