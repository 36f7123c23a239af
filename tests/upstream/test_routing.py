"""The choice of a deployment: priority, weight, affinity, load, cool-downs and probes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest

from shared.apis.quirks import Quirks
from shared.core.errors import StoreUnavailable, UpstreamBusy, UpstreamError
from shared.core.models import CHAT, Credential, Deployment, FailureKind
from shared.upstream.candidate import (
    COOL_DOWN_SECONDS,
    DEAD_AFTER,
    LONGEST_COOL_DOWN_SECONDS,
    REFUSED_SECONDS,
    Availability,
    Candidate,
)
from shared.upstream.routing import BALANCE, QUIET, Routes, Routing

USERS = [f"user-{number}" for number in range(2000)]


def attendee(user: str) -> Credential:
    return Credential("event", user)


ANN, BOB = attendee("ann"), attendee("bob")


class Pool:
    """Deployments of the model `m`, a clock that the test sets, and a record of the reported states."""

    def __init__(self, *deployments: Deployment) -> None:
        self.now = 1000.0
        self.rows = list(deployments)
        self.reported: list[tuple[str, str, float]] = []
        self.down = False
        self._numbers = count()
        self.routing = Routing(self, 30, lambda: self.now, self._report)

    async def deployments(self) -> list[Deployment]:
        if self.down:
            raise StoreUnavailable
        return list(self.rows)

    def _report(self, deployment: Deployment, status: str, seconds: float) -> None:
        self.reported.append((deployment.id, status, seconds))

    async def routes(self) -> Routes:
        return (await self.routing.routes()).of(CHAT)

    async def choose(self, user: str = "ann", tried: tuple[Candidate, ...] = ()) -> Candidate:
        chosen = (await self.routes()).choose("m", attendee(user), tried)
        assert chosen is not None
        return chosen

    async def get(self, name: str) -> Candidate:
        """The deployment with this id, in any state."""
        routes = await self.routes()
        return next(one for tier in routes.tiers("m") for one in tier.candidates if one.deployment.id == name)

    async def fail(
        self, name: str, kind: FailureKind = FailureKind.FAILED, seconds: float | None = None, *users: str
    ) -> Candidate:
        """Calls of these users fail at this deployment, at the same time. Without users, those of two others."""
        candidate, number = await self.get(name), next(self._numbers)
        began_at = self.now
        for user in users or (f"first-{number}", f"second-{number}"):
            candidate.begin()
            candidate.note_failure(kind, kind.value, seconds, began_at, attendee(user))
            candidate.end()
            began_at = self.now - 1
        return candidate

    async def succeed(self, candidate: Candidate) -> None:
        candidate.begin()
        candidate.note_response(self.now)
        candidate.end()

    async def served_by(self, users: list[str] = USERS) -> Counter[str]:
        return Counter([(await self.choose(user)).deployment.id for user in users])


def deployment(name: str, **fields: object) -> Deployment:
    return Deployment("m", name, f"https://{name}.example", name, **fields)  # type: ignore[arg-type]


def equals(count: int = 3) -> Pool:
    return Pool(*(deployment(f"d{number}") for number in range(count)))


# ---- priority, weight, affinity and load


async def test_only_the_lowest_priority_number_is_used() -> None:
    pool = Pool(deployment("paygo", priority=2), deployment("ptu", priority=1))
    assert await pool.served_by() == {"ptu": len(USERS)}


async def test_calls_go_to_the_next_priority_during_a_cool_down() -> None:
    pool = Pool(deployment("paygo", priority=2), deployment("ptu", priority=1))
    await pool.fail("ptu", FailureKind.BUSY, 5)
    assert await pool.served_by() == {"paygo": len(USERS)}
    pool.now += 5
    assert await pool.served_by() == {"ptu": len(USERS)}


async def test_users_are_spread_by_weight() -> None:
    pool = Pool(deployment("large", weight=3), deployment("small"))
    assert 0.72 < (await pool.served_by())["large"] / len(USERS) < 0.78


async def test_a_weight_of_zero_counts_as_one() -> None:
    pool = Pool(deployment("large", weight=9), deployment("zero", weight=0))
    assert 0.07 < (await pool.served_by())["zero"] / len(USERS) < 0.13


async def test_a_user_keeps_one_deployment_on_every_instance() -> None:
    first, second = equals(), equals()
    for user in USERS[:50]:
        chosen = {(await pool.choose(user)).deployment.id for pool in (first, second) for _ in range(3)}
        assert len(chosen) == 1


async def test_a_new_deployment_moves_only_its_own_share_of_the_users() -> None:
    three, four = equals(3), equals(4)
    moved = [
        user
        for user in USERS
        if (await three.choose(user)).deployment.id != (await four.choose(user)).deployment.id
    ]
    assert 0.2 < len(moved) / len(USERS) < 0.3
    assert {(await four.choose(user)).deployment.id for user in moved} == {"d3"}


async def test_one_users_concurrent_calls_are_spread_by_load() -> None:
    pool = equals()
    for number in range(1, 301):
        (await pool.choose("ann")).begin()
        busy = [(await pool.get(name)).in_flight for name in ("d0", "d1", "d2")]
        assert max(busy) <= max(QUIET, BALANCE * number / 3 + 1)
    assert sum(busy) == 300 and min(busy) >= 300 * (1 - 2 / 3 * BALANCE) - 2


async def test_users_keep_their_deployment_at_low_load() -> None:
    pool = equals()
    chosen = set()
    for _ in range(QUIET):
        candidate = await pool.choose("ann")
        candidate.begin()
        chosen.add(candidate.deployment.id)
    assert len(chosen) == 1


async def test_load_is_shared_by_weight() -> None:
    pool = Pool(deployment("large", weight=3), deployment("small"))
    for _ in range(400):
        (await pool.choose("ann")).begin()
    large, small = (await pool.get("large")).in_flight, (await pool.get("small")).in_flight
    assert large <= BALANCE * 300 + 1 and small <= BALANCE * 100 + 1


async def test_an_inactive_deployment_is_not_used() -> None:
    pool = Pool(deployment("d0", active=False), deployment("d1"))
    assert await pool.served_by() == {"d1": len(USERS)}
    assert (await Pool(deployment("d0", active=False)).routes()).models == set()


# ---- cooling down


@pytest.mark.parametrize(
    ("kind", "named", "seconds"),
    [
        (FailureKind.BUSY, 3.5, 3.5),
        (FailureKind.BUSY, None, COOL_DOWN_SECONDS),
        (FailureKind.BUSY, 86400.0, LONGEST_COOL_DOWN_SECONDS),
        (FailureKind.FAILED, None, COOL_DOWN_SECONDS),
        (FailureKind.FAILED, 2.0, 2.0),
        (FailureKind.SILENT, None, COOL_DOWN_SECONDS),
        (FailureKind.REFUSED, None, REFUSED_SECONDS),
    ],
)
async def test_a_failure_cools_a_deployment_down(
    kind: FailureKind, named: float | None, seconds: float
) -> None:
    pool = equals(2)
    await pool.fail("d0", kind, named)
    pool.now += seconds - 0.01
    assert await pool.served_by() == {"d1": len(USERS)}
    pool.now += 0.01
    assert (await pool.served_by()).keys() == {"d0", "d1"}
    assert pool.reported == [("d0", kind.value, seconds)] * 2


async def test_repeated_failures_double_the_cool_down_up_to_a_minute() -> None:
    pool = equals(2)
    for seconds in (10, 20, 40, 60, 60):
        candidate = await pool.fail("d0")
        assert candidate.cool_until - pool.now == seconds
        pool.now = candidate.cool_until
    await pool.succeed(candidate)
    assert (await pool.fail("d0")).cool_until - pool.now == COOL_DOWN_SECONDS


async def test_overlapping_failures_count_as_one() -> None:
    pool = equals(2)
    candidate = await pool.get("d0")
    began_at, pool.now = pool.now, pool.now + 1
    for user in USERS[:50]:
        candidate.note_failure(FailureKind.SILENT, "unreachable", None, began_at, attendee(user))
    assert candidate.failures == 1
    assert candidate.availability(ANN) is Availability.FAILED


async def test_a_response_to_an_older_call_does_not_end_a_cool_down() -> None:
    pool = equals(2)
    candidate = await pool.get("d0")
    began_at, pool.now = pool.now, pool.now + 1
    await pool.fail("d0", FailureKind.BUSY, 30)
    candidate.note_response(began_at)
    assert candidate.availability(ANN) is Availability.CLOSED


async def test_a_failure_of_an_older_call_does_not_end_the_cool_down_of_a_429() -> None:
    pool = equals(1)
    candidate = await pool.fail("d0", FailureKind.BUSY, 30)
    candidate.note_failure(FailureKind.FAILED, "500", None, pool.now - 5, ANN)
    assert (await pool.routes()).choose("m", ANN) is None
    assert candidate.cool_until == pool.now + 30


async def test_after_a_failure_a_single_call_probes_while_the_others_go_elsewhere() -> None:
    pool = equals(2)
    await pool.fail("d0", FailureKind.SILENT)
    pool.now += COOL_DOWN_SECONDS
    mine = [user for user in USERS if (await pool.choose(user)).deployment.id == "d0"]
    probe = await pool.choose(mine[0])
    probe.begin()
    assert await pool.served_by() == {"d1": len(USERS)}
    probe.note_response(pool.now)
    assert (await pool.served_by())["d0"] == len(mine)


async def test_a_probe_whose_client_disconnects_is_replaced() -> None:
    pool = equals(2)
    await pool.fail("d0")
    pool.now += COOL_DOWN_SECONDS
    probe = await pool.get("d0")
    probe.begin()
    assert probe.availability(ANN) is Availability.FAILED
    probe.note_no_result()
    assert probe.availability(ANN) is Availability.READY


async def test_after_a_429_all_calls_return_at_once() -> None:
    pool = equals(2)
    await pool.fail("d0", FailureKind.BUSY, 1)
    pool.now += 1
    candidate = await pool.get("d0")
    for _ in range(3):
        assert candidate.availability(ANN) is Availability.READY
        candidate.begin()


# ---- when no deployment is ready


async def test_the_only_deployment_is_used_again_after_its_own_failures() -> None:
    pool = equals(1)
    for _ in range(20):
        await pool.fail("d0")
    assert (await pool.choose()).deployment.id == "d0"


async def test_a_silent_deployment_gets_a_single_call_at_a_time_after_some_failures() -> None:
    pool = equals(1)
    for _ in range(DEAD_AFTER):
        probe = await pool.choose()
        probe.begin()
        assert (await pool.choose("bob")).deployment.id == "d0"
        await pool.fail("d0", FailureKind.SILENT)
    routes = await pool.routes()
    probe = await pool.choose()
    probe.begin()
    assert routes.choose("m", BOB) is None
    await pool.succeed(probe)
    assert (await pool.choose("bob")).deployment.id == "d0"


async def test_the_attendee_of_the_last_failure_of_a_silent_deployment_waits_until_it_has_cooled_down() -> (
    None
):
    pool = equals(1)
    for user in ("bob", "ann") * DEAD_AFTER:
        await pool.fail("d0", FailureKind.SILENT, None, user)
    routes = await pool.routes()
    assert routes.choose("m", ANN) is None
    assert (await pool.choose("bob")).deployment.id == "d0"
    pool.now += LONGEST_COOL_DOWN_SECONDS
    assert (await pool.choose("ann")).deployment.id == "d0"


# ---- failures that only one attendee has met


@pytest.mark.parametrize("kind", [FailureKind.FAILED, FailureKind.SILENT])
async def test_failures_of_one_attendee_count_as_one(kind: FailureKind) -> None:
    pool = equals(1)
    for _ in range(20):
        candidate = await pool.fail("d0", kind, None, "ann")
        assert (candidate.failures, candidate.cool_until) == (1, pool.now + COOL_DOWN_SECONDS)
        assert candidate.availability(ANN) is Availability.FAILED
        assert candidate.availability(BOB) is Availability.SPARE
        pool.now += COOL_DOWN_SECONDS


async def test_a_429_counts_for_all_when_a_second_attendee_meets_it_with_the_time_of_the_second() -> None:
    pool = equals(1)
    candidate = await pool.fail("d0", FailureKind.BUSY, 60, "ann")
    assert candidate.availability(ANN) is Availability.CLOSED
    assert candidate.availability(BOB) is Availability.SPARE
    await pool.fail("d0", FailureKind.BUSY, 5, "bob")
    assert candidate.availability(attendee("cat")) is Availability.CLOSED
    pool.now += 5
    assert candidate.availability(ANN) is Availability.READY
    await pool.fail("d0", FailureKind.BUSY, 60, "ann")
    assert candidate.availability(BOB) is Availability.SPARE


async def test_a_refusal_counts_for_its_attendee_until_a_second_one_meets_it() -> None:
    pool = equals(1)
    candidate = await pool.fail("d0", FailureKind.REFUSED, None, "ann")
    assert candidate.availability(ANN) is Availability.REFUSED
    assert candidate.availability(BOB) is Availability.READY
    pool.now += REFUSED_SECONDS - 1
    await pool.fail("d0", FailureKind.REFUSED, None, "bob")
    assert candidate.availability(attendee("cat")) is Availability.REFUSED
    pool.now += REFUSED_SECONDS
    await pool.fail("d0", FailureKind.REFUSED, None, "eve")
    assert candidate.availability(BOB) is Availability.READY


async def test_a_single_refusal_replaces_no_failure_that_counts_for_all() -> None:
    pool = equals(1)
    candidate = await pool.fail("d0", FailureKind.FAILED)
    await pool.fail("d0", FailureKind.REFUSED, None, "eve")
    assert candidate.availability(BOB) is Availability.FAILED
    assert candidate.cool_until == pool.now + COOL_DOWN_SECONDS


async def test_a_deployment_that_only_another_attendee_saw_fail_comes_before_the_others_that_failed() -> None:
    pool = equals(3)
    await pool.fail("d0", FailureKind.FAILED)
    await pool.fail("d1", FailureKind.BUSY, 60, "eve")
    await pool.fail("d2", FailureKind.REFUSED)
    assert await pool.served_by() == {"d1": len(USERS)}
    order: tuple[Candidate, ...] = ()
    for _ in range(3):
        order += (await pool.choose("ann", order),)
    assert [candidate.deployment.id for candidate in order] == ["d1", "d0", "d2"]


async def test_the_last_resort_follows_weight_and_user() -> None:
    pool = Pool(deployment("large", weight=3), deployment("small"))
    before = [(await pool.choose(user)).deployment.id for user in USERS]
    for name in ("large", "small"):
        await pool.fail(name)
    assert [(await pool.choose(user)).deployment.id for user in USERS] == before


# ---- what is left when no deployment can be tried


async def test_a_failed_deployment_is_used_only_if_no_other_is_left() -> None:
    pool = Pool(deployment("d0", priority=1), deployment("d1", priority=2))
    await pool.fail("d0")
    assert await pool.served_by() == {"d1": len(USERS)}
    await pool.fail("d1", FailureKind.BUSY, 30)
    assert await pool.served_by() == {"d0": len(USERS)}


async def test_a_deployment_that_was_tried_is_not_chosen_again() -> None:
    pool = equals(3)
    tried: tuple[Candidate, ...] = ()
    for _ in range(3):
        tried += (await pool.choose("ann", tried),)
    assert len(set(tried)) == 3
    assert (await pool.routes()).choose("m", ANN, tried) is None


async def test_the_refusal_has_the_earliest_recovery_if_all_deployments_are_cooling_down() -> None:
    pool = equals(3)
    for name, seconds in (("d0", 20.0), ("d1", 3.5), ("d2", 50.0)):
        await pool.fail(name, FailureKind.BUSY, seconds)
    refusal = (await pool.routes()).refusal("m", None)
    assert isinstance(refusal, UpstreamBusy)
    assert refusal.retry_after_seconds == 3.5
    assert refusal.headers == {b"retry-after": b"4", b"retry-after-ms": b"3500"}


async def test_the_refusal_is_an_error_without_a_wait_if_all_deployments_refuse_the_proxy() -> None:
    pool = equals(2)
    for name in ("d0", "d1"):
        await pool.fail(name, FailureKind.REFUSED)
    assert isinstance((await pool.routes()).refusal("m", None), UpstreamError)
    pool = equals(2)
    await pool.fail("d0", FailureKind.REFUSED)
    await pool.fail("d1", FailureKind.BUSY, 90)
    refusal = (await pool.routes()).refusal("m", UpstreamError("refused"))
    assert isinstance(refusal, UpstreamBusy)
    assert refusal.retry_after_seconds == LONGEST_COOL_DOWN_SECONDS


async def test_the_refusal_is_the_last_error_if_all_deployments_have_failed() -> None:
    pool = equals(1)
    await pool.fail("d0")
    last = UpstreamError("the last")
    assert (await pool.routes()).refusal("m", last) is last


async def test_a_429_that_is_over_does_not_hide_the_last_error() -> None:
    pool = equals(1)
    await pool.fail("d0", FailureKind.BUSY, 5)
    pool.now += 5
    last = UpstreamError("the last")
    assert (await pool.routes()).refusal("m", last) is last


# ---- reloads of the table


async def test_a_cool_down_survives_the_reload_of_the_table() -> None:
    pool = equals(2)
    candidate = await pool.fail("d0", FailureKind.BUSY, 60)
    candidate.quirks.learn(Quirks("max_tokens"), ANN, is_plain=True)
    pool.now += 31
    pool.rows = [replace(row, weight=7) for row in pool.rows]
    assert await pool.served_by() == {"d1": len(USERS)}
    again = await pool.get("d0")
    assert (again.quirks.current.output_field, again.deployment.weight) == ("max_tokens", 7)


@pytest.mark.parametrize(
    "change", [{"endpoint": "https://new.example"}, {"deployment_name": "x"}, {"auth": "KEY"}]
)
async def test_a_row_with_another_target_starts_without_history(change: dict[str, str]) -> None:
    pool = equals(1)
    await pool.fail("d0", FailureKind.REFUSED)
    pool.rows = [replace(pool.rows[0], **change)]  # type: ignore[arg-type]
    pool.now += 31
    assert (await pool.choose()).failure is None


async def test_cached_deployments_are_used_without_the_tables() -> None:
    pool = equals(1)
    await pool.fail("d0", FailureKind.BUSY, 60)
    pool.down = True
    pool.now += 31
    assert (await pool.routes()).choose("m", ANN) is None
    pool.now += 30
    assert (await pool.choose()).deployment.id == "d0"


# ---- reported states


async def test_a_change_is_reported_once_and_a_steady_deployment_at_most_once_a_minute() -> None:
    pool = equals(1)
    candidate = await pool.fail("d0", FailureKind.BUSY, 5)
    pool.now += 5
    for _ in range(100):
        await pool.succeed(candidate)
    assert pool.reported == [("d0", "busy", 5.0), ("d0", "busy", 5.0), ("d0", "ok", 0.0)]
    for _ in range(10):
        pool.now += 31  # each time, the table is read again
        await pool.succeed(await pool.choose())
    assert 4 <= len(pool.reported) - 3 <= 5
    assert set(pool.reported[3:]) == {("d0", "ok", 0.0)}


async def test_the_first_response_is_reported_at_once() -> None:
    pool = equals(2)
    for _ in range(3):
        await pool.succeed(await pool.get("d0"))
    assert pool.reported == [("d0", "ok", 0.0)]
    pool.rows[0] = replace(pool.rows[0], auth="ANOTHER_KEY")
    pool.now += 31
    await pool.succeed(await pool.get("d0"))
    assert pool.reported == [("d0", "ok", 0.0)] * 2


async def test_a_deployment_without_a_response_is_not_reported() -> None:
    pool = equals(2)
    (await pool.get("d1")).begin()
    for _ in range(10):
        await pool.routes()
        pool.now += 31
    assert pool.reported == []


async def test_a_deployment_that_refuses_the_proxy_is_logged_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = equals(2)
    await pool.fail("d1", FailureKind.REFUSED)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "d1" in caplog.text and "key, role, name and quota" in caplog.text


async def test_each_api_has_the_deployments_that_serve_it() -> None:
    pool = Pool(
        deployment("d0", apis=("chat",)),
        deployment("d1", apis=("chat", "responses"), priority=2),
        replace(deployment("d2", apis=("embeddings",)), model="e"),
        replace(deployment("d3", apis=("images",), active=False), model="i"),
    )
    routes = await pool.routing.routes()
    assert routes.served == {"m": ("chat", "responses"), "e": ("embeddings",)}
    chat, responses = (routes.of(api).choose("m", ANN) for api in ("chat", "responses"))
    assert chat is not None and chat.deployment.id == "d0"
    assert responses is not None and responses.deployment.id == "d1"
    assert routes.of("embeddings").models == {"e"} and not routes.of("images").models
    second = routes.of("chat").choose("m", ANN, (chat,))
    assert second is not None and second.deployment.id == "d1"


async def test_a_deployment_that_gets_another_api_keeps_its_health() -> None:
    pool = Pool(deployment("d0"))
    await pool.fail("d0")
    pool.rows, pool.now = [deployment("d0", apis=("chat", "embeddings"))], pool.now + 60
    routes = await pool.routing.routes()
    chat, new = (routes.of(api).tiers("m")[0].candidates[0] for api in ("chat", "embeddings"))
    assert (chat.failure, new.failure) == (FailureKind.FAILED, None)
    assert not routes.of("responses").models
