"""Many clients use up a limit. What the simulated upstream served is compared with what was allowed."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

import aiohttp

from shared.quota.amounts import Amount
from tools import loops
from tools.attack.flood import Attack, Client, Outcome, chat
from tools.attack.stage import PRICES, TEXT, USER, Stage, opened
from tools.bench.peers import LeftOut
from tools.processes import ChildError
from tools.simulator import Answer, Call, Deployment

from . import litellm
from .results import OURS, Results, Row

_PROSE: Final = "A glove box keeps what is inside apart from the air of the room around it. "
_ANSWER: Final = Answer(_PROSE)
_TOKENS_PER_SECOND: Final = 10.0
"""So an answer takes two seconds, and the clients wait for the upstream and not for a proxy."""
_LEAVE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.1
_MARK: Final = re.compile(r'"content": ?"([0-9.]+): ')
"""Of a call, in its body."""
_LIKED, _DENSE = _PROSE * 18, "1 0 0 1 " * 125
"""The second has a token for each byte: four times what an estimate by length says."""
_END_SECONDS: Final = 30
_IDLE_SECONDS: Final = 15
"""The app's default. After that, its ledger has all that was used."""


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    """Of an event: for one user in a day, or for all users together."""
    allowed: int
    served: Callable[[Sequence[Call]], int]


@dataclass(frozen=True, slots=True)
class Plan:
    clients: int = 64
    instances: tuple[int, ...] = (1, 3, 8)
    divisor: int = 1
    """Of the allowed amounts."""
    seconds: float = 120
    """The longest time of a measurement."""


QUICK: Final = Plan(clients=24, instances=(1,), divisor=2)


def _tokens(calls: Sequence[Call]) -> int:
    return sum(call.billed.total for call in calls)


def _millionths(calls: Sequence[Call]) -> int:
    prompt, completion = PRICES
    costs = (
        call.billed.prompt_tokens * prompt + call.billed.completion_tokens * completion for call in calls
    )
    return ceil(sum(costs, Decimal()))


DAY: Final = (
    Limit("requests_per_day", 200, len),
    Limit("tokens_per_day", 150_000, _tokens),
    Limit("cost_per_day", 400_000, _millionths),
)
TOTAL: Final = (
    Limit("requests_total", 800, len),
    Limit("tokens_total", 600_000, _tokens),
    Limit("cost_total", 1_600_000, _millionths),
)


def run(plan: Plan, *, peers: bool) -> Results:
    """Raises ChildError, but not for LiteLLM."""
    results = Results(plan.clients, " --peers" * peers)
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(_ours(results, plan))
        if peers:
            try:
                runner.run(_theirs(results, plan, Path(folder)))
            except (LeftOut, ChildError) as error:
                results.left_out = str(error)
    return results


async def _ours(results: Results, plan: Plan) -> None:
    codes = list[str]()
    async with opened(max(plan.instances), _IDLE_SECONDS) as stage:
        for instances in plan.instances:
            for limit in (*DAY, *TOTAL):
                code = await stage.add_event(**{limit.name: limit.allowed // plan.divisor})
                users = [USER if limit in DAY else f"user-{number}" for number in range(plan.clients)]
                credentials = [f"{code}/{user}" for user in users]
                outcome = await use_up(stage, plan, limit, stage.urls[:instances], credentials)
                _add(results, outcome, OURS, instances, limit.name)
                codes.append(code)
        await asyncio.sleep(_IDLE_SECONDS)
        for number, (code, row) in enumerate(zip(codes, results.rows, strict=True)):
            used: Amount = await stage.used(code, row.limit)
            results.rows[number] = replace(row, charged=getattr(used, row.limit.partition("_")[0]))


async def _theirs(results: Results, plan: Plan, folder: Path) -> None:
    async with opened(0) as stage, litellm.opened(folder, stage) as (name, urls):
        for instances in range(1, len(urls) + 1):
            for limit, theirs in zip(DAY, litellm.LIMITS, strict=True):
                credentials = [litellm.new_key(theirs, limit.allowed // plan.divisor)] * plan.clients
                outcome = await use_up(
                    stage, plan, limit, urls[:instances], credentials, says_if_lasting=False
                )
                _add(results, outcome, name, instances, theirs)


def _add(results: Results, outcome: Outcome, proxy: str, instances: int, limit: str) -> None:
    row = Row(proxy, instances, limit, outcome.attack.limit, outcome.billed, outcome.reached)
    results.rows.append(row)
    refusals = ", ".join(f"{number} x {code}" for code, number in outcome.refusals.most_common(3))
    print(f"{proxy}, instances: {instances}, {limit}: {row}. {refusals}", file=sys.stderr, flush=True)


async def use_up(
    stage: Stage,
    plan: Plan,
    limit: Limit,
    urls: Sequence[str],
    credentials: Iterable[str],
    *,
    says_if_lasting: bool = True,
) -> Outcome:
    """One client for each credential, until a refusal has stayed at each or the time is up."""
    stage.simulator.reset()
    stage.deployments[TEXT] = Deployment(billed_as=TEXT, tokens_per_second=_TOKENS_PER_SECOND)
    stage.simulator.always(TEXT, _ANSWER)
    outcome = Outcome(Attack("", "", limit.allowed // plan.divisor), limit.name)

    def served() -> int:
        return limit.served([call for call in stage.simulator.calls if call.behaviour is not None])

    async def leaves(body: str) -> None:
        """In the middle of the answer, however long the proxy takes to forward the call."""
        while _MARK.findall(body)[0] not in begun:  # noqa: ASYNC110 - a set has no event
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.sleep(_LEAVE_SECONDS)

    def client(number: int, credential: str) -> Client:
        body = partial(_body, number)
        cut = leaves if number % 3 == 0 else None
        return Client(http, urls, credential, outcome, served, body, cut, says_if_lasting)

    ends_at = monotonic() + plan.seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        clients = [client(*each) for each in enumerate(credentials)]
        watch = asyncio.create_task(_watch(stage, begun := set[str]()))
        await asyncio.gather(*(each.run(number, ends_at) for number, each in enumerate(clients)))
        watch.cancel()
    await _end_of_calls(stage)
    outcome.billed = served()
    return outcome


async def _watch(stage: Stage, begun: set[str]) -> None:
    """Keeps the marks of the calls that the upstream works on."""
    while True:
        calls = (call for call in stage.simulator.calls if call.behaviour is not None)
        begun.update(mark for call in calls for mark in _MARK.findall(call.body.decode()))
        await asyncio.sleep(_LOOK_SECONDS)


def _body(client: int, turn: int) -> str:
    """Of 12 clients, 4 leave, 6 have streams and 6 have dense prompts, in all combinations.

    No two bodies are equal: a repeated call could get the response of an earlier one.
    """
    content = _DENSE if client % 4 > 1 else _LIKED
    return chat(f"{client}.{turn}: {content}", max_tokens=50, stream=client % 2 == 0)


async def _end_of_calls(stage: Stage) -> None:
    """Calls whose client left may still begin and run on: waits until none runs and none is new."""
    before, deadline = -1, monotonic() + _END_SECONDS
    while monotonic() < deadline and (stage.is_running or before != len(stage.simulator.calls)):
        before = len(stage.simulator.calls)
        await asyncio.sleep(2)
