"""The tables of the proxy: what the running app reads and writes there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import groupby

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from ..core.counts import UsageRow
from ..core.errors import StoreUnavailable
from ..core.hashing import hashed
from ..core.ids import is_long_enough, new_secret
from ..core.models import Deployment, Event, Health
from ..core.turns import Turns
from ..quota.ledger_row import Conflict, Key, LedgerRow
from .attendees import Attendees
from .columns import UNREADABLE, Row
from .deployment_rows import deployment_from_row, health_to_row
from .desk import DeskTables
from .event_rows import EVENT_ROW, event_from_row
from .quota_rows import ledger_from_row, ledger_to_row
from .row_keys import RowKeys
from .service import (
    CALL_SECONDS,
    DEPLOYMENTS,
    EVENTS,
    LARGEST_BATCH,
    QUOTAS,
    REPORT_SECONDS,
    SCAN_SECONDS,
    USAGE,
    RowRefused,
    find_row,
    is_missing_row,
    not_set_up,
    readable,
    readable_or_none,
    translated,
)
from .usage_rows import usage_to_row

SECRET_TRIES = 4

_log = logging.getLogger(__name__)


class Tables:
    """Events, deployments and their health, the ledger of the quotas, and usage."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self._events = service.get_table_client(EVENTS)
        self._deployments = service.get_table_client(DEPLOYMENTS)
        self._quotas = service.get_table_client(QUOTAS)
        self._usage = service.get_table_client(USAGE)
        self._turns = Turns()
        self.row_keys = RowKeys(service, self._turns)
        self.desk = DeskTables(service, self._turns, self.event, self.read_ledger)
        self.attendees = Attendees(service, self._turns)

    def _call(self) -> AbstractAsyncContextManager[None]:
        """One table call. Simultaneous calls begin in different turns of the event loop.

        Raises:
            AlreadyExists, StoreUnavailable: see `translated`.
        """
        return translated(CALL_SECONDS, self._turns)

    async def event(self, code: str) -> Event | None:
        """The event with this code, or None if it does not exist.

        Raises:
            StoreUnavailable: the table is unavailable, or the row cannot be read.
        """
        async with self._call():
            row = await find_row(self._events, code, EVENT_ROW)
        return None if row is None else readable(event_from_row, row)

    async def renamed_event(self, first_code: str) -> Event | None:
        """The event that had this code first and has another one now, if there is one. Searches the table.

        Raises:
            StoreUnavailable: the table is unavailable, or the row cannot be read.
        """
        async with translated(REPORT_SECONDS, self._turns):
            found = self._events.query_entities("first_code eq @code", parameters={"code": first_code})
            rows = [row async for row in found]
        return readable(event_from_row, rows[0]) if rows else None

    async def add_id_secret(self, code: str) -> str | None:
        """Write a secret for response ids into an event's row that has no usable one. Returns its secret.

        None if the event does not exist.

        Raises:
            StoreUnavailable: the table is unavailable, or others change the row all the time.
        """
        for _ in range(SECRET_TRIES):
            async with self._call():
                try:
                    row = await self._events.get_entity(code, EVENT_ROW)
                    if is_long_enough(secret := str(row.get("id_secret", ""))):
                        return secret
                    change = {"PartitionKey": code, "RowKey": EVENT_ROW, "id_secret": new_secret()}
                    await self._events.update_entity(
                        change,
                        mode=UpdateMode.MERGE,
                        etag=row.metadata["etag"],
                        match_condition=MatchConditions.IfNotModified,
                        retry_total=0,
                    )
                except ResourceModifiedError:
                    continue
                except ResourceNotFoundError as error:
                    if not is_missing_row(error):
                        raise
                    return None
            return change["id_secret"]
        raise StoreUnavailable

    async def event_codes(self) -> frozenset[str]:
        """The codes of all events. Reads the keys only, in pages of `LARGEST_BATCH`.

        Raises:
            StoreUnavailable: the table is unavailable.
        """
        async with translated(SCAN_SECONDS, self._turns):
            rows = self._events.list_entities(select=["PartitionKey"], results_per_page=LARGEST_BATCH)
            return frozenset([row["PartitionKey"] async for row in rows])

    async def deployments(self) -> list[Deployment]:
        """Every deployment. A row that cannot be read is logged and left out.

        Raises:
            StoreUnavailable: the table is unavailable.
        """
        async with self._call():
            rows = [row async for row in self._deployments.list_entities()]
        found = (readable_or_none(deployment_from_row, row, DEPLOYMENTS) for row in rows)
        return [deployment for deployment in found if deployment is not None]

    async def read_ledger(self, key: Key) -> LedgerRow:
        """A row of the table `quotas`, empty if it does not exist.

        Raises:
            StoreUnavailable: the table is unavailable, or the row cannot be read.
        """
        async with self._call():
            row = await find_row(self._quotas, key.event_code, key.row)
        if row is None:
            return LedgerRow()
        try:
            return ledger_from_row(row)
        except UNREADABLE as error:
            user, _, day = key.row.rpartition(":")
            place = f"row of event {key.event_code}, user {hashed(user)}, day {day} in the table {QUOTAS}"
            _log.exception("cannot read the %s", place)
            raise not_set_up() from error

    async def write_ledger(self, key: Key, row: LedgerRow) -> LedgerRow:
        """Write a row of the table `quotas` if it has not changed since it was read.

        The write is never repeated, because a second one could find the row of the first and report a
        conflict. So `retry_total` is 0. An update is a merge, because aiohttp repeats a PUT on a closed
        connection, but not the PATCH of a merge.

        Raises:
            Conflict: the row has changed.
            StoreUnavailable: the table is unavailable.
        """
        entity = ledger_to_row(key, row)
        async with self._call():
            try:
                if row.version is None:
                    written = await self._quotas.create_entity(entity, retry_total=0)
                else:
                    written = await self._quotas.update_entity(
                        entity,
                        mode=UpdateMode.MERGE,
                        etag=row.version,
                        match_condition=MatchConditions.IfNotModified,
                        retry_total=0,
                    )
            except (ResourceExistsError, ResourceModifiedError):
                written = None
            except ResourceNotFoundError as error:
                if not is_missing_row(error):
                    raise
                written = None
        if written is None:
            raise Conflict
        if not written["etag"]:
            raise StoreUnavailable  # without its new version, the row may have been written or not
        return row._replace(version=written["etag"])

    async def check(self) -> None:
        """Check that the tables can be read.

        Raises:
            StoreUnavailable: they cannot.
        """
        await self.event("-")

    async def write_health(self, deployment: Deployment, health: Health) -> None:
        """Save the health of a deployment. Does nothing if the deployment has been deleted.

        Raises:
            StoreUnavailable: the table is unavailable.
        """
        row = health_to_row(deployment, health)
        async with self._call():
            with suppress(ResourceNotFoundError):
                await self._deployments.update_entity(row, mode=UpdateMode.MERGE)

    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        """Write the usage that `writer` counted. It can be repeated: no other writer has these rows.

        A row that the service does not accept is logged and left out.

        Raises:
            StoreUnavailable: the table is unavailable. Some of the rows may be written.
        """
        for _, group in groupby(sorted(rows), key=lambda row: row.event_code):
            entities = [usage_to_row(row, writer) for row in group]
            for first in range(0, len(entities), LARGEST_BATCH):
                await self._replace_usage(entities[first : first + LARGEST_BATCH])

    async def _replace_usage(self, batch: Sequence[Row]) -> None:
        """Write rows of one event together. If one is refused, write each by itself."""
        try:
            async with self._call():
                written = await self._usage.submit_transaction(
                    [("upsert", row, {"mode": UpdateMode.REPLACE}) for row in batch]
                )
        except RowRefused:
            if len(batch) > 1:
                for row in batch:
                    await self._replace_usage([row])
                return
            event_code, hour = batch[0]["PartitionKey"], batch[0]["RowKey"].partition(":")[0]
            _log.error("the table %s refused a row of event %s, hour %s: it is lost", USAGE, event_code, hour)
            return
        if len(written) != len(batch):
            raise StoreUnavailable

    async def close(self) -> None:
        await self._service.close()
