"""The table `attendees`: the names of an event that are taken. No call of an attendee reads it.

Each event's partition has a counter, which every change of its names writes in the same transaction. So the
seats are exact, over any number of instances.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple

from azure.core import MatchConditions
from azure.data.tables import TableEntity, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableServiceClient

from ..core.errors import StoreUnavailable
from ..core.ids import new_id
from ..core.turns import Turns
from .columns import UNREADABLE, count, int64, text, time
from .service import (
    ATTENDEES,
    CALL_SECONDS,
    LARGEST_BATCH,
    REPORT_SECONDS,
    error_code,
    find_row,
    translated,
)

_log = logging.getLogger(__name__)

SEATS_ROW = ":seats"
"""The row key of the counter. No name contains a colon."""

TRIES = 60
"""Tries of a change while other instances change the same event's names."""

WAIT_SECONDS = 10.0
"""How long a claim waits for the claims before it, while the table is slow."""

MOST_EVENTS = 1000

_CONFLICTS = {"EntityAlreadyExists", "UpdateConditionNotSatisfied", "ResourceNotFound", "EntityNotFound"}


class Claimed(Enum):
    """What came of an attempt to take a name."""

    TAKEN = auto()
    NAME_TAKEN = auto()
    NO_SEATS_LEFT = auto()


class AttendeeRow(NamedTuple):
    """One row: a name that is taken."""

    user: str
    added_at: datetime | None
    source: str
    """`claim` or `roster`."""
    note: str = ""
    team: str = ""


class _Counter(NamedTuple):
    taken: int
    version: str | None
    """None if there is no row yet."""


