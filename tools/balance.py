"""`python -m tools.balance`: what keeping a user to one deployment does to balance, by the app's own rule.

Attendees think, ask, wait for the answer and think again, all at random, against deployments that have a
prompt cache each. Time is simulated, so an hour takes a moment and comes out the same each time.
"""

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from shared.core.models import Deployment
from shared.upstream.candidate import Candidate
from shared.upstream.routing import Routes, Routing

MODEL = "m"
DEPLOYMENTS = 3
ANSWER_SECONDS = 6.0
THINK_SECONDS = 30.0
CACHE_SECONDS = 300.0
"""After so long without use a prompt is forgotten (Azure OpenAI, "Prompt caching": 5 to 10 minutes)."""
HOUR = 3600.0

Rule = Callable[[Routes, str, list[Candidate]], Candidate | None]


@dataclass
class Seen:
    """What one run came to."""

    calls: Counter[str] = field(default_factory=Counter)
    hits: int = 0
    peaks: list[float] = field(default_factory=list)
    """At each call: the busiest deployment's calls in flight, in parts of its fair share."""


class _Rows:
    async def deployments(self) -> list[Deployment]:
        return [Deployment(MODEL, f"d{n}", f"https://{n}.example", MODEL) for n in range(DEPLOYMENTS)]


def by_app(routes: Routes, user: str, _: list[Candidate]) -> Candidate | None:
    return routes.choose(MODEL, user)


def by_user_alone(routes: Routes, user: str, candidates: list[Candidate]) -> Candidate | None:
    """As if nothing were in flight."""
    busy = [one.in_flight for one in candidates]
    for one in candidates:
        one.in_flight = 0
    chosen = routes.choose(MODEL, user)
    for one, count in zip(candidates, busy, strict=True):
        one.in_flight = count
    return chosen


def by_load_alone(_: Routes, __: str, candidates: list[Candidate]) -> Candidate | None:
    return min(candidates, key=lambda one: (one.in_flight, random.random()))  # noqa: S311 - no secret


async def run(attendees: int, rule: Rule) -> Seen:
    """One hour."""
    draw = random.Random(attendees)  # noqa: S311 - no secret
    random.seed(attendees)
    now = 0.0
    routes = await Routing(_Rows(), HOUR * 2, lambda: now, lambda *_: None).routes()
    candidates = [one for tier in routes.tiers(MODEL) for one in tier.candidates]
    seen, cached = Seen(), dict[tuple[str, str], float]()
    todo: list[tuple[float, int, str, Candidate | None]] = []
    for number in range(attendees):
        heapq.heappush(todo, (draw.expovariate(1 / THINK_SECONDS), number, f"user-{number}", None))
    order = attendees
    while todo[0][0] < HOUR:
        now, _, user, asked = heapq.heappop(todo)
        if asked is not None:
            asked.end()
            due, asked = now + draw.expovariate(1 / THINK_SECONDS), None
        else:
            asked = rule(routes, user, candidates)
            assert asked is not None  # noqa: S101 - none of them ever fails
            asked.begin()
            name = asked.deployment.id
            seen.calls[name] += 1
            seen.hits += now - cached.get((user, name), -HOUR) < CACHE_SECONDS
            cached[user, name] = now
            busy = [one.in_flight for one in candidates]
            seen.peaks.append(max(busy) / max(1.0, sum(busy) / len(busy)))
            due = now + draw.expovariate(1 / ANSWER_SECONDS)
        order += 1
        heapq.heappush(todo, (due, order, user, asked))
    return seen


async def main() -> None:
    pace = f"{THINK_SECONDS:g} s to think, {ANSWER_SECONDS:g} s to answer"
    print(f"{DEPLOYMENTS} equal deployments, {pace}, one hour")
    print("| attendees | rule | calls of each deployment | busiest against its share, mean | prompt cached |")
    print("|---|---|---|---|---|")
    for attendees in (15, 60, 300):
        rules = {
            "the app's": by_app,
            "user alone": by_user_alone,
            "least calls in flight alone": by_load_alone,
        }
        for name, rule in rules.items():
            seen = await run(attendees, rule)
            calls = sum(seen.calls.values())
            shares = ", ".join(f"{count / calls:.0%}" for _, count in sorted(seen.calls.items()))
            print(f"| {attendees} | {name} | {shares} | {fmean(seen.peaks):.2f} | {seen.hits / calls:.0%} |")


if __name__ == "__main__":
    asyncio.run(main())
