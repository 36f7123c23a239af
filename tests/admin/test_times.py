"""Dates in every usual form. An ambiguous date is an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import times
from admin.errors import CommandError

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
def test_nine_o_clock_can_be_written_in_many_forms(text: str) -> None:
    assert times.parse(text, BERLIN) == NINE


@pytest.mark.parametrize("text", ["2026-12-01", "20261201", "1 Dec 2026", "2026/12/1"])
def test_a_date_without_a_time_includes_the_whole_day(text: str) -> None:
    assert times.parse(text, BERLIN) == datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert times.parse(text, BERLIN, is_end=True) == datetime(2026, 12, 1, 23, 0, tzinfo=UTC)


def test_the_day_when_summer_time_ends_has_25_hours() -> None:
    opens, closes = (times.parse("2026-10-25", BERLIN, is_end=is_end) for is_end in (False, True))
    assert closes - opens == timedelta(hours=25)


@pytest.mark.parametrize(
    ("zone", "day", "hours", "begins", "ends"),
    [
        (
            "Africa/Cairo",
            "2027-04-29",
            24,
            "2027-04-28T22:00",
            "2027-04-29T22:00",
        ),  # ends where midnight is skipped
        ("Africa/Cairo", "2027-04-30", 23, "2027-04-29T22:00", "2027-04-30T21:00"),
        (
            "Africa/Cairo",
            "2027-10-28",
            25,
            "2027-10-27T21:00",
            "2027-10-28T22:00",
        ),  # its last hour comes twice
        ("America/Santiago", "2027-09-04", 24, "2027-09-04T04:00", "2027-09-05T04:00"),
        ("America/Santiago", "2027-09-05", 23, "2027-09-05T04:00", "2027-09-06T03:00"),
        ("America/Santiago", "2027-04-03", 25, "2027-04-03T03:00", "2027-04-04T04:00"),
        ("America/Havana", "2027-03-14", 23, "2027-03-14T05:00", "2027-03-15T04:00"),
        ("America/Havana", "2027-11-07", 25, "2027-11-07T04:00", "2027-11-08T05:00"),  # midnight comes twice
        ("Atlantic/Azores", "2027-03-28", 23, "2027-03-28T01:00", "2027-03-29T00:00"),
        ("Atlantic/Azores", "2027-10-31", 25, "2027-10-31T00:00", "2027-11-01T01:00"),
        ("America/Scoresbysund", "2027-03-27", 23, "2027-03-27T02:00", "2027-03-28T01:00"),
    ],
)
def test_a_day_whose_midnight_is_skipped_or_comes_twice_has_a_beginning_and_an_end(
    zone: str, day: str, hours: int, begins: str, ends: str
) -> None:
    first, last = (times.parse(day, ZoneInfo(zone), is_end=is_end) for is_end in (False, True))
    assert [first, last] == [datetime.fromisoformat(at).replace(tzinfo=UTC) for at in (begins, ends)]
    assert last - first == timedelta(hours=hours)


def test_now_is_the_current_time() -> None:
    assert abs(times.parse("Now", BERLIN) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["13/12/2026", "12/13/2026", "12.12.2026"])
def test_numbers_that_can_only_be_one_day_are_accepted(text: str) -> None:
    assert times.parse(text, ZoneInfo("UTC")).month == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01/02/2026", "Write the year first: 2026-01-02 is 2 January"),
        ("1.2.2026 09:00", "1 February or 2 January"),
        ("3-4-2026", "3 April or 4 March"),
        ("01/02/26", "four digits"),
        ("1 Dec 26", "four digits"),
        ("December 2026", "is incomplete"),
        ("2026", "is incomplete"),
        ("10:00", "has no date"),
        ("soon", "four digits"),
        ("", "is empty"),
        ("2026-13-02", "is not a date"),
        ("2026-02-30", "is not a date"),
        ("2026-12-01 25:00", "is not a date"),
        ("in the year 2026", "is not a"),
        ("2026-12-01 09:00 CST", "'CST' is not a clear time zone"),
        ("2026-12-01 09:00 GMT+3", "is not a clear time zone"),
        ("1999-12-31", "in the year 1999"),
        ("9999-12-31", "in the year 9999"),
        ("2026-03-29 02:30", "the clocks go forward"),
        ("2026-10-25 02:30", "comes twice"),
        ("9" * 40, "four digits"),
    ],
)
def test_text_that_is_not_one_moment_is_an_error(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        times.parse(text, BERLIN)


def test_an_offset_chooses_between_the_hours_that_come_twice() -> None:
    first, second = (times.parse(f"2026-10-25 02:30{offset}", BERLIN) for offset in ("+02:00", "+01:00"))
    assert second - first == timedelta(hours=1)


@given(st.text(max_size=40), st.booleans())
def test_every_text_is_a_moment_or_an_error(text: str, is_end: bool) -> None:
    try:
        assert times.parse(text, BERLIN, is_end=is_end).tzinfo is UTC
    except CommandError as error:
        assert error.message.strip()


@given(st.datetimes(datetime(2000, 1, 2), datetime(2199, 12, 30)))
def test_a_formatted_time_can_be_parsed(at: datetime) -> None:
    expected = at.replace(second=0, microsecond=0, tzinfo=UTC)
    assert times.parse(times.format_local(expected, ZoneInfo("UTC")), ZoneInfo("UTC")) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Berlin", "Did you mean Europe/Berlin?"),
        ("new york", "Did you mean America/New_York?"),
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("Mars/Base", "Use a name such as"),
        ("", "Use a name such as"),
        ("../etc/passwd", "Use a name such as"),
        ("Europe", "Use a name such as"),
    ],
)
def test_an_unknown_zone_is_an_error_with_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        times.find_zone(name)


@pytest.mark.parametrize(
    "name",
    ["localtime", "Factory", "posixrules", "posix/Europe/Berlin", "right/UTC", "europe/berlin", "LOCALTIME"],
)
def test_a_zone_that_only_some_machines_know_is_an_error(name: str) -> None:
    with pytest.raises(CommandError, match=f"There is no time zone '{name}'"):
        times.find_zone(name)


def test_the_names_of_the_time_zone_database_are_zones() -> None:
    for name in ("UTC", "Europe/Kyiv", "Asia/Calcutta", "Etc/GMT+5", "CST6CDT"):
        assert times.find_zone(f" {name} ").key == name


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30m", timedelta(minutes=30)),
        ("1h", timedelta(hours=1)),
        ("90 min", timedelta(minutes=90)),
        ("2 Hours", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1h30m", timedelta(minutes=90)),
        ("1 day 2 hours", timedelta(hours=26)),
        ("2 weeks", timedelta(days=14)),
    ],
)
def test_a_length_of_time_counts_from_now(text: str, duration: timedelta) -> None:
    before = datetime.now(UTC)
    at = times.parse(f"+{text}", BERLIN)
    assert before - timedelta(seconds=1) <= at - duration <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["+", "+1", "+0h", "+-1h", "+1y", "+1h30", "+1h30x", "+1h,30m", "+999999d"])
def test_any_other_length_of_time_is_an_error(text: str) -> None:
    with pytest.raises(CommandError, match="not a length of time"):
        times.parse(text, BERLIN)


@pytest.mark.parametrize("text", ["18:00", "9am", "09:30", "noon"])
def test_a_time_alone_is_an_error_that_shows_how_to_add_the_day(text: str) -> None:
    with pytest.raises(CommandError, match=f"'{text}' has no date. Use one such as \"today {text}\""):
        times.parse(text, BERLIN)


def test_today_and_tomorrow_are_days_in_the_zone_of_the_event() -> None:
    zone = ZoneInfo("Pacific/Kiritimati")
    day = datetime.now(zone).date()
    assert times.parse("Today 18:00", zone).astimezone(zone).replace(tzinfo=None) == datetime.combine(
        day, time(18)
    )
    tomorrow = datetime.combine(day + timedelta(days=1), time(9, 30))
    assert times.parse("tomorrow at 9:30", zone).astimezone(zone).replace(tzinfo=None) == tomorrow
    yesterday = datetime.combine(day - timedelta(days=1), time())
    assert times.parse("yesterday", zone).astimezone(zone).replace(tzinfo=None) == yesterday
    end = times.parse("tomorrow", zone, is_end=True).astimezone(zone)
    assert end.replace(tzinfo=None) == datetime.combine(day + timedelta(days=2), time())


def test_the_midnight_at_the_end_of_a_day_is_shown_as_that_day() -> None:
    assert times.format_end(times.parse("2026-12-03", BERLIN, is_end=True), BERLIN) == "the end of 3 Dec 2026"
    assert times.format_end(times.parse("2026-12-03 18:00", BERLIN), BERLIN) == "3 Dec 2026, 18:00"
