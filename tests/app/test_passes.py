"""Events whose names belong to people, and exceptions for single attendees, in the running app."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from shared.app.claims import AT_ONCE, PER_SECOND, Claims
from shared.core.errors import ProxyError
from shared.core.models import Event
from shared.events.lookup import Events
from shared.events.passes import pass_of, tag_of
from shared.quota.ledger_row import Key
from tests.clock import Clock
from tests.conftest import Stage
from tests.responses import WireResponse, response_of
from tools.tap import TableTap

SECRET = "5ec2e7"


async def add(stage: Stage, access: str, **changes: object) -> Event:
    code = await stage.add_event(access=access, pass_secret=SECRET, **changes)
    event = await stage.tables.event(code)
    assert event is not None
    return event


def refusal(response: WireResponse) -> tuple[int, str]:
    return response.status, response.error["code"]


@pytest.mark.parametrize("access", ["claim", "roster"])
async def test_only_the_pass_of_a_name_spends_reads_and_sees_its_quota(stage: Stage, access: str) -> None:
    event = await add(stage, access, requests_per_day=5)
    key = pass_of(event, "amy.lee")
    assert (await stage.chat(event.code, key)).status == 200
    mine = (await stage.get("/v1/event", event.code, key)).json
    assert (mine["user"], mine["requests"]["used"]) == ("amy.lee", 1)
    calls = len(stage.simulator.calls)
    tag = tag_of(SECRET, "amy.lee")
    for user in ("amy.lee", f"bob.{tag}", f"amy.{tag}", f"amy.lee.{tag[::-1]}", f"amy.lee.{tag}x"):
        for path in ("/v1/event", "/v1/models", "/v1/responses/resp_1"):
            assert refusal(await stage.get(path, event.code, user)) == (401, "invalid_event_token")
        assert refusal(await stage.chat(event.code, user)) == (401, "invalid_event_token")
    assert len(stage.simulator.calls) == calls
    assert (await stage.get("/v1/event", event.code, key)).json["requests"]["used"] == 1


async def test_wrong_tag_does_not_tell_whether_a_user_has_started_or_is_blocked(stage: Stage) -> None:
    event = await add(stage, "roster", exceptions={"amy": {"blocked": True}})
    bodies = {(await stage.chat(event.code, f"{name}.x")).body for name in ("amy", "bob")}
    assert len(bodies) == 1


async def test_name_with_a_dot_of_an_open_event_needs_a_pass_once_the_event_has_passes(stage: Stage) -> None:
    event = await add(stage, "open")
    assert (await stage.get("/v1/event", event.code, "amy.lee")).json["user"] == "amy.lee"
    assert (await stage.get("/v1/event", event.code, "u." + "x" * 63)).status == 401  # 65 characters
    await stage.tables.put_event(replace(event, access="claim"))
    assert refusal(await stage.chat(event.code, "amy.lee")) == (401, "invalid_event_token")


@pytest.mark.parametrize("user", ["amy.lee", "a" * 64])
async def test_pass_is_that_of_its_name_when_the_event_is_open_again(stage: Stage, user: str) -> None:
    """Otherwise its holder had another quota and no block, and reports showed the pass as a name."""
    event = await add(stage, "claim", requests_per_day=5, exceptions={"bob": {"blocked": True}})
    key = pass_of(event, user)
    assert (await stage.chat(event.code, key)).status == 200
    await stage.tables.put_event(replace(event, access="open"))
    assert (await stage.chat(event.code, key)).status == 200
    shown = (await stage.get("/v1/event", event.code, user)).json
    assert (shown["user"], shown["requests"]["used"]) == (user, 2)
    assert refusal(await stage.chat(event.code, pass_of(event, "bob"))) == (403, "attendee_blocked")
    other = f"bob.{tag_of(SECRET, user)}"
    assert (await stage.get("/v1/event", event.code, other)).json["user"] == other


async def test_passes_and_exceptions_cost_no_table_call(stage: Stage) -> None:
    """A refused tag too."""
    exceptions = {f"user-{n}": {"requests_per_day": n, "blocked": False} for n in range(400)}
    event = await add(stage, "claim", exceptions=exceptions | {"amy": {"requests_per_day": 10**6}})
    port = int(stage.environment["PROXY_TABLES"].split("TableEndpoint=http://127.0.0.1:")[1].split("/")[0])
    async with (
        TableTap(port).open() as tap,
        stage.instance(PROXY_TABLES=tap.connection_string, PROXY_CACHE_SECONDS="600") as instance,
    ):
        assert (await instance.chat(event.code, pass_of(event, "amy"))).status == 200
        before = len(tap.requests)
        for _ in range(5):
            assert (await instance.chat(event.code, pass_of(event, "amy"))).status == 200
        for number in range(50):
            assert (await instance.chat(event.code, f"amy.{number}")).status == 401
        reads = [line for line in tap.requests[before:] if "events" in line or "attendees" in line]
        assert not reads


async def test_blocked_attendee_is_refused_while_others_continue(stage: Stage) -> None:
    event = await add(stage, "open", exceptions={"amy": {"blocked": True}}, organizer="Dave")
    response = await stage.chat(event.code, "amy")
    assert refusal(response) == (403, "attendee_blocked")
    assert "Dave" in response.error["message"]
    assert (await stage.get("/v1/event", event.code, "amy")).json["blocked"] is True
    assert (await stage.get("/v1/models", event.code, "amy")).status == 403
    assert (await stage.chat(event.code, "bob")).status == 200
    await stage.tables.put_event(replace(event, exceptions={}))
    assert (await stage.chat(event.code, "amy")).status == 200


async def test_own_limits_are_exact_and_shown(stage: Stage) -> None:
    exceptions = {
        "amy": {"requests_per_day": 3},
        "bob": {"requests_per_day": 0},
        "cat": {"tokens_per_day": 9},
    }
    event = await add(stage, "open", requests_per_day=1, exceptions=exceptions)
    calls = [stage.chat(event.code, "amy") for _ in range(4)]
    assert sorted([response.status for response in await asyncio.gather(*calls)]) == [200, 200, 200, 429]
    assert (await stage.get("/v1/event", event.code, "amy")).json["requests"]["limit"] == 3
    assert refusal(await stage.chat(event.code, "bob")) == (429, "request_quota_exceeded")
    assert refusal(await stage.chat(event.code, "cat")) == (429, "token_quota_exceeded")
    assert [(await stage.chat(event.code, "dan")).status for _ in range(2)] == [200, 429]


async def test_event_under_a_new_code_keeps_its_quotas(stage: Stage) -> None:
    event = await add(stage, "claim", requests_per_day=2, requests_total=3)
    key = pass_of(event, "amy")
    assert (await stage.chat(event.code, key)).status == 200
    renamed = replace(event, code=f"{event.code}-new", first_code=event.code)
    await stage.tables.put_event(renamed)
    assert (await stage.chat(renamed.code, key)).status == 200
    assert refusal(await stage.chat(renamed.code, key)) == (429, "request_quota_exceeded")
    assert (await stage.chat(renamed.code, pass_of(event, "bob"))).status == 200
    assert refusal(await stage.chat(renamed.code, pass_of(event, "cat"))) == (429, "event_quota_exceeded")
    await stage.web._open().quota.sweep(everything=True)
    assert (await stage.tables.read_ledger(Key(event.code, ":total"))).used.requests == 3


async def test_wrong_tags_take_no_memory_and_leave_the_others_alone(stage: Stage) -> None:
    event = await add(stage, "claim")
    wiring = stage.web._open()
    for number in range(100):
        assert (await stage.get("/v1/event", event.code, f"amy.{number}")).status == 401
    assert (await stage.chat(event.code, pass_of(event, "bob"))).status == 200  # no newcomer was counted
    assert not any(
        credential.user.startswith("amy") and credential.event_code == event.code
        for credential in wiring.proxy._calls._events._newcomers._recent
    )


async def claim(stage: Stage, event: str, user: object, **options: object) -> WireResponse:
    options = options or {"json": {"event_code": event, "user": user}}
    return await response_of(stage.post("/v1/event/claim", headers={}, **options))


async def test_claimed_pass_works_at_once_and_is_given_out_once(stage: Stage) -> None:
    event = await add(stage, "claim", requests_per_day=5, organizer="Dave")
    got = await claim(stage, event.code.upper(), " Amy.Lee ")
    assert (got.status, got.headers["cache-control"]) == (200, "no-store")
    assert got.json == {
        "object": "event.claim",
        "event_code": event.code,
        "user": "amy.lee",
        "api_key": f"{event.code}/{pass_of(event, 'amy.lee')}",
    }
    assert (await stage.chat(event.code, got.json["api_key"].partition("/")[2])).status == 200
    again = await claim(stage, event.code, "amy.lee")
    assert refusal(again) == (409, "name_taken")
    assert "ask your organiser (Dave) to release it" in again.error["message"]


@pytest.mark.parametrize(
    "user", ["amy.5vjmz4rm6q2k", "amy.0vjmz4rm6q2", "o.k.5vjmz4rm6q2kab", "ann.b2bbbbbbbbbb"]
)
async def test_a_mistyped_pass_is_no_new_name(stage: Stage, user: str) -> None:
    event = await add(stage, "claim")
    refused = await claim(stage, event.code, user)
    assert (*refusal(refused), refused.error["param"]) == (400, "invalid_request", "user")
    assert "looks like a name with a pass" in refused.error["message"]
    assert await stage.tables.attendees.list(event.code) == []


async def test_a_pass_without_digits_is_no_new_name_if_its_name_is_taken(stage: Stage) -> None:
    event = await add(stage, "claim", organizer="Dave")
    assert (await claim(stage, event.code, "amy")).status == 200
    refused = await claim(stage, event.code, "amy.abcdefghijkl")
    assert refusal(refused) == (409, "name_taken")
    assert refused.error["message"] == (
        "The name 'amy' is taken, and 'amy.abcdefghijkl' looks like its pass. If it is your pass, check each "
        "character, or ask your organiser (Dave). If it is your name, write '-' in place of the last dot."
    )
    assert (await claim(stage, event.code, "amy-abcdefghijkl")).status == 200
    assert (await claim(stage, event.code, "amy.lee")).status == 200


@pytest.mark.parametrize(
    "user", ["john.featherstone", "anna.mueller1987", "a.b", "4.2", "ann@smith.construction", "o.k2"]
)
async def test_a_real_name_with_a_dot_can_be_taken(stage: Stage, user: str) -> None:
    event = await add(stage, "claim")
    assert (await claim(stage, event.code, user)).status == 200


async def test_name_that_two_people_claim_at_once_on_two_instances_goes_to_one(stage: Stage) -> None:
    event = await add(stage, "claim", seats=5)
    async with stage.instance() as other:
        calls = [claim(one, event.code, user) for user in ("amy", "bob", "cat") for one in (stage, other) * 3]
        got = await asyncio.gather(*calls)
    assert sorted(response.status for response in got) == [200] * 3 + [409] * 15
    assert len({response.json["user"] for response in got if response.status == 200}) == 3


async def test_event_gives_out_no_more_names_than_it_has_seats(stage: Stage) -> None:
    event = await add(stage, "claim", seats=2)
    got = await asyncio.gather(*(claim(stage, event.code, f"user-{number}") for number in range(5)))
    assert sorted(response.status for response in got) == [200, 200, 409, 409, 409]
    assert refusal(await claim(stage, event.code, "late")) == (409, "no_seats_left")


async def test_claims_of_one_event_are_limited_in_rate(stage: Stage) -> None:
    event, clock = await add(stage, "claim", seats=0), Clock()
    events = Events(stage.tables, 0, clock)
    claims = Claims(events, stage.tables.attendees, partial(datetime.now, UTC), clock)

    async def outcome() -> str:
        with pytest.raises(ProxyError) as refused:
            await claims.serve(json.dumps({"event_code": event.code, "user": "amy"}).encode())
        return refused.value.code

    for allowed in (AT_ONCE, PER_SECOND):
        outcomes = Counter(await asyncio.gather(*(outcome() for _ in range(allowed + 40))))
        assert outcomes == {"no_seats_left": allowed, "rate_limited": 40}
        clock.seconds += 1


@pytest.mark.parametrize(
    ("access", "changes", "expected"),
    [
        ("open", {}, (400, "invalid_request")),
        ("roster", {}, (400, "invalid_request")),
        ("claim", {"active": False}, (403, "event_inactive")),
        ("claim", {"ends_at": datetime(2020, 1, 2, tzinfo=UTC)}, (403, "event_ended")),
        ("claim", {"exceptions": {"amy": {"blocked": True}}}, (403, "attendee_blocked")),
    ],
)
async def test_claim_is_refused(
    stage: Stage, access: str, changes: dict[str, object], expected: tuple[int, str]
) -> None:
    event = await add(stage, access, **({"starts_at": datetime(2020, 1, 1, tzinfo=UTC)} | changes))
    assert refusal(await claim(stage, event.code, "amy")) == expected


async def test_name_can_be_claimed_before_the_event_starts(stage: Stage) -> None:
    event = await add(
        stage, "claim", starts_at=datetime(2099, 1, 1, tzinfo=UTC), ends_at=datetime(2099, 2, 1, tzinfo=UTC)
    )
    assert (await claim(stage, event.code, "amy")).status == 200


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ({"json": {"event_code": "no-such-event", "user": "amy"}}, 401, None),
        ({"json": {"event_code": "no such event", "user": "amy"}}, 401, None),
        ({"json": {"event_code": "hackathon", "user": ""}}, 400, "user"),
        ({"json": {"event_code": "hackathon", "user": "jörg"}}, 400, "user"),
        ({"json": {"event_code": "hackathon", "user": "u" * 65}}, 400, "user"),
        ({"json": {"event_code": "hackathon", "user": "your-github-name"}}, 400, "user"),
        ({"json": {"event_code": "hackathon", "user": 5}}, 400, "user"),
        ({"json": {"event_code": "hackathon"}}, 400, "user"),
        ({"json": ["hackathon", "amy"]}, 400, None),
        ({"data": b"{"}, 400, None),
        ({"data": b"\xff"}, 400, None),
        ({"data": b'{"event_code": "hackathon", "user": "' + b"x" * 5000}, 413, None),
        ({"data": b"[" * 4000}, 400, None),
    ],
)
async def test_malformed_claim_is_refused(
    stage: Stage, options: dict[str, object], status: int, param: str | None
) -> None:
    response = await claim(stage, "", "", **options)
    assert (response.status, response.json["error"]["param"]) == (status, param)


async def test_claim_that_is_too_long_names_its_limit_in_bytes(stage: Stage) -> None:
    refused = await claim(stage, "", "", data=b"x" * 5000)
    assert "larger than 4,096 bytes" in refused.error["message"]
