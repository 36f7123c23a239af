"""The calls of one attendee cannot take a deployment from the others, whatever failures they cause."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.conftest import Stage
from tests.responses import WireResponse
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    Failure,
    Garbage,
    RateLimited,
    RawSocket,
    ResetBeforeHeaders,
)
from tools.simulator.behaviours import ApiRequest
from tools.simulator.wire import Response

pytestmark = pytest.mark.one_python

POISON = "poison"
NO_QUOTA = Failure(
    429, b'{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"..."}}'
)
FAILURES: dict[str, Behaviour] = {
    "401": Failure(401),
    "403": Failure(403),
    "404": Failure(404),
    "429": RateLimited(retry_after=60),
    "no-quota": NO_QUOTA,
    "408": Failure(408),
    "500": Failure(500),
    "503-for-a-minute": Failure(503, headers={"retry-after": "60"}),
    "reset": ResetBeforeHeaders(),
    "closed": ResetBeforeHeaders("close"),
    "not-http": RawSocket(),
    "cut": CutBody(),
    "garbage": Garbage(),
}


@dataclass(frozen=True)
class Poisoned:
    """Fails for prompts that contain `POISON`, and serves all others."""

    failure: Behaviour

    def respond(self, request: ApiRequest) -> Response:
        return (self.failure if POISON in request.prompt else Answer()).respond(request)


async def deployments(stage: Stage, count: int, behaviour: Behaviour) -> tuple[str, list[str]]:
    """A new event with one model, which has `count` deployments with falling priority."""
    model = await stage.add_deployment()
    names = [model, *(f"{model}-{number}" for number in range(2, count + 1))]
    for priority, name in enumerate(names, 1):
        await stage.add_deployment(model=model, id=name, deployment_name=name, priority=priority)
        stage.simulator.always(name, behaviour)
    return await stage.add_event(models=(model,), default_model=model), names


async def poison(stage: Stage, event: str, user: str = "eve") -> WireResponse:
    return await stage.chat(event, user, messages=[{"role": "user", "content": POISON}])


def calls_of(stage: Stage, name: str) -> int:
    return sum(call.deployment == name for call in stage.simulator.calls)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_failures_that_one_attendee_causes_do_not_fail_the_calls_of_others(
    stage: Stage, failure: Behaviour, count: int
) -> None:
    event, _ = await deployments(stage, count, Poisoned(failure))
    for turn in range(3):
        for _ in range(4):
            assert (await poison(stage, event)).status in {429, 502}
        others = (stage.chat(event, user, stream=bool(turn % 2)) for user in ("ann", "bob", "cat"))
        assert [response.status for response in await asyncio.gather(*others)] == [200] * 3


@pytest.mark.parametrize("failure", [Failure(401), Failure(403), Failure(404), NO_QUOTA])
async def test_a_refusal_cools_a_deployment_down_when_a_second_attendee_meets_it(
    stage: Stage, failure: Behaviour
) -> None:
    event, (first, _) = await deployments(stage, 2, Answer())
    stage.simulator.always(first, failure)
    for user, tries in (("ann", 1), ("ann", 1), ("bob", 2), ("cat", 2), ("ann", 2), ("bob", 2)):
        assert (await stage.chat(event, user)).status == 200
        assert calls_of(stage, first) == tries, user


async def test_a_response_to_another_attendee_clears_a_refusal(stage: Stage) -> None:
    event, (first, _) = await deployments(stage, 2, Poisoned(Failure(403)))
    for user in ("eve", "mallory"):
        await poison(stage, event, user)
        assert (await stage.chat(event, "ann")).status == 200
    assert calls_of(stage, first) == len(stage.simulator.calls) - 2  # only the poisoned calls failed over


async def test_a_deployment_that_refuses_the_proxy_is_the_last_resort(stage: Stage) -> None:
    event, (first, second) = await deployments(stage, 2, Failure(401))
    for user in ("ann", "bob", "cat"):
        response = await stage.chat(event, user)
        assert (response.status, response.error["code"]) == (502, "upstream_error")
    stage.simulator.always(first, Answer())
    stage.simulator.always(second, RateLimited(retry_after=60))
    before = calls_of(stage, first)
    assert (await stage.chat(event, "dan")).status == 200
    assert calls_of(stage, first) == before + 1


async def test_the_last_resort_is_shared_by_all_deployments(stage: Stage) -> None:
    model = await stage.add_deployment()
    names = [model, f"{model}-2", f"{model}-3"]
    for name in names:
        await stage.add_deployment(model=model, id=name, deployment_name=name)
        stage.simulator.always(name, Poisoned(Failure(500)))
    event = await stage.add_event(models=(model,), default_model=model)
    await asyncio.gather(*(poison(stage, event, user) for user in ("eve", "mallory")))
    gates = [stage.simulator.gate(name, calls=None) for name in names]
    waiting = [asyncio.create_task(stage.chat(event, f"user-{number}")) for number in range(30)]
    before = len(stage.simulator.calls)
    await stage.simulator.until(lambda calls: len(calls) >= before + 30)
    busy = [calls_of(stage, name) for name in names]
    for gate in gates:
        gate.open_all()
    assert {response.status for response in await asyncio.gather(*waiting)} == {200}
    assert min(busy) >= 5, busy


async def test_a_used_up_quota_of_the_organiser_is_named(stage: Stage) -> None:
    event, (first, second) = await deployments(stage, 2, NO_QUOTA)
    response = await stage.chat(event, "ann")
    assert (response.status, response.error["code"]) == (502, "upstream_error")
    message = response.error["message"]
    assert "quota" in message and "organiser" in message and "busy" not in message
    stage.simulator.always(second, Answer())
    for _ in range(3):
        assert (await stage.chat(event, "ann")).status == 200
    assert calls_of(stage, first) == 2  # once more, when the second deployment was a last resort as well
