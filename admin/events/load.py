"""Simulated attendees, who send real requests to the app: a rehearsal before the day."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import aiohttp

from admin.http import explain, open_session, parse_object
from shared.core.models import Usage
from shared.core.money import Prices

SECONDS = 200
"""The timeout of a request."""
PROMPTS = ((6, 200), (3, 1500), (1, 6000))
"""Of ten requests, how many have a prompt of how many tokens."""
MOST_OUTPUT_TOKENS = 300
PAUSE_SECONDS = 25.0
"""The mean pause between an answer and the next request: to read, think and type."""
LEAST_PAUSE_SECONDS = 2.0
BYTES_PER_TOKEN = 4
PROGRESS_SECONDS = 5.0

_TEXT = "Explain what this function does, and how to test it. "


class Plan(NamedTuple):
    """What to simulate. `budget` is in millionths of the currency."""

    url: str
    keys: tuple[str, ...]
    """The API key of each attendee."""
    model: str
    prices: Prices
    seconds: float
    budget: int


class Seen(NamedTuple):
    """One request. `code` is that of its error, or empty."""

    status: int
    code: str
    first_seconds: float | None
    """Until the first byte of an answer."""
    seconds: float
    cost: int


@dataclass(slots=True)
class Load:
    """The attendees of one rehearsal, and what they have seen so far."""

    plan: Plan
    seen: list[Seen] = field(default_factory=list)
    attending: int = 0
    """Attendees who have arrived."""
    attended_seconds: float = 0.0
    """Of all attendees together."""
    ended_by: str = "time"
    """What ended it: `time`, `budget` or `you`."""
    _spent: int = 0
    _reserved: int = 0
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spent(self) -> int:
        return self._spent

    async def run(self, show: Callable[[Load, float], None]) -> None:
        """Simulate until the time is up, the budget is used, or the task is cancelled.

        `show` is called from time to time, with the seconds since the beginning.
        """
        began = monotonic()
        async with open_session(self.plan.url, SECONDS) as session:
            tasks = [asyncio.create_task(self._attend(session, key)) for key in self.plan.keys]
            try:
                while not self._end.is_set() and (left := began + self.plan.seconds - monotonic()) > 0:
                    await self._sleep(min(left, PROGRESS_SECONDS))
                    show(self, monotonic() - began)
            except asyncio.CancelledError:
                self.ended_by = "you"
            self._end.set()
            _, running = await asyncio.wait(tasks, timeout=0 if self.ended_by == "you" else SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, session: aiohttp.ClientSession, key: str) -> None:
        """One attendee: arrives in the first half, most of them early, and asks again and again."""
        await self._sleep(random.triangular(0, self.plan.seconds / 2, 0))  # noqa: S311 - no secret
        began = monotonic()
        self.attending += not self._end.is_set()
        try:
            while not self._end.is_set():
                await self._ask(session, key)
                await self._sleep(max(LEAST_PAUSE_SECONDS, random.expovariate(1 / PAUSE_SECONDS)))
        finally:
            self.attended_seconds += monotonic() - began

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> None:
        prompt = _prompt()
        most = self.plan.prices.most_cost(len(prompt) + 100, MOST_OUTPUT_TOKENS)
        if self._spent + self._reserved + most > self.plan.budget:
            self.ended_by = "budget"
            self._end.set()
            return
        self._reserved += most
        cost = most  # if it is cancelled, its cost is not known
        try:
            seen = await self._send(session, key, prompt, most)
            self.seen.append(seen)
            cost = seen.cost
        finally:
            self._reserved -= most
            self._spent += cost

    async def _send(self, session: aiohttp.ClientSession, key: str, prompt: str, most: int) -> Seen:
        body = {
            "model": self.plan.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_completion_tokens": MOST_OUTPUT_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url, began, first = f"{self.plan.url}/v1/chat/completions", monotonic(), None
        data = b""
        try:
            async with session.post(url, json=body, headers={"api-key": key}) as response:
                async for piece in response.content.iter_any():
                    if first is None:
                        first = monotonic() - began
                    data += piece
                status = response.status
        except (aiohttp.ClientError, OSError) as failure:
            return Seen(0, explain(failure, self.plan.url), first, monotonic() - began, most)
        seconds = monotonic() - began
        if status != 200:
            error = parse_object(data.decode("utf-8", "replace")).get("error")
            code = error.get("code") if isinstance(error, dict) else None
            return Seen(status, str(code or f"status {status}"), None, seconds, 0)
        usage = _usage(data)
        if usage is None:
            return Seen(status, "incomplete stream", first, seconds, most)
        return Seen(status, "", first, seconds, self.plan.prices.cost(usage))

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end.wait()


def _prompt() -> str:
    """A text of one of the sizes. The number makes it differ from all others, so that it is not cached."""
    weights, sizes = zip(*PROMPTS, strict=True)
    (tokens,) = random.choices(sizes, weights)  # noqa: S311
    text = _TEXT * (tokens * BYTES_PER_TOKEN // len(_TEXT) + 1)
    return f"{random.randrange(10**9)} {text[: tokens * BYTES_PER_TOKEN]}"  # noqa: S311


def _usage(data: bytes) -> Usage | None:
    """The usage at the end of a stream; None if it is cut."""
    for line in reversed(data.split(b"\n")):
        if line.startswith(b"data: {") and b'"usage"' in line:
            found: Any = json.loads(line[6:]).get("usage")
            if isinstance(found, dict):
                cached = (found.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                return Usage(found["prompt_tokens"], found["completion_tokens"], cached)
    return None
