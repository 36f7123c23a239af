"""Random requests, and random responses of an upstream: no 500, no hang, no leak, nothing left behind.

The suite sends the same few hundred requests each time. To send others for half an hour, and to see their
number: FUZZ_SECONDS=1800 python3 dev.py test tests/app/test_fuzz.py
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from shared.core.models import Deployment
from shared.quota.amounts import NOTHING
from tests.app.fuzz_requests import FuzzedRequest, requests
from tests.app.fuzz_responses import behaviours
from tests.conftest import KEY, KEY_SETTINGS, Stage
from tests.error_classes import every_refusal
from tests.responses import WireResponse, parse_response
from tools.simulator import Behaviour

pytestmark = pytest.mark.one_python

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
MOST_SECONDS = 20
"""For one response."""
AT_ONCE = 16
IN_SUITE = 480
MODELS = [f"{('gpt-4o', 'o4-mini', 'gpt-4')[number % 3]}-f{number:02}" for number in range(AT_ONCE)]
JSON = "application/json"
CODES = {error.code for error in every_refusal()}
_rounds = count()


@dataclass(frozen=True)
class Case:
    """A request, and what the two deployments of its model respond."""

    request: FuzzedRequest
    behaviours: tuple[Behaviour, Behaviour]


@dataclass(frozen=True)
class Exchange:
    """A case that was sent. There is no response if the client left or sent a wrong length."""

    case: Case
    user: str
    response: WireResponse | None
    is_forwarded: bool
    """Whether a deployment got the request. Its own errors may have any form."""


def generated(secret: str, number: int) -> list[Case]:
    """The cases of the suite, which are always the same. By hand, others each time."""
    found: list[Case] = []

    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        derandomize=not SECONDS,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(), behaviours(secret), behaviours(secret))
    def collect(request: FuzzedRequest, first: Behaviour, second: Behaviour) -> None:
        found.append(Case(request, (first, second)))

    collect()
    return found


async def without_history(stage: Stage, round_: int) -> None:
    """Two deployments for each model, with another key than before, so that none cools down."""
    rows = [
        Deployment(
            model,
            f"{model}-{priority}",
            stage.simulator.url,
            f"{model}-{priority}",
            auth=KEY_SETTINGS[round_ % len(KEY_SETTINGS)],
            api_version=("v1", "2024-10-21")[number % 2],
            priority=priority,
        )
        for number, model in enumerate(MODELS)
        for priority in (1, 2)
    ]
    await asyncio.gather(*map(stage.tables.put_deployment, rows))


async def send(url: str, request: FuzzedRequest, model: str, credential: str) -> WireResponse | None:
    """Send one request on a connection of its own, and read until the app closes it."""
    address = urlsplit(url)
    async with asyncio.timeout(MOST_SECONDS):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        data = b""
        try:
            writer.write(request.data(model, credential))
            if request.leaves == "sent":
                return None
            if not request.must_have_response:
                writer.write_eof()
            while piece := await reader.read(65536):
                if request.leaves == "begun":
                    return None
                data += piece
        except ConnectionError:
            pass  # a stream that fails is reset
        finally:
            writer.close()
    data = data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return parse_response(data) if data else None


async def exchange(stage: Stage, case: Case, model: str, code: str, user: str) -> Exchange:
    for priority, behaviour in enumerate(case.behaviours, start=1):
        stage.simulator.always(f"{model}-{priority}", behaviour)
    try:
        response = await send(stage.url, case.request, model, f"{code}/{user}")
    except TimeoutError:
        pytest.fail(f"no response within {MOST_SECONDS} s: {case}")
    used = (f"{model}-", f"{MODELS[0]}-")  # the second one is the default
    is_forwarded = any(str(call.deployment).startswith(used) for call in stage.simulator.calls)
    return Exchange(case, user, response, is_forwarded)


def check(one: Exchange, secrets: list[str]) -> None:
    """Fail if the response is none that a client may see."""
    response, request = one.response, one.case.request
    if response is None:
        assert not request.must_have_response, f"no response: {one}"
        return
    shown = repr(response.headers) + response.body.decode("latin-1")
    assert not [secret for secret in secrets if secret in shown], f"a leak: {one}"
    assert response.status != 500, f"{one}"
    is_ours = response.status in {408, 429} or response.status >= 500 or not one.is_forwarded
    if response.status >= 400 and is_ours and response.headers.get("content-type") == JSON:
        assert request.method == "HEAD" or has_form(response.body), f"not as documented: {one}"


def has_form(body: bytes) -> bool:
    """Whether it is an error as documented."""
    error = json.loads(body)["error"]
    return error.keys() == {"message", "type", "param", "code"} and error["code"] in CODES


async def nothing_is_left(stage: Stage) -> None:
    """Wait until every call has ended and is charged. Only then is nothing held."""
    wiring = stage.web._wiring
    assert wiring is not None

    def left() -> list[object]:
        accounts = wiring.quota._accounts._exchanges.values()
        held = [one.account for one in accounts if one.account.held != NOTHING]
        busy = [one.deployment.id for one in wiring.proxy._calls._routing._known.values() if one.in_flight]
        bodies, total = wiring.bodies._arriving, wiring.bodies._bytes_together
        running = [user for user, its in wiring.quota._running._users.items() if its.calls]
        settling = wiring.proxy._charges._settling
        return [*running, *settling, *held, *busy, *bodies, *([total] if total else [])]

    ends_at = time.monotonic() + MOST_SECONDS
    while left():
        assert time.monotonic() < ends_at, left()
        await asyncio.sleep(0.01)


@pytest.mark.timeout(SECONDS + 280)
async def test_no_request_and_no_upstream_causes_a_500_a_hang_or_a_leak(
    stage: Stage, environment: dict[str, str], deployments_as_before: None, capsys: pytest.CaptureFixture[str]
) -> None:
    host = stage.simulator.url.removeprefix("http://")
    tables = dict(part.partition("=")[::2] for part in environment["PROXY_TABLES"].split(";"))
    secrets = [KEY, host, "SIMULATOR_KEY", "Traceback", tables["AccountName"], tables["AccountKey"]]
    codes = [
        await stage.add_event(models=tuple(MODELS), default_model=None),
        await stage.add_event(
            models=tuple(MODELS),
            default_model=MODELS[0],
            max_output_tokens=900,
            requests_per_minute=10**6,
            requests_per_day=10**6,
            tokens_per_day=10**9,
            tokens_total=10**12,
        ),
    ]
    statuses: Counter[int | None] = Counter()
    ends_at = time.monotonic() + SECONDS
    try:
        while not statuses or time.monotonic() < ends_at:
            found = await asyncio.to_thread(generated, f"{KEY} {host}", IN_SUITE)
            for first in range(0, len(found), AT_ONCE):
                statuses.update(await send_together(stage, found[first : first + AT_ONCE], codes, secrets))
    finally:
        with capsys.disabled():
            sys.stdout.write(f"\n{statuses.total():,} requests, by status: {dict(statuses.most_common())}\n")
    assert {200, 400, 401, 502} <= set(statuses)


async def send_together(
    stage: Stage, found: list[Case], codes: list[str], secrets: list[str]
) -> list[int | None]:
    """Send the cases at the same time, each to a model of its own, and check all that they leave."""
    round_ = next(_rounds)
    await without_history(stage, round_)
    users = [f"guest{number:02}x{round_ // 10:05}" for number in range(len(found))]  # ten calls of each
    done = await asyncio.gather(
        *(
            exchange(stage, case, model, codes[(round_ + number) % 2], user)
            for number, (case, model, user) in enumerate(zip(found, MODELS, users, strict=False))
        )
    )
    for one in done:
        check(one, secrets + [user for user in users if user != one.user])
    await nothing_is_left(stage)
    assert (await stage.get("/healthz")).status == 200
    stage.simulator.reset()
    return [one.response.status if one.response else None for one in done]
