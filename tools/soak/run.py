"""A soak, from its start to its figures."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from time import monotonic

import aiohttp

from admin.tables import Tables
from shared.core.models import DEFAULT_APIS, EMBEDDINGS, Deployment
from shared.quota.amounts import UNLIMITED, Amount
from shared.quota.standing import TOTAL_ROW
from shared.tables.service import open_service
from tools.attack.stage import Stage
from tools.azurite import Azurite
from tools.simulator import Deployment as Simulated
from tools.simulator import Simulator, Slow
from tools.tap import TableTap

from . import samples
from .accounts import Accounts
from .fleet import Fleet
from .load import CHAT, EMBEDDING, Load
from .samples import Samples

_INSTANCES, _DAY_USERS, _MONEY_USERS = 3, 16, 16
_KEY_SETTING, _KEY = "SOAK_KEY", "key"
_PACE = Slow(headers_seconds=0.15, between_seconds=0.01)
_IDLE_SECONDS = 5.0
"""PROXY_QUOTA_IDLE_SECONDS and PROXY_USAGE_FLUSH_SECONDS; less in a run of some seconds."""
_MOST_SETTLE_SECONDS = 120
_REQUESTS_A_SECOND, _TOKENS_A_SECOND, _COST_A_SECOND = 0.95, 55.0, 3400.0
"""The limits: the busiest attendees reach theirs, and the budget is spent, before the end."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What runs, and what it has found so far."""

    stage: Stage
    fleet: Fleet
    accounts: Accounts
    load: Load
    samples: Samples
    credentials: dict[str, float]
    """With the mean pause of each, in seconds."""
    quiet_seconds: float
    """Longer than a grant or a count stays in memory."""

    async def run(self) -> AsyncIterator[str]:
        """Yields a line for each minute. Ends when the load has ended and all rows are written."""
        began, minute, calls = monotonic(), 0, 0
        async with asyncio.TaskGroup() as group:
            attendees = [group.create_task(self.load.run(*one)) for one in self.credentials.items()]
            faults = group.create_task(self.fleet.make_faults())
            while not all(task.done() for task in (*attendees, faults)):
                await asyncio.sleep(1)
                self.accounts.add_served(self.stage.simulator.take_ended())
                seconds = monotonic() - began
                if seconds > samples.SECONDS * len(self.samples):
                    self.samples.take(self.fleet.instances)
                if seconds > 60 * (minute + 1):
                    minute, before, calls = minute + 1, calls, self.load.results.total()
                    yield f"{minute:3} min  {calls - before:5} calls  {self.samples.last}  {self.done}"
        await self._settle()

    @property
    def done(self) -> str:
        """What happened so far."""
        every = self.load.results.most_common() + self.fleet.done.most_common()
        return ", ".join(f"{number} x {name}" for name, number in every)

    async def _settle(self) -> None:
        """Waits until no row changes. Raises TimeoutError."""
        async with asyncio.timeout(_MOST_SETTLE_SECONDS):
            before, rows = None, await self.accounts.read(self.stage)
            while self.stage.is_running or before != rows:
                await asyncio.sleep(self.quiet_seconds)
                before, rows = rows, await self.accounts.read(self.stage)
        self.accounts.add_served(self.stage.simulator.take_ended())

    def failures(self) -> Iterator[str]:
        for instance in self.fleet.instances:
            if instance.child.status is not None:
                yield f"An instance ended by itself: {instance.child.failure()}"
        yield from self.load.wrong
        yield from self.accounts.failures()
        yield from self.samples.failures()


@asynccontextmanager
async def opened(seconds: float, seed: int) -> AsyncIterator[Soak]:
    deployments: dict[str, Simulated] = {}
    async with AsyncExitStack() as stack:
        upstream = Simulator(keys={_KEY}, deployments=deployments, keep=100_000)
        await stack.enter_async_context(upstream)
        azurite = stack.enter_context(Azurite())
        tap = await stack.enter_async_context(TableTap(azurite.port).open())
        tables = Tables(service := open_service(azurite.connection_string, None))
        stack.push_async_callback(tables.close)
        await tables.create_tables()
        idle_seconds = min(_IDLE_SECONDS, seconds / 8)
        settings = dict.fromkeys(("PROXY_QUOTA_IDLE_SECONDS", "PROXY_USAGE_FLUSH_SECONDS"), str(idle_seconds))
        settings |= {_KEY_SETTING: _KEY, "PROXY_TABLES": tap.connection_string}
        env = os.environ | settings
        stage = Stage(upstream, deployments, tables, service, env)
        accounts = Accounts(await _deploy(stage))
        credentials = await _add_events(stage, accounts, seconds)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        fleet = Fleet(stage, tap, stack, Random(seed), seconds)  # noqa: S311 - no secret
        await asyncio.gather(*(fleet.start() for _ in range(_INSTANCES)))
        fleet.tables_healed_at = monotonic()  # for the first calls, everything is cold
        fleet.ends_at = monotonic() + seconds
        load = Load(fleet, accounts, http, seed)
        yield Soak(stage, fleet, accounts, load, Samples(), credentials, 2 * idle_seconds + 2)


async def _deploy(stage: Stage) -> list[Deployment]:
    """Two deployments of each model, so that a call can fail over."""
    made = []
    for model, prompt, completion in ((CHAT, "2.5", "10"), (EMBEDDING, "0.02", "0")):
        for place in ("east", "west"):
            name = f"{model}-{place}"
            one = Deployment(model, name, stage.simulator.url, name, auth=_KEY_SETTING)
            apis = (EMBEDDINGS,) if model == EMBEDDING else DEFAULT_APIS
            prices = Decimal(prompt), Decimal(completion)
            made.append(replace(one, apis=apis, prompt_price=prices[0], completion_price=prices[1]))
            await stage.tables.add_deployment(made[-1])
            stage.deployments[name] = Simulated(billed_as=model)
            stage.simulator.always(name, _PACE)
    return made


async def _add_events(stage: Stage, accounts: Accounts, seconds: float) -> dict[str, float]:
    """An event with limits for each day, and one with a budget. Returns the credentials with their pauses."""
    requests, tokens, cost = (
        int(seconds * rate) for rate in (_REQUESTS_A_SECOND, _TOKENS_A_SECOND, _COST_A_SECOND)
    )
    days = await stage.add_event(requests_per_day=requests, tokens_per_day=tokens)
    users = [f"user-{number}" for number in range(_DAY_USERS)]
    accounts.add(days, users, Amount(requests, tokens, UNLIMITED))
    money = await stage.add_event(cost_total=cost)
    accounts.add(money, [TOTAL_ROW], Amount(UNLIMITED, UNLIMITED, cost))
    pauses = {f"{days}/{user}": 0.2 + 0.1 * number for number, user in enumerate(users)}
    return pauses | {f"{money}/user-{number}": 1.0 for number in range(_MONEY_USERS)}
