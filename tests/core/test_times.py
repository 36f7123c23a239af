"""The first moment of a day, in every time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.core.times import find_zone, first_moment, zone_names
from shared.quota.standing import day_of

SECOND = timedelta(seconds=1)


def test_each_day_of_a_year_begins_when_its_date_begins_in_every_zone() -> None:
    for name in zone_names():
        zone = ZoneInfo(name)
        for number in range(366):
            day = date(2026, 11, 1) + timedelta(days=number)
            begins_at = first_moment(day, zone)
            assert begins_at.astimezone(zone).date() == day, (name, day)
            assert (begins_at - SECOND).astimezone(zone).date() == day - timedelta(days=1), (name, day)


def test_a_skip_from_before_midnight_to_after_it_is_the_first_moment() -> None:
    """On 30 March 1919, the clocks in Toronto went from 23:30 to 0:30."""
    begins_at = first_moment(date(1919, 3, 31), ZoneInfo("America/Toronto"))
    assert begins_at == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)


def test_a_day_that_a_zone_skips_begins_with_the_next_day() -> None:
    zone = ZoneInfo("Pacific/Apia")
    assert first_moment(date(2011, 12, 30), zone) == first_moment(date(2011, 12, 31), zone)


@pytest.mark.parametrize("name", ["Africa/Cairo", "America/Santiago", "America/Havana", "Atlantic/Azores"])
def test_quota_days_follow_each_other_without_a_gap(name: str) -> None:
    zone, now = ZoneInfo(name), datetime(2027, 1, 1, 12, tzinfo=UTC)
    for _ in range(365):
        day = day_of(now, zone)
        assert day.name == now.astimezone(zone).date().isoformat()
        assert day.begins_at <= now < day.ends_at
        assert day_of(day.ends_at, zone).begins_at == day.ends_at
        assert day_of(day.ends_at - SECOND, zone) == day
        now = day.ends_at


@pytest.mark.parametrize("name", ["", "localtime", "Factory", "posix/UTC", "right/UTC", "../UTC", "utc"])
def test_other_names_than_those_of_the_database_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        find_zone(name)
