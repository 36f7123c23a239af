"""The desk over HTTP: what it shows, what it does, and whom it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.core.counts import Counts, Minute, UsageRow
from shared.core.models import Event
from shared.desk.keys import desk_key
from shared.desk.sums import minute_of
from shared.events.passes import pass_of
from shared.events.wrong_passes import AT_ONCE
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.standing import TOTAL_ROW
from tests.conftest import EVENT, MODEL, QUESTION, Stage
from tests.responses import WireResponse, response_of
from tools.azurite import Azurite
from tools.tap import TableTap

SECRET = "de5c"


async def add_event(stage: Stage, **changes: object) -> tuple[str, str]:
    """A new event: its code and its desk key."""
    code = await stage.add_event(desk_secret=SECRET, **changes)
    return code, desk_key(replace(EVENT, code=code, desk_secret=SECRET))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def look(stage: Stage, key: str) -> WireResponse:
    return await response_of(stage.http.get(f"{stage.url}/v1/desk", headers=bearer(key)))


async def act(stage: Stage, key: str, action: str, **order: object) -> WireResponse:
    return await response_of(stage.post(f"/v1/desk/{action}", headers=bearer(key), json=order))


async def row_of(stage: Stage, code: str) -> Event:
    event = await stage.tables.event(code)
    assert event is not None
    return event


def unit(shown: Any, name: str) -> Any:
    return next(one for one in shown["units"] if one["unit"] == name)


async def test_the_desk_shows_what_is_used_left_and_refused(stage: Stage) -> None:
    code, key = await add_event(stage, requests_total=10, requests_per_day=2)
    for _ in range(2):
        assert (await stage.chat(code, "amy")).status == 200
    for _ in range(3):
        assert (await stage.chat(code, "amy")).status == 429
    shown: Any = {}
    for _ in range(100):  # until both instances' rows are written
        async with stage.instance() as other:
            shown = (await look(other, key)).json
        if shown["recent"]["refusals"] == 3 and unit(shown, "requests")["used"] == 2:
            break
        await asyncio.sleep(0.1)
    assert shown["event"]["code"] == code and shown["event"]["state"] == "open"
    requests = unit(shown, "requests")
    assert (requests["used"], requests["limit"], requests["left"]) == (2, 10, 8)
    assert requests["runs_out_at"] == shown["runs_out"]["at"] and requests["per_minute"] > 0
    attendees = shown["attendees"]
    assert (attendees["active"], attendees["seen"]) == (1, 1)
    (stuck,) = attendees["stuck"]
    assert (stuck["user"], stuck["recent_refusals"], stuck["refused_for"]) == (
        "amy",
        3,
        "request_quota_exceeded",
    )
    assert [one["model"] for one in shown["models"]] == [MODEL]
    assert sum(point[0] for point in shown["chart"]["points"]) == 2
    assert MODEL in {one["model"] for one in shown["deployments"]}
    assert stage.simulator.url not in str(shown) and SECRET not in str(shown)


async def refused_for_their_pass(stage: Stage, key: str, count: int) -> Any:
    """What the desk shows of the attendees, once so many refusals are written."""
    shown: Any = {}
    for _ in range(100):
        await stage.web._open().tally.flush()
        async with stage.instance() as other:
            shown = (await look(other, key)).json
        if shown["recent"]["refusals"] == count:
            return shown["attendees"]
        await asyncio.sleep(0.1)
    raise AssertionError(shown)


async def test_an_attendee_with_a_wrong_pass_is_stuck_and_the_pass_is_not_shown(stage: Stage) -> None:
    code, key = await add_event(stage, access="claim", pass_secret="5ec2e7")
    event = await row_of(stage, code)
    right, wrong = pass_of(event, "amy.lee"), pass_of(event, "bob")
    for user in (f"amy.lee{wrong[3:]}", right[:-1], right.replace("amy.lee.", "amy.lee")):
        assert (await stage.chat(code, user)).status == 401
    for _ in range(3):
        assert (await stage.get("/v1/event", code, "cat")).status == 401, "the page asks whether to take it"
        assert (await stage.get("/v1/event", code, f"dan{wrong[3:]}")).status == 401
        assert (await stage.chat(code, "eve.adams")).status == 401
    shown = await refused_for_their_pass(stage, key, 9)
    stuck = {one["user"]: (one["recent_refusals"], one["refused_for"]) for one in shown["stuck"]}
    assert stuck == dict.fromkeys(("amy.lee", "dan", "eve.adams"), (3, "invalid_event_token"))
    assert (shown["seen"], shown["active"], shown["others_refused"]) == (0, 0, 0)
    assert (await stage.chat(code, right)).status == 200


async def test_invented_names_with_wrong_passes_fill_no_list(stage: Stage) -> None:
    code, key = await add_event(stage, access="roster", pass_secret="5ec2e7")
    for number in range(80):
        assert (await stage.chat(code, f"user-{number}.{'a' * 12}")).status == 401
    shown = await refused_for_their_pass(stage, key, 80)
    rows = await stage.tables.usage(code)
    assert len(rows) <= AT_ONCE + 2 and shown["others_refused"] >= 80 - AT_ONCE - 1
    assert shown["stuck"] == []


async def test_sums_of_closed_hours_and_of_this_one_are_added(stage: Stage) -> None:
    code, key = await add_event(stage)
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = [
        UsageRow(code, hour - timedelta(hours=ago), user, model, Counts(3, 10, 20, cost=500_000), minutes)
        for ago, minutes in ((0, {now.minute: Minute(3, 30)}), (2, {5: Minute(3, 30)}), (30, {}))
        for user in ("amy", "bob", "")
        for model in (MODEL, "gpt-4o")
    ]
    await stage.tables.write_usage(rows, "one")
    await stage.tables.write_usage(rows[:1], "two")
    shown: Any = (await look(stage, key)).json
    assert unit(shown, "requests")["used"] == 3 * 19 and unit(shown, "tokens")["used"] == 30 * 19
    assert unit(shown, "budget")["used"] == pytest.approx(9.5)
    assert (shown["attendees"]["seen"], shown["attendees"]["active"]) == (2, 2)
    chart = shown["chart"]
    assert sum(point[1] for point in chart["points"]) == 30 * 13 and len(chart["points"]) <= 90
    begins = minute_of(datetime.fromisoformat(chart["begins_at"]))
    assert begins <= minute_of(hour) - 115 < begins + chart["step_minutes"]


@pytest.mark.parametrize(("left", "is_used_up"), [(15, True), (16, False)])
async def test_a_budget_is_used_up_when_no_short_call_fits(stage: Stage, left: int, is_used_up: bool) -> None:
    price = Decimal("0.5")
    model = await stage.add_deployment(prompt_price=price, completion_price=price)
    code, key = await add_event(stage, models=(model,), cost_total=1000 + left)
    await stage.tables.write_ledger(Key(code, TOTAL_ROW), LedgerRow(Amount(cost=1000), Amount(cost=1000)))
    await stage.tables.write_usage(
        [UsageRow(code, datetime.now(UTC), "amy", model, Counts(cost=1000))], "one"
    )
    budget = unit((await look(stage, key)).json, "budget")
    assert (budget["left"], budget["is_used_up"]) == (left / 1_000_000, is_used_up)


@pytest.mark.parametrize("path", ["/v1/desk", "/api/v1/desk", "/v1/desk/stop", "/desk/stop"])
async def test_only_the_events_own_desk_key_is_accepted(stage: Stage, path: str) -> None:
    code, key = await add_event(stage)
    method = "POST" if path.endswith("stop") else "GET"
    refusals = set()
    for wrong in (
        {},
        {"api-key": key},
        {"api-key": f"{code}/amy"},
        bearer(f"{code}/amy"),
        bearer(key[:-1]),
        bearer(desk_key(replace(EVENT, code=code, desk_secret="old"))),
        bearer(desk_key(replace(EVENT, code="no-such-event", desk_secret=SECRET))),
    ):
        got = await response_of(stage.http.request(method, stage.url + path, headers=wrong))
        assert got.status == 401
        refusals.add(got.body)
    assert len(refusals) == 1
    assert (await row_of(stage, code)).active


@pytest.mark.parametrize("path", ["/v1/event", "/v1/models"])
async def test_the_desk_key_opens_no_attendees_route(stage: Stage, path: str) -> None:
    _, key = await add_event(stage)
    for headers in (bearer(key), {"api-key": key}, {"api-key": f"{key}/amy"}):
        assert (await response_of(stage.http.get(stage.url + path, headers=headers))).status == 401


async def test_an_action_takes_effect_says_when_everywhere_and_is_undone(stage: Stage) -> None:
    code, key = await add_event(stage)
    async with stage.instance(PROXY_CACHE_SECONDS="30") as cached:
        assert (await cached.chat(code)).status == 200
        stopped: Any = (await act(cached, key, "stop")).json
        assert stopped["changed"] and stopped["takes_effect_seconds"] == 30
        assert (await cached.chat(code)).json["error"]["code"] == "event_inactive"
        assert (await look(cached, key)).json["event"]["state"] == "stopped"
        again: Any = (await act(cached, key, "stop")).json
        assert not again["changed"] and again["undo"] is None
        undo = stopped["undo"]
        assert (await act(cached, key, undo.pop("action"), **undo)).status == 200
        assert (await cached.chat(code)).status == 200


async def test_actions_of_several_organisers_at_once_do_not_overwrite_one_another(stage: Stage) -> None:
    code, key = await add_event(stage, tokens_total=1000, ends_at=EVENT.ends_at)
    was = EVENT.ends_at.isoformat()
    async with stage.instance() as other:
        done = await asyncio.gather(
            act(stage, key, "raise", limit="tokens_total", to=2000),
            act(other, key, "stop"),
            *(act(desk, key, "extend", minutes=30, was=was) for desk in (stage, other)),
            *(act(desk, key, "block", user=f"user-{n}") for n, desk in enumerate((stage, other) * 2)),
        )
    assert {got.status for got in done} == {200}
    event = await row_of(stage, code)
    assert (event.tokens_total, event.active) == (2000, False)
    assert event.ends_at == EVENT.ends_at + timedelta(minutes=30)
    assert set(event.exceptions) == {f"user-{n}" for n in range(4)}


async def test_an_old_key_is_refused_at_once_although_the_event_is_cached(stage: Stage) -> None:
    code, key = await add_event(stage)
    async with stage.instance(PROXY_CACHE_SECONDS="30") as cached:
        assert (await cached.chat(code)).status == 200
        await stage.tables.change_event(code, lambda event: replace(event, desk_secret="new"))
        assert (await act(cached, key, "stop")).status == 401
        assert (await look(cached, key)).status == 401
    assert (await row_of(stage, code)).active


async def test_a_new_key_is_accepted_at_once_although_the_event_is_cached(stage: Stage) -> None:
    code, key = await add_event(stage)
    new = desk_key(replace(EVENT, code=code, desk_secret="new"))
    async with stage.instance(PROXY_CACHE_SECONDS="30") as cached:
        assert (await look(cached, key)).status == 200
        assert (await look(cached, new)).status == 401
        await stage.tables.put_event(replace(await row_of(stage, code), desk_secret="new"))
        assert [(await look(cached, one)).status for one in (new, key, new)] == [200, 401, 200]
        assert (await act(cached, new, "stop")).status == 200


async def test_actions_on_a_deleted_event_are_refused_and_make_no_new_row(stage: Stage) -> None:
    code, key = await add_event(stage)
    async with stage.instance(PROXY_CACHE_SECONDS="30") as cached:
        assert (await look(cached, key)).status == 200
        await stage.tables.delete_event(code)
        assert (await act(cached, key, "stop")).status == 401
    assert await stage.tables.event(code) is None


async def test_a_released_name_is_free_and_its_pass_is_void(stage: Stage) -> None:
    code, key = await add_event(stage, access="claim", pass_secret="9a55")
    await stage.tables.attendees.claim(code, "amy", None, datetime.now(UTC))
    user = pass_of(await row_of(stage, code), "amy")
    assert (await stage.chat(code, user)).status == 200
    assert (await act(stage, key, "block", user=f" {user.upper()} ")).json["undo"]["user"] == "amy"
    assert (await act(stage, key, "unblock", user="amy")).json["changed"]
    assert (await act(stage, key, "release", user=user)).json["changed"]
    assert await stage.tables.attendees.list(code) == []
    assert (await stage.chat(code, user)).status == 401
    again = await act(stage, key, "release", user="amy")
    assert (again.status, again.json["changed"]) == (200, False)
    assert (await row_of(stage, code)).exceptions == {"amy": {"pass_number": 1}}


async def test_a_wrong_order_changes_nothing(stage: Stage) -> None:
    code, key = await add_event(stage)
    before = await row_of(stage, code)
    assert (await act(stage, key, "extend", minutes=0)).status == 400
    assert (await act(stage, key, "explode")).status == 404
    assert (await act(stage, key, "extend", minutes=5, was="2020-01-01T00:00:00Z")).status == 409
    assert await row_of(stage, code) == before


async def test_many_lookers_cost_one_query_of_the_usage(stage: Stage, azurite: Azurite) -> None:
    code, key = await add_event(stage)
    async with (
        TableTap(azurite.port).open() as tap,
        stage.instance(PROXY_TABLES=tap.connection_string) as tapped,
    ):
        got = await asyncio.gather(*(look(tapped, key) for _ in range(10)))
        assert {one.status for one in got} == {200}
        assert tap.reads_of("/usage(") == 1 and tap.reads_of(":total") == 1
        before = len(tap.requests)
        async with tapped.post(headers={"api-key": f"{code}/amy"}, json=QUESTION) as response:
            assert response.status == 200
        assert not [line for line in tap.requests[before:] if line.startswith("GET") and "/usage" in line]


async def test_while_the_tables_do_not_respond_the_desk_says_so(cut_off: tuple[Stage, TableTap]) -> None:
    stage, _ = cut_off
    got = await look(stage, desk_key(replace(EVENT, desk_secret=SECRET)))
    assert (got.status, got.json["error"]["code"]) == (503, "store_unavailable")
