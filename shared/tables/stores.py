"""The proxy's stores on Azure Table Storage: all that the running app reads, writes and removes there."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple

from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from ..core.hashing import hashed
from ..core.models import Deployment, Event, Health, UsageRow
from ..core.turns import Turns
from ..quota.ledger_row import Conflict, Key
from ..quota.ledger_row import Row as LedgerRow
from .rows import (
    EVENT_ROW,
    UNREADABLE,
    deployment_from_row,
    event_from_row,
    health_to_row,
    ledger_from_row,
    ledger_to_row,
    usage_to_row,
)
from .service import (
    CALL_SECONDS,
    DEPLOYMENTS,
    EVENTS,
    QUOTAS,
    REPORT_SECONDS,
    USAGE,
    not_set_up,
    readable,
    readable_or_none,
    translated,
)

_log = logging.getLogger(__name__)

NOT_FOUND: Final = 404
TABLE_NOT_FOUND: Final = "TableNotFound"
LARGEST_BATCH: Final = 100
"""Rows in one entity-group transaction (Azure Table Storage, "Performing entity group transactions")."""


class RowKey(NamedTuple):
    """Of one row, and when it was last written."""

    key: str
    written_at: datetime | None


class Tables:
    """Every store of the proxy: of events, deployments and their health, the ledger and the usage."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self._events = service.get_table_client(EVENTS)
        self._deployments = service.get_table_client(DEPLOYMENTS)
        self._quotas = service.get_table_client(QUOTAS)
        self._usage = service.get_table_client(USAGE)
        self._turns = Turns()

    def _call(self, seconds: float = CALL_SECONDS) -> AbstractAsyncContextManager[None]:
        """One call of a table; those that come together begin one in each turn of the loop.

        Raises:
            AlreadyExists, StoreUnavailable: see `translated`.
        """
        return translated(seconds, self._turns)

    async def event(self, code: str) -> Event | None:
        """The event of that code; None when there is none.

        Raises:
            StoreUnavailable: the table does not answer, or the row cannot be read.
        """
        async with self._call():
            try:
                row = await self._events.get_entity(code, EVENT_ROW)
            except ResourceNotFoundError as error:
                if error.error_code == TABLE_NOT_FOUND:  # type: ignore[attr-defined] # set by azure-data-tables
                    _log.error("the table %s is not there", EVENTS)
                    raise
                return None
        return readable(event_from_row, row)

    async def deployments(self) -> list[Deployment]:
        """Every deployment; a row that cannot be read is left out, and logged.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with self._call():
            rows = [row async for row in self._deployments.list_entities()]
        found = (readable_or_none(deployment_from_row, row, DEPLOYMENTS) for row in rows)
        return [deployment for deployment in found if deployment is not None]

    async def read(self, key: Key) -> LedgerRow:
        """A row of the table `quotas`; an empty one where there is none.

        Raises:
            StoreUnavailable: the table does not answer, or the row cannot be read.
        """
        async with self._call():
            try:
                row = await self._quotas.get_entity(*key)
            except ResourceNotFoundError:
                return LedgerRow()
        try:
            return ledger_from_row(row)
        except UNREADABLE as error:
            user, _, day = key.row.rpartition(":")
            _log.exception(
                "the row of event %s, user %s, day %s in the table %s cannot be read",
                *(key.event_code, hashed(user), day, QUOTAS),
            )
            raise not_set_up() from error

    async def write(self, key: Key, row: LedgerRow) -> LedgerRow:
        """Write a row of the table `quotas` if nobody has since it was read.

        Never sent twice, neither by Azure's library nor by aiohttp, which repeats a PUT (not a PATCH, which
        MERGE is) on a connection that was closed: a second could meet its own first and call it a conflict.

        Raises:
            Conflict: somebody has.
            StoreUnavailable: the table does not answer.
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
            except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
                raise Conflict from error
        return row._replace(version=written["etag"])

    async def check(self) -> None:
        """Whether the tables answer.

        Raises:
            StoreUnavailable: they do not.
        """
        await self.event("-")

    async def write_health(self, deployment: Deployment, health: Health) -> None:
        """Note beside a deployment how it was last seen; no matter if it is gone.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        row = health_to_row(deployment, health)
        async with self._call():
            with suppress(ResourceNotFoundError):
                await self._deployments.update_entity(row, mode=UpdateMode.MERGE)

    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        """Write what `writer` counted: whole rows that only it writes, so the same may be written again.

        Raises:
            StoreUnavailable: the table does not answer; some of the rows may be written.
        """
        for _, group in groupby(sorted(rows), key=lambda row: row.event_code):
            entities = [usage_to_row(row, writer) for row in group]
            for first in range(0, len(entities), LARGEST_BATCH):
                batch = entities[first : first + LARGEST_BATCH]
                async with self._call():
                    await self._usage.submit_transaction(
                        [("upsert", entity, {"mode": UpdateMode.REPLACE}) for entity in batch]
                    )

    async def partitions(self, table: str) -> AsyncIterator[str]:
        """Each partition key of the table, found by a query of its own: the rows between are not read.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        client, last = self._service.get_table_client(table), ""
        while True:
            rows = client.query_entities(
                "PartitionKey gt @last",
                parameters={"last": last},
                results_per_page=1,
                select=["PartitionKey"],
            )
            async with self._call(REPORT_SECONDS):
                row = await anext(rows, None)
            if row is None:
                return
            last = row["PartitionKey"]
            yield last

    async def keys(
        self, table: str, partition: str, before: str | None = None
    ) -> AsyncIterator[list[RowKey]]:
        """The keys of a partition's rows, those below `before`, in the pages in which the service gives them.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        query, values = "PartitionKey eq @partition", {"partition": partition}
        if before is not None:
            query, values = f"{query} and RowKey lt @before", values | {"before": before}
        client = self._service.get_table_client(table)
        rows = client.query_entities(query, parameters=values, select=["RowKey", "Timestamp"])
        pages = rows.by_page()
        while True:
            async with self._call(REPORT_SECONDS):
                page = await anext(pages, None)
                if page is None:
                    return
                found = [RowKey(row["RowKey"], row.metadata["timestamp"]) async for row in page]
            yield found

    async def delete_rows(self, table: str, partition: str, keys: Sequence[str]) -> None:
        """Remove rows of one partition; no matter if some are gone.

        Raises:
            StoreUnavailable: the table does not answer; some of the rows may be removed.
        """
        client = self._service.get_table_client(table)
        for first in range(0, len(keys), LARGEST_BATCH):
            rows = [{"PartitionKey": partition, "RowKey": key} for key in keys[first : first + LARGEST_BATCH]]
            async with self._call(REPORT_SECONDS):
                try:
                    await client.submit_transaction([("delete", row) for row in rows])
                except HttpResponseError as error:
                    if error.status_code != NOT_FOUND:
                        raise
                    # Somebody else removes too, and one row that is gone undoes a whole transaction.
                    for row in rows:
                        await client.delete_entity(row)

    async def close(self) -> None:
        await self._service.close()
