"""Many clients call at once until a limit is used up. What the upstream bills is compared with the limit."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any

import aiohttp

from tools.simulator import Answer, Deployment

from .stage import TEXT, TOTAL, USER, Stage

_SHORT = Answer("Yes.")
_REFUSALS_TO_STOP = 3
_PAUSE_SECONDS = 1.0
_FORMAT = "{:14} {:>9} {:>11} {:>11} {:>8}  {}"
HEADING = _FORMAT.format("limit", "tokens", "billed", "charged", "÷ limit", "refusals")


@dataclass(frozen=True, slots=True)
class Plan:
    clients: int = 64
    instances: int = 3
    seconds: float = 8.0  # of each attack, before the calls that run then end


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    body: str
    limit: int
    answer: Answer = _SHORT
    tokens_per_second: float = 2000.0
    leave_after: float | None = None  # seconds
    at_least: float = 0.0  # the part of the limit that must be served before a refusal stays


@dataclass(frozen=True, slots=True)
class Note:
    """The result of another kind of attack."""

    text: str
    failed: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Outcome:
    attack: Attack
    limit: str
    billed: int = 0
    charged: int = 0
    reached: int | None = (
        None  # what was billed at the first refusal that stayed: later tries were refused too
    )
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> bool:
        too_early = self.reached is not None and self.reached < self.attack.at_least * self.attack.limit
        return self.billed > self.attack.limit or too_early

    def __str__(self) -> str:
        most, limit = self.attack.limit, self.limit
        refusals = [f"{number} x {code}" for code, number in self.refusals.most_common(3)]
        if self.attack.at_least and self.reached is not None:
            refusals.append(f"one stays at {self.reached / most:.3f}")
        figures = (f"{most:,}", f"{self.billed:,}", f"{self.charged:,}", f"{self.billed / most:.3f}")
        return _FORMAT.format(limit, *figures, ", ".join(refusals) or "none")


def chat(content: Any, model: str = TEXT, **more: Any) -> str:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more})


async def run(stage: Stage, plan: Plan, attack: Attack, limit: str) -> Outcome:
    """Attack a user's day, or the total of an event with many users."""
    return await use_up(stage, plan, attack, limit, await prepare(stage, attack, limit))


async def prepare(stage: Stage, attack: Attack, limit: str) -> str:
    """Returns the code of a new event."""
    model = json.loads(attack.body)["model"]
    stage.deployments[model] = Deployment(billed_as=model, tokens_per_second=attack.tokens_per_second)
    stage.simulator.reset()
    stage.simulator.always(model, attack.answer)
    return await stage.add_event(**{limit: attack.limit})


async def use_up(stage: Stage, plan: Plan, attack: Attack, limit: str, code: str) -> Outcome:
    outcome, ends_at = Outcome(attack, limit), monotonic() + plan.seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        def client(number: int) -> Client:
            credential = f"{code}/user-{number}" if limit == TOTAL else f"{code}/{USER}"
            billed, body, after = lambda: stage.billed, lambda _: attack.body, attack.leave_after
            leaves = (lambda _: asyncio.sleep(after)) if after else None
            return Client(http, stage.urls, credential, outcome, billed, body, leaves)

        await asyncio.gather(*(client(number).run(number, ends_at) for number in range(plan.clients)))
    outcome.charged = (await stage.used(code, limit)).tokens
    outcome.billed = stage.billed
    return outcome


@dataclass(frozen=True, slots=True)
class Client:
    http: aiohttp.ClientSession
    urls: Sequence[str]
    credential: str
    outcome: Outcome
    billed: Callable[[], int]
    body: Callable[[int], str]
    """Of its call with this number."""
    leaves: Callable[[str], Awaitable[None]] | None
    """Ends when the client leaves the call with this body."""
    says_if_lasting: bool = True
    """Whether `x-should-retry` says if a refusal lasts. If not, each 4xx may last."""

    async def run(self, number: int, ends_at: float) -> None:
        """Calls one instance after the other, until a refusal stays or the time is up."""
        refused_at = list[int]()
        for turn in count(number):
            if monotonic() > ends_at:
                return
            if not await self._is_refused(self.urls[turn % len(self.urls)], self.body(turn)):
                refused_at.clear()
                continue
            refused_at.append(self.billed())
            if len(refused_at) == _REFUSALS_TO_STOP:
                self.outcome.reached = min(refused_at[0], self.outcome.reached or refused_at[0])
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_refused(self, url: str, body: str) -> bool:
        """Returns whether the call was refused for good, and not because of others that still run."""
        call = asyncio.ensure_future(self._post(url, body))
        if self.leaves:
            leaving = asyncio.ensure_future(self.leaves(body))
            await asyncio.wait((call, leaving), return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not call.done():
                call.cancel()
                return False
        try:
            got, text = await call
        except aiohttp.ClientError:
            return False
        if got.status == 200:
            return False
        lasting = got.headers.get("x-should-retry") == "false" if self.says_if_lasting else got.status < 500
        code = json.loads(text)["error"]["code"] if text else got.status
        self.outcome.refusals[f"{code}" if lasting else f"{code} for now"] += 1
        if not lasting:
            await asyncio.sleep(min(_PAUSE_SECONDS, float(got.headers.get("retry-after", 1))))
        return lasting

    async def _post(self, url: str, body: str) -> tuple[aiohttp.ClientResponse, bytes]:
        headers = {"api-key": self.credential}
        async with self.http.post(f"{url}/v1/chat/completions", data=body, headers=headers) as got:
            return got, await got.read()
