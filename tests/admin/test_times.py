"""Dates as people write them: in any usual form, and never guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import times
from admin.faults import Fault

BERLIN = ZoneInfo("Europe/Berlin")

NINE = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-01 09:00",
        "2026-12-01T09:00",
        "2026-12-01 9:00",
        "2026/12/01 09:00",
        "2026-12-01T08:00Z",
        "2026-12-01 08:00 UTC",
        "2026-12-01 13:30 +05:30",
        "1 December 2026, 9:00",
        "December 1, 2026 9am",
        "Tue 1 Dec 2026 09:00:00",
        "  2026-12-01   09:00 ",
    ],
)
def test_nine_o_clock_in_berlin_has_many_forms(text: str) -> None:
    assert times.moment(text, BERLIN) == NINE


@pytest.mark.parametrize("text", ["2026-12-01", "20261201", "1 Dec 2026", "2026/12/1"])
def test_a_date_alone_opens_with_its_first_minute_and_closes_with_its_last(text: str) -> None:
    assert times.moment(text, BERLIN) == datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert times.moment(text, BERLIN, closing=True) == datetime(2026, 12, 1, 23, 0, tzinfo=UTC)


def test_the_last_day_of_summer_time_is_an_hour_longer() -> None:
    opens, closes = (times.moment("2026-10-25", BERLIN, closing=closing) for closing in (False, True))
    assert closes - opens == timedelta(hours=25)


def test_now_is_now() -> None:
    assert abs(times.moment("Now", BERLIN) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["13/12/2026", "12/13/2026", "12.12.2026"])
def test_numbers_that_can_only_be_one_day_are_taken(text: str) -> None:
    assert times.moment(text, ZoneInfo("UTC")).month == 12


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("01/02/2026", "write the year first, such as 2026-01-02 for 2 January"),
        ("1.2.2026 09:00", "1 February and as 2 January"),
        ("3-4-2026", "3 April and as 4 March"),
        ("01/02/26", "four digits"),
        ("1 Dec 26", "four digits"),
        ("December 2026", "not a whole date"),
        ("2026", "not a whole date"),
        ("10:00", "four digits"),
        ("soon", "four digits"),
        ("", "is empty"),
        ("2026-13-02", "is not a date"),
        ("2026-02-30", "is not a date"),
        ("2026-12-01 25:00", "is not a date"),
        ("in the year 2026", "is not a"),
        ("2026-12-01 09:00 CST", "'CST' is not clear"),
        ("2026-12-01 09:00 GMT+3", "is not clear"),
        ("1999-12-31", "in the year 1999"),
        ("9999-12-31", "in the year 9999"),
        ("2026-03-29 02:30", "put forward"),
        ("2026-10-25 02:30", "comes twice"),
        ("9" * 40, "four digits"),
    ],
)
def test_what_is_no_one_moment_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(Fault, match=re.escape(told)):
        times.moment(text, BERLIN)


def test_the_hour_that_comes_twice_is_told_apart_by_its_offset() -> None:
    first, second = (times.moment(f"2026-10-25 02:30{offset}", BERLIN) for offset in ("+02:00", "+01:00"))
    assert second - first == timedelta(hours=1)


@given(st.text(max_size=40), st.booleans())
def test_no_text_is_more_than_refused(text: str, closing: bool) -> None:
    try:
        assert times.moment(text, BERLIN, closing=closing).tzinfo is UTC
    except Fault as fault:
        assert fault.message.strip()


@given(st.datetimes(datetime(2000, 1, 2), datetime(2199, 12, 30)))
def test_what_is_shown_is_understood_again(at: datetime) -> None:
    moment = at.replace(second=0, microsecond=0, tzinfo=UTC)
    assert times.moment(times.shown(moment, ZoneInfo("UTC")), ZoneInfo("UTC")) == moment


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Berlin", "did you mean Europe/Berlin?"),
        ("new york", "did you mean America/New_York?"),
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("Mars/Base", "name one such as"),
        ("", "name one such as"),
        ("../etc/passwd", "name one such as"),
        ("Europe", "name one such as"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_one_that_may_be_meant(name: str, told: str) -> None:
    with pytest.raises(Fault, match=re.escape(told)):
        times.zone(name)
