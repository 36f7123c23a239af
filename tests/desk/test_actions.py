"""The desk's actions: each is a small change, harmless when it is repeated, and can be taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.core.errors import ChangedMeanwhile, InvalidJson, InvalidRequest, NotFound
from shared.core.models import MOST_EXCEPTIONS, Event
from shared.core.money import HIGHEST_BUDGET, MILLION
from shared.desk.actions import Done, find_action, read_order
from shared.events.passes import pass_of

NOW = datetime(2026, 12, 1, 15, 0, 30, tzinfo=UTC)
ENDS = datetime(2026, 12, 1, 18, tzinfo=UTC)
EVENT = Event(
    "winter",
    "Winter",
    NOW - timedelta(hours=5),
    ENDS,
    tokens_total=1000,
    cost_total=2_500_000,
    exceptions={"bob": {"tokens_per_day": 5}, "eve": {"blocked": True}},
)


def act(event: Event, action: str, **order: Any) -> Done:
    return find_action(action)(event, read_order(msgspec.json.encode(order)), NOW)


ORDERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("stop", {}, {"active": False}),
    ("extend", {"minutes": 30, "was": ENDS.isoformat()}, {"ends_at": ENDS + timedelta(minutes=30)}),
    ("extend", {"minutes": -60}, {"ends_at": ENDS - timedelta(hours=1)}),
    ("raise", {"limit": "tokens_total", "to": 1500, "was": 1000}, {"tokens_total": 1500}),
    ("raise", {"limit": "budget", "to": "3.000001", "was": 2.5}, {"cost_total": 3_000_001}),
    ("block", {"user": " Amy "}, {"exceptions": {**EVENT.exceptions, "amy": {"blocked": True}}}),
    (
        "block",
        {"user": "bob"},
        {"exceptions": {**EVENT.exceptions, "bob": {"tokens_per_day": 5, "blocked": True}}},
    ),
    ("unblock", {"user": "eve"}, {"exceptions": {"bob": {"tokens_per_day": 5}}}),
]


@pytest.mark.parametrize(("action", "order", "change"), ORDERS)
def test_an_action_changes_what_it_names_and_its_undo_takes_it_back(
    action: str, order: dict[str, Any], change: dict[str, Any]
) -> None:
    done = act(EVENT, action, **order)
    assert done.event == replace(EVENT, **change)
    assert done.undo is not None
    assert act(done.event, done.undo.pop("action"), **done.undo).event == EVENT


@pytest.mark.parametrize(
    ("action", "order"),
    [one[:2] for one in ORDERS if one[0] != "extend" or "was" in one[1]],
)
def test_an_action_that_is_repeated_changes_nothing_more(action: str, order: dict[str, Any]) -> None:
    once = act(EVENT, action, **order).event
    again = act(once, action, **order)
    assert again.event == once and again.undo is None


def test_resume_of_a_running_event_and_unblock_of_an_unblocked_user_change_nothing() -> None:
    for action, order in (("resume", {}), ("unblock", {"user": "zoe"})):
        assert act(EVENT, action, **order)[::2] == (EVENT, None)


def test_a_value_that_another_changed_meanwhile_is_not_overwritten() -> None:
    with pytest.raises(ChangedMeanwhile, match="1 Dec 2026, 18:00 UTC"):
        act(EVENT, "extend", minutes=30, was=(ENDS - timedelta(hours=2)).isoformat())
    with pytest.raises(ChangedMeanwhile, match="it is 1,000"):
        act(EVENT, "raise", limit="tokens_total", to=900, was=500)


@pytest.mark.parametrize("was", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00"])
def test_an_end_at_the_edge_of_the_calendar_is_not_what_it_is_now(was: str) -> None:
    for minutes in (30, -30):
        with pytest.raises(ChangedMeanwhile):
            act(EVENT, "extend", minutes=minutes, was=was)


def test_a_limit_of_0_is_raised_although_no_order_makes_it_0_again() -> None:
    closed = replace(EVENT, cost_total=0)
    done = act(closed, "raise", limit="budget", to=3, was=0)
    assert done.event.cost_total == 3_000_000 and done.has_changed and done.undo is None


def test_the_highest_budget_that_a_command_sets_can_be_raised_and_taken_back() -> None:
    large = replace(EVENT, cost_total=5_000_000_000_000, currency="KRW")
    done = act(large, "raise", limit="budget", to=HIGHEST_BUDGET, was="5000000.00")
    assert done.event.cost_total == HIGHEST_BUDGET * MILLION and done.undo is not None
    assert act(done.event, done.undo.pop("action"), **done.undo).event == large


def test_an_event_that_has_ended_is_extended_from_now_on() -> None:
    ended = replace(EVENT, ends_at=NOW - timedelta(hours=3))
    assert act(ended, "extend", minutes=30).event.ends_at == NOW.replace(second=0) + timedelta(minutes=30)


def test_extensions_end_a_year_from_now_or_from_the_start() -> None:
    event, month = EVENT, 31 * 24 * 60
    for _ in range(11):
        event = act(event, "extend", minutes=month).event
    with pytest.raises(InvalidRequest) as refused:
        act(event, "extend", minutes=month)
    assert refused.value.message == (
        "The event would end on 8 Dec 2027, 18:00 UTC. At the desk, it can end at most 366 days from now. "
        "For a later end, use `events update CODE --ends DATE`."
    )
    assert act(event, "extend", minutes=-month).event.ends_at == event.ends_at - timedelta(days=31)
    planned = replace(EVENT, starts_at=NOW + timedelta(days=800), ends_at=ENDS + timedelta(days=800))
    assert act(planned, "extend", minutes=month).event.ends_at == planned.ends_at + timedelta(days=31)
    with pytest.raises(InvalidRequest, match="366 days after its start"):
        act(replace(planned, ends_at=ENDS + timedelta(days=1166)), "extend", minutes=month)


@pytest.mark.parametrize(
    ("action", "order", "param"),
    [
        ("extend", {}, "minutes"),
        ("extend", {"minutes": 0}, "minutes"),
        ("extend", {"minutes": 10**12}, "minutes"),
        ("extend", {"minutes": -(10**30)}, "minutes"),
        ("extend", {"minutes": -600}, "minutes"),
        ("extend", {"minutes": 5, "was": "noon"}, "was"),
        ("extend", {"minutes": 5, "was": "2026-12-01T18:00"}, "was"),
        ("raise", {"to": 5}, "limit"),
        ("raise", {"limit": "seats", "to": 5}, "limit"),
        ("raise", {"limit": "requests_total", "to": 5}, "limit"),
        ("raise", {"limit": "tokens_total"}, "to"),
        ("raise", {"limit": "tokens_total", "to": 999}, "to"),
        ("raise", {"limit": "tokens_total", "to": 1000.5}, "to"),
        ("raise", {"limit": "tokens_total", "to": "NaN"}, "to"),
        ("raise", {"limit": "tokens_total", "to": "Infinity"}, "to"),
        ("raise", {"limit": "tokens_total", "to": 10**13}, "to"),
        ("raise", {"limit": "budget", "to": "2.5000001"}, "to"),
        ("raise", {"limit": "budget", "to": -3}, "to"),
        ("raise", {"limit": "budget", "to": 0, "was": 2.5}, "to"),
        ("raise", {"limit": "budget", "to": "1e999999"}, "to"),
        ("raise", {"limit": "budget", "to": 3, "was": "-1e999999"}, "was"),
        ("block", {}, "user"),
        ("block", {"user": "<b>"}, "user"),
        ("stop", {"reason": "no such member"}, "reason"),
        ("extend", {"minutes": "5"}, "minutes"),
    ],
)
def test_a_wrong_order_is_refused(action: str, order: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        act(EVENT, action, **order)
    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"user": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises((InvalidJson, InvalidRequest)):
        read_order(body)
    assert read_order(b"") == read_order(b"{}")


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(NotFound, match="stop, resume, extend"):
        find_action("delete")


def test_release_makes_the_pass_void_and_needs_an_event_with_passes() -> None:
    event = replace(EVENT, access="claim", pass_secret="9a55")
    done = act(event, "release", user="bob")
    assert done.event.exceptions["bob"] == {"tokens_per_day": 5, "pass_number": 1} and done.undo is None
    assert pass_of(done.event, "bob") != pass_of(event, "bob")
    with pytest.raises(InvalidRequest):
        act(EVENT, "release", user="bob")


def test_only_so_many_attendees_can_be_blocked() -> None:
    crowded = replace(
        EVENT, exceptions={f"user-{n:04}": {"blocked": True} for n in range(MOST_EXCEPTIONS // 29)}
    )
    with pytest.raises(InvalidRequest):
        act(crowded, "block", user="one-more")
