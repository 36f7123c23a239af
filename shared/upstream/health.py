"""Notes in the table how this instance last saw each deployment: never on a request's path."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from ..core.errors import StoreUnavailable
from ..core.models import Deployment, Health

_log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 5.0
"""A deployment that comes and goes is written no more often."""

_Key = tuple[str, str]


class HealthStore(Protocol):
    async def write_health(self, deployment: Deployment, health: Health) -> None:
        """Note how a deployment was last seen.

        Raises:
            StoreUnavailable: when the table does not answer.
        """


class HealthNotes:
    """Writes in the background what `put` was told last. What cannot be written is left out: it is a hint."""

    def __init__(
        self, store: HealthStore, now: Callable[[], datetime], pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._store = store
        self._now = now
        self._pause_seconds = pause_seconds
        self._latest: dict[_Key, tuple[Deployment, Health]] = {}
        self._written_at: dict[_Key, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def put(self, deployment: Deployment, seen: str, cooling_seconds: float) -> None:
        """It was seen so just now, and is left alone for so long. Never waits."""
        now, key = self._now(), (deployment.model, deployment.id)
        until = now + timedelta(seconds=cooling_seconds) if cooling_seconds > 0 else None
        is_due = key not in self._latest
        self._latest[key] = (deployment, Health(now, seen, until))
        if is_due:
            writing = asyncio.get_running_loop().create_task(self._write(key))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)

    async def _write(self, key: _Key) -> None:
        """Whatever is the latest when it is this deployment's turn."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._written_at.get(key, -math.inf) + self._pause_seconds - clock()))
        self._written_at[key] = clock()
        deployment, health = self._latest.pop(key)
        try:
            await self._store.write_health(deployment, health)
        except StoreUnavailable:
            _log.warning("how deployment %s was seen could not be noted", deployment.id)

    async def close(self) -> None:
        """Leave what is not written."""
        for writing in self._writing:
            writing.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
