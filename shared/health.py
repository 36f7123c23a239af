"""Notes in the table how this instance last saw each deployment: never on a request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from .errors import StoreUnavailable
from .models import Deployment, Health

_log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 5.0
"""After each round of writing: a deployment that comes and goes is written no more often."""


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
        self._waiting: dict[tuple[str, str], tuple[Deployment, Health]] = {}
        self._writing: asyncio.Task[None] | None = None

    def put(self, deployment: Deployment, seen: str, cooling_seconds: float) -> None:
        """It was seen so just now, and is left alone for so long. Never waits."""
        now = self._now()
        until = now + timedelta(seconds=cooling_seconds) if cooling_seconds > 0 else None
        self._waiting[deployment.model, deployment.id] = (deployment, Health(now, seen, until))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            for deployment, health in waiting.values():
                try:
                    await self._store.write_health(deployment, health)
                except StoreUnavailable:
                    _log.warning("how deployment %s was seen could not be noted", deployment.id)
            await asyncio.sleep(self._pause_seconds)

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