class Attendees:
    """The names of all events that are taken.

    Each method raises StoreUnavailable if the table cannot be used.
    """

    def __init__(self, service: TableServiceClient, turns: Turns) -> None:
        self._rows = service.get_table_client(ATTENDEES)
        self._turns = turns
        self._locks: dict[str, asyncio.Lock] = {}

    async def claim(self, event_code: str, user: str, seats: int | None, now: datetime) -> Claimed:
        """Take a name, unless it is taken or all seats are. Among several who claim it, exactly one gets it.

        If the response of the table is lost, the row is read again, so that the name is not lost with it.
        """
        row = {"source": "claim", "added_at": now, "claim_id": new_id()}
        async with self._alone(event_code):
            for attempt in range(TRIES):
                if found := await self._find(event_code, user):
                    return Claimed.TAKEN if found.get("claim_id") == row["claim_id"] else Claimed.NAME_TAKEN
                counter = await self._counter(event_code)
                if seats is not None and counter.taken >= seats:
                    return Claimed.NO_SEATS_LEFT
                try:
                    if await self._change(event_code, counter, {user: row}, ()):
                        return Claimed.TAKEN
                except StoreUnavailable:
                    if attempt:  # read the row once, to see whether the write arrived
                        raise
                await asyncio.sleep(random.random() * min(0.005 * 2**attempt, 0.1))  # noqa: S311 - jitter
        raise StoreUnavailable("Too many people take a name at this moment. Try again in a second.", 1)

    async def is_taken(self, event_code: str, user: str) -> bool:
        return await self._find(event_code, user) is not None

    async def add(self, event_code: str, rows: Mapping[str, Mapping[str, Any]]) -> int:
        """Add names, with the columns of each. Names that are taken stay. Returns how many are new.

        It can be repeated after a failure.
        """
        known = {one.user for one in await self.list(event_code)}
        names = [user for user in rows if user not in known]
        for first in range(0, len(names), LARGEST_BATCH - 1):
            batch = names[first : first + LARGEST_BATCH - 1]
            await self._repeat(event_code, {user: rows[user] for user in batch}, ())
        return len(names)

    async def remove(self, event_code: str, user: str) -> bool:
        """Free a name. False if it is not taken."""
        if await self._find(event_code, user) is None:
            return False
        await self._repeat(event_code, {}, (user,))
        return True

    async def list(self, event_code: str) -> list[AttendeeRow]:
        """Every name that is taken, in alphabetical order."""
        async with translated(REPORT_SECONDS, self._turns):
            found = self._rows.query_entities("PartitionKey eq @event", parameters={"event": event_code})
            rows = [row async for row in found if row["RowKey"] != SEATS_ROW]
        return [_attendee(row) for row in rows]

    async def _repeat(
        self, event_code: str, added: Mapping[str, Mapping[str, Any]], removed: Collection[str]
    ) -> None:
        """Change some names. Those that others have added or removed since are left out."""
        for attempt in range(TRIES):
            there = [user for user in (*added, *removed) if attempt and await self._find(event_code, user)]
            new = {user: row for user, row in added.items() if user not in there}
            gone = [user for user in removed if not attempt or user in there]
            if not new and not gone:
                return
            if await self._change(event_code, await self._counter(event_code), new, gone):
                return
            await asyncio.sleep(random.random() * min(0.005 * 2**attempt, 0.1))  # noqa: S311 - jitter
        raise StoreUnavailable

    async def _change(
        self,
        event_code: str,
        counter: _Counter,
        added: Mapping[str, Mapping[str, Any]],
        removed: Sequence[str],
    ) -> bool:
        """Add and remove names, and count them, in one transaction. False if another change came first.

        It is never repeated inside: a second try could meet the rows of the first.
        """
        taken = max(0, counter.taken + len(added) - len(removed))
        count_row = {"PartitionKey": event_code, "RowKey": SEATS_ROW, "taken": int64(taken)}
        changes: list[Any] = [
            ("create", {"PartitionKey": event_code, "RowKey": user, **row}) for user, row in added.items()
        ]
        changes += [("delete", {"PartitionKey": event_code, "RowKey": user}) for user in removed]
        if counter.version is None:
            changes.append(("create", count_row))
        else:
            condition = {"etag": counter.version, "match_condition": MatchConditions.IfNotModified}
            changes.append(("update", count_row, {"mode": UpdateMode.MERGE, **condition}))
        async with self._call():
            try:
                await self._rows.submit_transaction(changes, retry_total=0)
            except TableTransactionError as error:
                if error_code(error) not in _CONFLICTS:
                    raise
                return False
        return True

    async def _find(self, event_code: str, user: str) -> TableEntity | None:
        async with self._call():
            return await find_row(self._rows, event_code, user)

    async def _counter(self, event_code: str) -> _Counter:
        row = await self._find(event_code, SEATS_ROW)
        if row is None:
            return _Counter(len(await self.list(event_code)), None)
        try:
            return _Counter(count(row, "taken"), row.metadata["etag"])
        except UNREADABLE as error:
            _log.exception("cannot read the counter of the table %s for event %s", ATTENDEES, event_code)
            raise StoreUnavailable from error

    @asynccontextmanager
    async def _alone(self, event_code: str) -> AsyncIterator[None]:
        """One claim at a time on each instance: they would only meet each other's conflicts."""
        lock = self._lock(event_code)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await lock.acquire()
        except TimeoutError as error:
            raise StoreUnavailable from error
        try:
            yield
        finally:
            lock.release()

    def _lock(self, event_code: str) -> asyncio.Lock:
        lock = self._locks.get(event_code)
        if lock is None:
            if len(self._locks) >= MOST_EVENTS:
                del self._locks[next(iter(self._locks))]
            lock = self._locks[event_code] = asyncio.Lock()
        return lock

    def _call(self) -> AbstractAsyncContextManager[None]:
        return translated(CALL_SECONDS, self._turns)


def _attendee(row: Mapping[str, Any]) -> AttendeeRow:
    """A row whose columns cannot be read still means that its name is taken."""
    try:
        added_at = time(row, "added_at")
    except UNREADABLE:
        added_at = None
    try:
        return AttendeeRow(row["RowKey"], added_at, *(text(row, name) for name in ("source", "note", "team")))
    except UNREADABLE:
        return AttendeeRow(row["RowKey"], added_at, "")
