"""The worker's record of calls: which calls the extension ends, and when."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest

from shared.functions import invocations
from shared.functions.http import Request
from shared.functions.invocations import Invocations
from tools.functions_host import local_worker


def worker(**names: object) -> ModuleType:
    """A worker module with these names."""
    http_v2 = ModuleType("http_v2")
    vars(http_v2).update(names)
    return http_v2


def watch(**names: object) -> Invocations:
    """The extension's view of such a module."""
    return Invocations(worker(**names))


def look_until_ended(watched: Invocations) -> None:
    for _ in range(invocations.CHECKS + 1):
        watched.check()


def request() -> Request:
    async def receive() -> dict[str, object]:
        raise AssertionError("no body is read")

    return Request({"headers": []}, receive)


async def test_invocation_that_arrives_after_its_request_was_refused_does_not_run() -> None:
    record = local_worker.Coordinator()
    record.set_http_request("late", request())
    look_until_ended(watch(http_coordinator=record))
    assert await record.wait_for_response("late") is invocations.UNKNOWN_ID
    with pytest.raises(ValueError, match="has no request"):
        await record.wait_for_request("late")


async def test_request_that_arrives_after_its_invocation_was_ended_gets_a_response() -> None:
    record = local_worker.Coordinator()
    invocation = asyncio.create_task(record.wait_for_request("late"))
    await asyncio.sleep(0)
    look_until_ended(watch(http_coordinator=record))
    with pytest.raises(ValueError, match="has no request"):
        await invocation
    record.set_http_response("late", ValueError())  # as a worker does with the exception
    record.set_http_request("late", request())
    async with asyncio.timeout(10):
        assert isinstance(await record.wait_for_response("late"), ValueError)


async def test_half_that_arrives_within_the_looks_is_served() -> None:
    record = local_worker.Coordinator()
    watched = watch(http_coordinator=record)
    invocation = asyncio.create_task(record.wait_for_request("early"))
    record.set_http_request("other", request())
    response = asyncio.create_task(record.wait_for_response("other"))
    await asyncio.sleep(0)
    assert invocations.CHECKS >= 5
    for _ in range(invocations.CHECKS):
        watched.check()
    await asyncio.sleep(0)
    assert not invocation.done() and not response.done()
    record.set_http_request("early", request())
    assert isinstance(await invocation, Request)
    watched.check()
    await asyncio.sleep(0)
    assert response.done() and not record._context_references["early"].http_response_available_event.is_set()


async def test_one_look_ends_a_limited_number_of_calls() -> None:
    record = local_worker.Coordinator()
    most = invocations.MOST_PER_CHECK
    waiting = [asyncio.create_task(record.wait_for_request(str(number))) for number in range(most + 2)]
    await asyncio.sleep(0)
    look_until_ended(watch(http_coordinator=record))
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True] * most + [False] * 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("names", [{}, {"http_coordinator": object()}])
async def test_worker_without_a_known_record_causes_a_warning_and_is_served(
    names: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch(**names)
    assert "Update the proxy" in caplog.text
    with watched.watch():
        assert watched.begin("id") and not watched.begin("id")
        watched.end("id")
        assert watched.begin("id")


async def test_call_of_unknown_form_causes_one_warning_and_does_not_stop_the_checks_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = local_worker.Coordinator()
    record._context_references["odd"] = object()  # type: ignore[assignment] # as in another version
    record.set_http_request("late", request())
    with Invocations(worker(http_coordinator=record), check_seconds=0).watch():
        async with asyncio.timeout(10):
            assert await record.wait_for_response("late") is invocations.UNKNOWN_ID
    assert caplog.text.count("Update the proxy") == 1


async def test_call_that_cannot_be_ended_does_not_stop_the_checks_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:

    class Refusing(local_worker.Coordinator):
        def set_http_response(self, invocation_id: str, response: object) -> None:
            if invocation_id == "odd":
                raise KeyError(invocation_id)
            super().set_http_response(invocation_id, response)

    record = Refusing()
    for name in ("odd", "late"):
        record.set_http_request(name, request())
    with Invocations(worker(http_coordinator=record), check_seconds=0).watch():
        async with asyncio.timeout(10):
            assert await record.wait_for_response("late") is invocations.UNKNOWN_ID
    assert caplog.text.count("Update the proxy") == 1
