"""What is attacked: tables, upstreams on loopback and instances of the app, each in a process of its own."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from azure.data.tables.aio import TableServiceClient

from admin.tables import Tables
from shared.core.models import Deployment, Event
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key
from shared.quota.standing import TOTAL_ROW
from shared.tables.event_rows import event_to_row
from shared.tables.service import EVENTS, open_service
from tools import ports
from tools.azurite import Azurite
from tools.demo import new_event
from tools.processes import Child, attached
from tools.simulator import Deployment as Simulated
from tools.simulator import Simulator

TEXT, PICTURES, REASONING = "gpt-4o", "gpt-4o-mini", "o4-mini"
BARE = "bare"
"""The model of the benchmark's upstream, a process of its own: for measuring times."""
DAY, TOTAL = "tokens_per_day", "tokens_total"
USER = "amy"

PRICES = Decimal("2.5"), Decimal(10)
"""Of 1,000,000 prompt tokens and completion tokens of every model."""
KEY = "key"
"""Of the upstream."""

_KEY_SETTING = "ATTACK_KEY"
_PARALLEL = 1000  # calls at once of one user, so that the attack is not refused for that
_KEPT_CALLS = 50_000
_START_SECONDS = 60


class Instance(NamedTuple):
    child: Child
    url: str


@dataclass(slots=True)
class Stage:
    simulator: Simulator
    deployments: dict[str, Simulated]
    """Of the simulator, by model. They can change between attacks."""
    tables: Tables
    service: TableServiceClient
    env: dict[str, str]
    instances: list[Instance] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [instance.url for instance in self.instances]

    @property
    def is_running(self) -> bool:
        return not all(call.ended for call in self.simulator.calls)

    @property
    def billed(self) -> int:
        return sum(call.billed.total for call in self.simulator.calls)

    async def add_event(self, **limits: int) -> str:
        """An event with these limits and no others. Returns its code."""
        demo, code = new_event(datetime.now(UTC)), f"attacked-{secrets.token_hex(4)}"
        event = replace(Event(code, demo.name, demo.starts_at, demo.ends_at), **limits)  # type: ignore[arg-type]
        row = event_to_row(event) | {"parallel": _PARALLEL}
        await self.service.get_table_client(EVENTS).create_entity(row)
        return code

    async def used(self, code: str, limit: str) -> Amount:
        """What the ledger says, once nothing has changed for two seconds, or after half a minute."""
        one_user = limit.endswith("_per_day")
        key = Key(code, f"{USER}:{datetime.now(UTC).date()}" if one_user else TOTAL_ROW)
        seen, deadline = list[object](), monotonic() + 30
        while True:
            row = await self.tables.read_ledger(key)
            seen.append((row, self.billed))
            if monotonic() > deadline or (seen[-1:] * 5 == seen[-5:] and not self.is_running):
                return row.used
            await asyncio.sleep(0.5)

    @contextmanager
    def instance(self, **settings: str) -> Iterator[Instance]:
        command = attached(Path(sys.executable), "tools.functions_host", "--port", "0")
        with Child("app", command, env=self.env | settings) as child:
            yield Instance(child, child.expect("Functions host on ", _START_SECONDS).split()[-1])


@asynccontextmanager
async def opened(instances: int, idle_seconds: int = 1) -> AsyncIterator[Stage]:
    """`idle_seconds`: after these, an instance gives back what it does not use (15 by default)."""
    deployments: dict[str, Simulated] = {}
    async with AsyncExitStack() as stack:
        upstream = Simulator(keys={KEY}, deployments=deployments, keep=_KEPT_CALLS)
        await stack.enter_async_context(upstream)
        azurite, bare = stack.enter_context(Azurite()), ports.free()
        command = attached(Path(sys.executable), "tools.bench.upstream", str(bare))
        stack.enter_context(Child("upstream", command))
        tables = Tables(service := open_service(azurite.connection_string, None))
        stack.push_async_callback(tables.close)
        await tables.create_tables()
        for model in (TEXT, PICTURES, REASONING, BARE):
            url = f"http://{ports.HOST}:{bare}" if model == BARE else upstream.url
            deployment = Deployment(model, model, url, model, auth=_KEY_SETTING)
            prompt, completion = PRICES
            deployment = replace(deployment, prompt_price=prompt, completion_price=completion)
            await tables.add_deployment(deployment)
        settings = {_KEY_SETTING: KEY, "PROXY_TABLES": azurite.connection_string}
        env = os.environ | settings | {"PROXY_QUOTA_IDLE_SECONDS": str(idle_seconds)}
        stage = Stage(upstream, deployments, tables, service, env)
        for _ in range(instances):
            stage.instances.append(stack.enter_context(stage.instance()))
        yield stage
