"""The requests that the simulator received and what became of them, for tests to read and to wait for."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """In the words of chat, for all APIs. The cached tokens are among those of the prompt."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


NOTHING = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as received, and how much of its response has been sent."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = b""
    deployment: str | None = None
    form: str | None = None  # "v1", "deployments" or "resource"
    api: str | None = None  # such as "chat/completions"
    behaviour: object = None  # None: the request was refused
    status: int | None = None  # None: not sent (yet)
    chunks: int = 0  # stream events sent, or 1 for a whole body
    tokens: int = 0  # completion tokens in those chunks
    usage: Usage | None = None  # the usage that the response reported
    billed: Usage = NOTHING  # the work done so far, reported or not
    finished: bool = False  # everything that the behaviour sends was sent
    left: bool = False  # the client closed the connection before that

    @property
    def ended(self) -> bool:
        return self.finished or self.left

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Total:
    """The calls of one deployment that were not refused, and the sums of the usage that they reported."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class Bell:
    """Waiting without sleeping: each change rings, and each waiter looks again."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


class Entry:
    """The journal's record of one call, replaced at each change."""

    def __init__(self, bell: Bell, call: Call) -> None:
        self._bell = bell
        self.call = call

    def note(self, **changes: Any) -> None:
        self.call = replace(self.call, **changes)
        self._bell.ring()

    def has_sent(self, chunks: int) -> bool:
        return self.call.status is not None and self.call.chunks >= chunks


class Journal:
    def __init__(self, keep: int) -> None:
        self.bell = Bell()
        self._entries: deque[Entry] = deque(maxlen=keep)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(entry.call for entry in self._entries)

    @property
    def totals(self) -> dict[str, Total]:
        names = {call.deployment for call in self.calls if call.behaviour is not None}
        return {name: self.total(name) for name in names if name is not None}

    def total(self, deployment: str) -> Total:
        calls = [call for call in self.calls if call.deployment == deployment and call.behaviour is not None]
        usages = [call.usage for call in calls if call.usage is not None]
        prompt = sum(usage.prompt_tokens for usage in usages)
        return Total(len(calls), prompt, sum(usage.completion_tokens for usage in usages))

    def begin(self, call: Call) -> Entry:
        entry = Entry(self.bell, call)
        self._entries.append(entry)
        self.bell.ring()
        return entry

    def take_ended(self) -> list[Call]:
        """Remove the calls that have ended, and return them. So a long run needs no memory for each."""
        ended = [entry for entry in self._entries if entry.call.ended]
        for entry in ended:
            self._entries.remove(entry)
        return [entry.call for entry in ended]

    def clear(self) -> None:
        self._entries.clear()

    async def until(self, true: Callable[[tuple[Call, ...]], bool], seconds: float) -> tuple[Call, ...]:
        try:
            async with asyncio.timeout(seconds):
                await self.bell.until(lambda: true(self.calls))
        except TimeoutError:
            raise TimeoutError(f"The condition did not become true. The calls are {self.calls}") from None
        return self.calls
