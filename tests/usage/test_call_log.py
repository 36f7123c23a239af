"""The log of calls: one line of JSON for each call, several lines in a record."""

from __future__ import annotations

import json
import logging

import pytest

from shared.core.trace import Trace
from shared.usage.call_log import CallLog, LoggedCall
from tests.clock import until

TRACE = {b"traceparent": b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)}


def log(calls: CallLog, request_id: str, status: int = 200, model: str = "m") -> None:
    call = LoggedCall(
        request_id=request_id,
        trace_id="a" * 32,
        event="e",
        user="u",
        model=model,
        deployment="d",
        status=status,
        ending="finished",
        attempts=1,
        first_byte_ms=2,
        total_ms=4,
        prompt_tokens=1,
        completion_tokens=2,
    )
    calls.add(call, TRACE)


def ids(record: logging.LogRecord) -> list[str]:
    """The request ids in a record."""
    lines = record.getMessage().removeprefix("call ").splitlines()
    return [json.loads(line)["request_id"] for line in lines]


def records_of_calls(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Without those of other apps: one of an earlier test may still write its own."""
    return [
        record
        for record in caplog.records
        if record.getMessage().startswith("call {") and '"event":"e"' in record.getMessage()
    ]


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")


async def test_calls_that_end_together_share_a_record(caplog: pytest.LogCaptureFixture) -> None:
    calls = CallLog()
    for number in range(3):
        log(calls, f"id-{number}")
    assert records_of_calls(caplog) == []
    await until(lambda: bool(records_of_calls(caplog)))
    (record,) = records_of_calls(caplog)
    assert record.levelno == logging.INFO
    assert ids(record) == ["id-0", "id-1", "id-2"]
    log(calls, "id-3")
    await until(lambda: len(records_of_calls(caplog)) == 2)
    assert records_of_calls(caplog)[1].getMessage() == (
        f'call {{"request_id":"id-3","trace_id":"{"a" * 32}",'
        f'"event":"e","user":"u","model":"m","deployment":"d","status":200,'
        '"ending":"finished","attempts":1,"first_byte_ms":2,"total_ms":4,"prompt_tokens":1,"completion_tokens":2}'
    )


async def test_no_record_is_longer_than_application_insights_takes(caplog: pytest.LogCaptureFixture) -> None:
    calls = CallLog()
    for number in range(150):
        log(calls, f"{number:064}")
    calls.flush()
    assert [one for record in records_of_calls(caplog) for one in ids(record)] == [
        f"{number:064}" for number in range(150)
    ]
    assert max(len(message) for message in caplog.messages) < 32_768


async def test_a_failed_call_is_logged_at_once_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    calls = CallLog()
    log(calls, "fine")
    log(calls, "failed", status=502)
    assert [(record.levelno, ids(record)) for record in records_of_calls(caplog)] == [
        (logging.INFO, ["fine"]),
        (logging.WARNING, ["failed"]),
    ]


async def test_call_that_cannot_be_logged_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    calls = CallLog()
    for request_id, model in (("one", "m"), ("odd", "\ud800"), ("two", "m")):
        log(calls, request_id, model=model)
    log(calls, "odd-failure", 502, "\ud800")
    records = records_of_calls(caplog)
    assert [ids(record) for record in records] == [["one"], ["two"]]
    assert "call odd cannot be logged" in caplog.text
    assert "call odd-failure cannot be logged" in caplog.text


async def test_observer_that_raises_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def observe(_: LoggedCall, __: Trace) -> None:
        raise RuntimeError("can't start new thread")

    calls = CallLog(observe)
    log(calls, "one")
    calls.flush()
    assert ids(records_of_calls(caplog)[-1]) == ["one"]


async def test_refusals_are_counted_by_code_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = CallLog()
    for code in ("rate_limited", "invalid_json", "rate_limited"):
        log.count_refusal(code)
    log.close()
    log.close()
    assert caplog.messages == ['refused {"rate_limited":2,"invalid_json":1}']
