"""The line of the log that tells of a call."""

from __future__ import annotations

import logging

import pytest

from shared.metering import Meter, hashed
from shared.models import Credential, Usage


def test_a_call_is_one_record_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("shared.metering").info("usual")
    for number in range(2):
        Meter().count(f"id-{number}", Credential("e", "u"), "m", "d", 200, "finished", Usage(1, 2))
    usual, *records = caplog.records
    assert [record.getMessage() for record in records] == [
        f'call {{"request_id":"id-{number}","event":"{hashed("e")}","user":"{hashed("u")}","model":"m",'
        '"deployment":"d","status":200,"ending":"finished","prompt_tokens":1,"completion_tokens":2}'
        for number in range(2)
    ]
    for record in records:
        assert record.__dict__.keys() == usual.__dict__.keys()
        assert (record.name, record.levelname, record.module) == (usual.name, "INFO", "metering")
        assert usual.created <= record.created <= usual.created + 60
        assert usual.relativeCreated <= record.relativeCreated <= usual.relativeCreated + 60_000
        assert 0 <= record.msecs < 1000
