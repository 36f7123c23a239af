"""Who may come in when, and with which model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.core.errors import (
    EventEnded,
    EventInactive,
    EventNotStarted,
    InvalidEventToken,
    InvalidRequest,
    ModelNotFound,
    StoreUnavailable,
)
from shared.core.models import Event
from shared.events.events import Events, admit, choose_model, models

START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
END = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
EVENT = Event("demo", "Demo", START, END, organizer="Dave")
INSTANT = timedelta(microseconds=1)
DEPLOYED = frozenset({"gpt-4o", "gpt-4o-mini", "o3"})


class Store:
    def __init__(self, *events: Event) -> None:
        self.events = {event.code: event for event in events}
        self.down = False

    async def event(self, code: str) -> Event | None:
        if self.down:
            raise StoreUnavailable
        return self.events.get(code)


@pytest.mark.parametrize("now", [START, START + INSTANT, END - INSTANT])
def test_an_event_is_open_from_its_first_instant_to_just_before_its_last(now: datetime) -> None:
    admit(EVENT, now)


@pytest.mark.parametrize("now", [START - INSTANT, START - timedelta(days=400)])
def test_before_its_start_an_event_is_not_open(now: datetime) -> None:
    with pytest.raises(EventNotStarted) as caught:
        admit(EVENT, now)
    assert caught.value.message == "The event 'demo' opens at 2026-03-28 22:30 UTC. Try again then."


@pytest.mark.parametrize("now", [END, END + INSTANT])
def test_from_its_end_on_an_event_is_closed(now: datetime) -> None:
    with pytest.raises(EventEnded) as caught:
        admit(EVENT, now)
    assert caught.value.message == (
        "The event 'demo' ended at 2026-03-29 12:00 UTC. Ask your organiser (Dave) if you need more time."
    )


@pytest.mark.parametrize("now", [START - INSTANT, START, END])
def test_a_stopped_event_is_stopped_at_any_time(now: datetime) -> None:
    with pytest.raises(EventInactive) as caught:
        admit(replace(EVENT, active=False), now)
    assert caught.value.message == "The event 'demo' has been stopped. Ask your organiser (Dave)."


def test_times_are_told_in_utc_and_in_the_events_zone_over_a_change_of_clocks() -> None:
    event = replace(EVENT, time_zone=ZoneInfo("Europe/Berlin"), organizer="")
    with pytest.raises(EventNotStarted, match=r"2026-03-28 22:30 UTC \(2026-03-28 23:30 Europe/Berlin\)\."):
        admit(event, START - INSTANT)
    with pytest.raises(EventEnded) as caught:
        admit(event, END)
    assert caught.value.message == (
        "The event 'demo' ended at 2026-03-29 12:00 UTC (2026-03-29 14:00 Europe/Berlin). "
        "Ask your organiser if you need more time."
    )


def test_a_time_in_another_zone_is_compared_as_the_same_instant() -> None:
    admit(EVENT, START.astimezone(ZoneInfo("Asia/Tokyo")))
    with pytest.raises(EventEnded):
        admit(EVENT, END.astimezone(ZoneInfo("America/Lima")))


def test_an_event_without_models_may_use_all_that_is_deployed_in_order_of_name() -> None:
    assert models(EVENT, DEPLOYED) == ["gpt-4o", "gpt-4o-mini", "o3"]


def test_an_events_models_are_those_deployed_in_the_events_order() -> None:
    event = replace(EVENT, models=("o3", "gone", "gpt-4o"))
    assert models(event, DEPLOYED) == ["o3", "gpt-4o"]


@pytest.mark.parametrize(
    ("event", "asked", "chosen"),
    [
        (EVENT, "o3", "o3"),
        (replace(EVENT, default_model="gpt-4o"), "o3", "o3"),
        (replace(EVENT, default_model="gpt-4o"), None, "gpt-4o"),
        (replace(EVENT, default_model="gpt-4o"), "", "gpt-4o"),
        (replace(EVENT, models=("o3",)), None, "o3"),
        (replace(EVENT, models=("o3", "gone")), None, "o3"),
    ],
)
def test_the_model_is_the_one_asked_for_else_the_default_else_the_only_one(
    event: Event, asked: str | None, chosen: str
) -> None:
    assert choose_model(event, asked, DEPLOYED) == chosen


@pytest.mark.parametrize("asked", [None, ""])
def test_where_no_model_is_the_obvious_one_it_must_be_named(asked: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose_model(EVENT, asked, DEPLOYED)
    assert (caught.value.message, caught.value.param) == ("Name a model: gpt-4o, gpt-4o-mini, o3.", "model")


@pytest.mark.parametrize("asked", ["gpt-4o", "gpt-5", "O3", "o3 "])
def test_a_model_that_the_event_may_not_use_is_not_found_and_those_it_may_are_told(asked: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_model(replace(EVENT, models=("o3", "gpt-4o-mini")), asked, DEPLOYED)
    assert caught.value.message == f"This event has no model {asked!r}. It may use: o3, gpt-4o-mini."
    assert caught.value.param == "model"


def test_a_default_that_is_not_deployed_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        choose_model(replace(EVENT, default_model="gone"), None, DEPLOYED)


def test_where_nothing_is_deployed_the_organiser_is_to_be_asked() -> None:
    with pytest.raises(ModelNotFound, match="none yet; ask your organiser"):
        choose_model(EVENT, "o3", frozenset())
    with pytest.raises(InvalidRequest, match="none yet; ask your organiser"):
        choose_model(EVENT, None, frozenset())


def test_a_long_or_odd_model_name_is_cut_and_quoted_in_the_message() -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_model(EVENT, "\n\x1b" + "x" * 10_000, DEPLOYED)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


async def test_an_event_is_found_whether_it_is_open_or_not() -> None:
    closed = replace(EVENT, active=False)
    assert await Events(Store(closed), 30, lambda: 0.0).find("demo") is closed


async def test_an_unknown_event_is_told_as_a_wrong_credential() -> None:
    with pytest.raises(InvalidEventToken):
        await Events(Store(), 30, lambda: 0.0).find("demo")


async def test_an_outage_is_never_told_as_a_wrong_credential() -> None:
    store = Store(EVENT)
    store.down = True
    with pytest.raises(StoreUnavailable):
        await Events(store, 30, lambda: 0.0).find("demo")
