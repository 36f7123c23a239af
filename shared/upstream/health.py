"""Writes the health of each deployment to the table, in the background: no request waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from ..core.errors import StoreUnavailable
from ..core.models import Deployment, Health

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
"""Between two writes for one deployment."""

_Key = tuple[str, str]


class HealthStore(Protocol):
    async def write_health(self, deployment: Deployment, health: Health) -> None:
        """Write the health of a deployment.

        Raises:
            StoreUnavailable: the table does not respond.
        """


class HealthWriter:
    """Writes the latest health of each deployment. A write that fails is dropped: health is only a hint."""

    def __init__(
        self, store: HealthStore, now: Callable[[], datetime], pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._store = store
        self._now = now
        self._pause_seconds = pause_seconds
        self._latest: dict[_Key, tuple[Deployment, Health]] = {}
        self._written_at: dict[_Key, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def put(self, deployment: Deployment, status: str, cooling_seconds: float) -> None:
        """The deployment has this status now, and gets no calls for `cooling_seconds`. Never waits."""
        now, key = self._now(), (deployment.model, deployment.id)
        until = now + timedelta(seconds=cooling_seconds) if cooling_seconds > 0 else None
        is_due = key not in self._latest
        self._latest[key] = (deployment, Health(now, status, until))
        if is_due:
            writing = asyncio.get_running_loop().create_task(self._write(key))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)

    async def _write(self, key: _Key) -> None:
        """Write the latest value, after the pause."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._written_at.get(key, -math.inf) + self._pause_seconds - clock()))
        self._written_at[key] = clock()
        deployment, health = self._latest.pop(key)
        try:
            await self._store.write_health(deployment, health)
        except StoreUnavailable:
            _log.warning("the health of deployment %s could not be written", deployment.id)
        except Exception:
            _log.exception("the health of deployment %s could not be written", deployment.id)

    async def close(self) -> None:
        """Stop. Values that are not written yet are dropped."""
        for writing in self._writing:
            writing.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
