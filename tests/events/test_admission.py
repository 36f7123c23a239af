"""The times at which an event is open, and the messages when it is closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.core.errors import AttendeeBlocked, EventEnded, EventInactive, EventNotStarted, InvalidRequest
from shared.core.models import Event, Own
from shared.events.admission import admit, output_limit, with_own_limits

START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
END = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
EVENT = Event("demo", "Demo", START, END, organizer="Dave")
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "now", [START, START + INSTANT, END - INSTANT, START.astimezone(ZoneInfo("Asia/Tokyo"))]
)
def test_event_is_open_from_its_start_until_just_before_its_end(now: datetime) -> None:
    admit(EVENT, "amy", now)


@pytest.mark.parametrize("now", [START - INSTANT, START - timedelta(days=400)])
def test_event_is_closed_before_its_start(now: datetime) -> None:
    with pytest.raises(EventNotStarted) as caught:
        admit(EVENT, "amy", now)
    assert caught.value.message == "The event 'demo' starts on 28 Mar 2026, 22:30 UTC. Try again then."


@pytest.mark.parametrize("now", [END, END + INSTANT, END.astimezone(ZoneInfo("America/Lima"))])
def test_event_is_closed_from_its_end_on(now: datetime) -> None:
    with pytest.raises(EventEnded) as caught:
        admit(EVENT, "amy", now)
    assert caught.value.message == (
        "The event 'demo' ended on 29 Mar 2026, 12:00 UTC. Ask your organiser (Dave) to extend it."
    )


@pytest.mark.parametrize("now", [START - INSTANT, START, END])
def test_stopped_event_is_closed_at_any_time(now: datetime) -> None:
    with pytest.raises(EventInactive) as caught:
        admit(replace(EVENT, active=False), "amy", now)
    assert caught.value.message == "The event 'demo' is stopped. Ask your organiser (Dave) to resume it."


def test_messages_give_local_time_and_utc_across_a_change_to_summer_time() -> None:
    event = replace(EVENT, time_zone=ZoneInfo("Europe/Berlin"), organizer="")
    with pytest.raises(EventNotStarted, match=r"on 28 Mar 2026, 23:30 Europe/Berlin \(22:30 UTC\)\."):
        admit(event, "amy", START - INSTANT)
    with pytest.raises(EventEnded) as caught:
        admit(event, "amy", END)
    assert caught.value.message == (
        "The event 'demo' ended on 29 Mar 2026, 14:00 Europe/Berlin (12:00 UTC). "
        "Ask your organiser to extend it."
    )


def test_message_gives_both_dates_where_they_differ() -> None:
    event = replace(EVENT, time_zone=ZoneInfo("Asia/Tokyo"))
    with pytest.raises(
        EventNotStarted, match=r"on 29 Mar 2026, 07:30 Asia/Tokyo \(28 Mar 2026, 22:30 UTC\)\."
    ):
        admit(event, "amy", START - INSTANT)


def test_blocked_user_is_refused_and_others_are_not() -> None:
    event = replace(EVENT, exceptions={"amy": {"blocked": True}, "bob": {"blocked": False}})
    with pytest.raises(AttendeeBlocked) as caught:
        admit(event, "amy", START)
    assert caught.value.message == "Your organiser (Dave) has blocked 'amy' at this event. Talk to them."
    admit(event, "bob", START)
    admit(event, "cat", START)


def test_own_limits_take_the_place_of_the_limits_of_the_event() -> None:
    exceptions: dict[str, Own] = {"amy": {"tokens_per_day": 0, "colour": "blue"}, "bob": {"blocked": False}}
    event = replace(EVENT, requests_per_day=5, tokens_per_day=7, exceptions=exceptions)
    assert with_own_limits(event, "amy") == replace(event, tokens_per_day=0)
    assert with_own_limits(event, "bob") is with_own_limits(event, "cat") is event


@pytest.mark.parametrize(
    ("limit", "choices", "cap"), [(None, 5, None), (100, 1, 100), (100, 3, 33), (5, 5, 1)]
)
def test_all_choices_together_stay_within_the_output_limit(
    limit: int | None, choices: int, cap: int | None
) -> None:
    assert output_limit(replace(EVENT, max_output_tokens=limit), choices) == cap


@pytest.mark.parametrize(
    ("limit", "choices", "advice"),
    [(4, 5, "Send a smaller 'n'."), (0, 1, "Ask your organiser to raise the limit.")],
)
def test_more_choices_than_output_tokens_are_refused(limit: int, choices: int, advice: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        output_limit(replace(EVENT, max_output_tokens=limit), choices)
    assert caught.value.param == "n"
    assert caught.value.message == (
        f"This event allows {limit} output tokens for a request, and n={choices} needs at least {choices}. {advice}"
    )
