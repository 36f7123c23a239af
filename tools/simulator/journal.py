"""What the simulator received and what became of it, for tests to read and to wait for."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .access import Form
from .behaviours import Behaviour
from .bell import Bell
from .plans import Headers, Piece, Usage


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it was received, and how far its answer has come."""

    number: int  # counts from 1
    at: datetime
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = b""
    deployment: str | None = None
    form: Form | None = None
    behaviour: Behaviour | None = None  # None: it was refused before any was chosen
    status: int | None = None  # None: not sent (yet)
    chunks: int = 0  # pieces sent: events of a stream, or 1 for a plain body
    tokens: int = 0  # completion tokens in those pieces
    usage: Usage | None = None  # what the client was told, if it was
    finished: bool = False  # everything meant to be sent was sent, be it a cut
    left: bool = False  # the client closed the connection before that

    @property
    def ended(self) -> bool:
        return self.finished or self.left

    @property
    def json(self) -> Any:
        """The body parsed, or None where it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Total:
    """Of one deployment: its calls, those that reported usage, and the sums that they reported."""

    calls: int = 0
    answered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Entry:
    """The journal's side of a call under way. `call` is right when it is read."""

    def __init__(self, journal: "Journal", received: Call) -> None:
        self._journal = journal
        self._received = received
        self._chunks = 0
        self._tokens = 0

    @property
    def call(self) -> Call:
        return replace(self._received, chunks=self._chunks, tokens=self._tokens)

    def note(self, **changes: Any) -> None:
        """Change fields of the call by name."""
        self._received = replace(self._received, **changes)
        self._journal.bell.ring()

    def sent(self, piece: Piece) -> None:
        self._chunks += 1
        self._tokens += piece.tokens
        if piece.usage is not None:
            self._received = replace(self._received, usage=piece.usage)
            self._journal.add_usage(self._received.deployment or "", piece.usage)
        self._journal.bell.ring()


class Journal:
    def __init__(self, keep: int) -> None:
        self.bell = Bell()
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._totals: dict[str, Total] = {}
        self._count = 0

    @property
    def calls(self) -> tuple[Call, ...]:
        """The last calls, oldest first."""
        return tuple(entry.call for entry in self._entries)

    @property
    def totals(self) -> dict[str, Total]:
        """By deployment, of all calls ever, those no longer in `calls` too."""
        return dict(self._totals)

    def total(self, deployment: str) -> Total:
        return self._totals.get(deployment, Total())

    def begin(self, at: datetime, method: str, path: str, query: str, headers: Headers) -> Entry:
        self._count += 1
        entry = Entry(self, Call(self._count, at, method, path, query, headers))
        self._entries.append(entry)
        self.bell.ring()
        return entry

    def add_call(self, deployment: str) -> int:
        """Returns how many the deployment has had, this one included."""
        total = self.total(deployment)
        self._totals[deployment] = replace(total, calls=total.calls + 1)
        return total.calls + 1

    def add_usage(self, deployment: str, usage: Usage) -> None:
        total = self.total(deployment)
        self._totals[deployment] = Total(
            total.calls,
            total.answered + 1,
            total.prompt_tokens + usage.prompt_tokens,
            total.completion_tokens + usage.completion_tokens,
        )

    def clear(self) -> None:
        self._entries.clear()
        self._totals.clear()

    async def until(self, true: Callable[[tuple[Call, ...]], bool], patience: float) -> tuple[Call, ...]:
        try:
            async with asyncio.timeout(patience):
                await self.bell.until(lambda: true(self.calls))
        except TimeoutError:
            raise TimeoutError(f"it did not come true; the calls are {self.calls}") from None
        return self.calls
