"""The log of calls: one line of JSON for each call, several lines in a record."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from shared.core.hashing import hashed
from shared.core.models import Credential, Usage
from shared.usage.call_log import LOG_SECONDS, Meter

TRACE = {b"traceparent": b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)}


def count(meter: Meter, request_id: str, status: int = 200) -> None:
    usage = Usage(1, 2)
    meter.count(request_id, TRACE, Credential("e", "u"), "m", "d", status, "finished", 1, (2.4, 3.6), usage)


def ids(record: logging.LogRecord) -> list[str]:
    """The request ids in a record."""
    lines = record.getMessage().removeprefix("call ").splitlines()
    return [json.loads(line)["request_id"] for line in lines]


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")


async def test_calls_that_end_at_about_the_same_time_share_a_record(caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter()
    for number in range(3):
        count(meter, f"id-{number}")
    assert caplog.records == []
    await asyncio.sleep(LOG_SECONDS * 2)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert ids(record) == ["id-0", "id-1", "id-2"]
    count(meter, "id-3")
    await asyncio.sleep(LOG_SECONDS * 2)
    assert caplog.messages[1] == (
        f'call {{"request_id":"id-3","trace_id":"{"a" * 32}",'
        f'"event":"{hashed("e")}","user":"{hashed("u")}","model":"m","deployment":"d","status":200,'
        '"ending":"finished","attempts":1,"first_byte_ms":2,"total_ms":4,"prompt_tokens":1,"completion_tokens":2}'
    )


async def test_a_record_fits_into_application_insights(caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter()
    for number in range(150):
        count(meter, f"{number:064}")
    meter.flush()
    assert [one for record in caplog.records for one in ids(record)] == [
        f"{number:064}" for number in range(150)
    ]
    assert max(len(message) for message in caplog.messages) < 32_768


async def test_a_failed_call_is_logged_at_once_as_a_separate_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter = Meter()
    count(meter, "fine")
    count(meter, "failed", status=502)
    assert [(record.levelno, ids(record)) for record in caplog.records] == [
        (logging.INFO, ["fine"]),
        (logging.WARNING, ["failed"]),
    ]
