"""The local host's log: when its lines are written, and what stands in them."""

import asyncio
import io
import logging
import sys

from tools.functions_host.lines import SOON_SECONDS, Lines


def record(level: int, text: str, error: BaseException | None = None) -> logging.LogRecord:
    cause = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("here", level, __file__, 1, text, (), cause)


def written(stream: io.StringIO) -> list[str]:
    """Without the time of day."""
    return [line[24:] for line in stream.getvalue().splitlines()]


async def test_lines_wait_for_others_and_a_warning_for_none() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.handle(record(logging.INFO, "one"))
    lines.handle(record(logging.INFO, "two"))
    assert not written(stream)
    lines.handle(record(logging.WARNING, "three"))
    assert written(stream) == ["INFO here: one", "INFO here: two", "WARNING here: three"]
    lines.handle(record(logging.INFO, "four"))
    assert len(written(stream)) == 3
    await asyncio.sleep(SOON_SECONDS * 2)
    assert written(stream)[3:] == ["INFO here: four"]


def test_a_line_is_written_at_once_where_no_loop_runs() -> None:
    stream = io.StringIO()
    Lines(stream).handle(record(logging.INFO, "early"))
    assert written(stream) == ["INFO here: early"]


async def test_lines_of_another_thread_come_with_those_that_wait() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.handle(record(logging.INFO, "one"))
    await asyncio.to_thread(lines.handle, record(logging.INFO, "two"))
    lines.flush()
    assert written(stream) == ["INFO here: one", "INFO here: two"]


def test_a_failure_is_told_with_its_traceback() -> None:
    stream = io.StringIO()
    try:
        raise RuntimeError("the cause")
    except RuntimeError as error:
        Lines(stream).handle(record(logging.ERROR, "failed", error))
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR here: failed")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "RuntimeError: the cause"


def test_a_line_that_cannot_be_made_ends_nothing() -> None:
    stream, told, before = io.StringIO(), io.StringIO(), sys.stderr
    sys.stderr = told
    try:
        bad = record(logging.INFO, "%d")
        bad.args = ("no number",)
        Lines(stream).handle(bad)
    finally:
        sys.stderr = before
    assert "Logging error" in told.getvalue()
