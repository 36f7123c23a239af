"""Finds and deletes rows by their keys, in any table."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple

from azure.core.exceptions import HttpResponseError
from azure.data.tables.aio import TableClient, TableServiceClient

from ..core.errors import StoreUnavailable
from ..core.turns import Turns
from .service import LARGEST_BATCH, REPORT_SECONDS, RowRefused, is_missing_row, translated

_log = logging.getLogger(__name__)


class RowKey(NamedTuple):
    """The row key of a row, and the time of its last write."""

    key: str
    written_at: datetime | None


class RowKeys:
    """The keys of all rows. Its calls may take `REPORT_SECONDS`, because no attendee waits for them."""

    def __init__(self, service: TableServiceClient, turns: Turns) -> None:
        self._service = service
        self._turns = turns

    async def partitions(self, table: str) -> AsyncIterator[str]:
        """Each partition key of the table. One query for each, so that the rows in between are not read.

        Raises:
            StoreUnavailable: the table is unavailable.
        """
        client, last = self._service.get_table_client(table), ""
        while True:
            rows = client.query_entities(
                "PartitionKey gt @last",
                parameters={"last": last},
                results_per_page=1,
                select=["PartitionKey"],
            )
            async with self._call():
                row = await anext(rows, None)
                found = "" if row is None else str(row["PartitionKey"])
            if row is None:
                return
            if found == last:
                raise StoreUnavailable  # otherwise this loop would never end
            last = found
            yield last

    async def pages(
        self, table: str, partition: str, before: str | None = None
    ) -> AsyncIterator[list[RowKey]]:
        """The keys of a partition's rows, in the service's pages. With `before`, only the keys below it.

        Raises:
            StoreUnavailable: the table is unavailable.
        """
        query, values = "PartitionKey eq @partition", {"partition": partition}
        if before is not None:
            query, values = f"{query} and RowKey lt @before", values | {"before": before}
        client = self._service.get_table_client(table)
        rows = client.query_entities(query, parameters=values, select=["RowKey", "Timestamp"])
        pages = rows.by_page()
        while True:
            async with self._call():
                page = await anext(pages, None)
                if page is None:
                    return
                found = [RowKey(row["RowKey"], row.metadata["timestamp"]) async for row in page]
            yield found

    async def delete(self, table: str, partition: str, keys: Sequence[str]) -> None:
        """Delete rows of one partition. Rows that no longer exist are skipped, and those that are refused.

        Raises:
            StoreUnavailable: the table is unavailable. Some of the rows may be deleted.
        """
        client = self._service.get_table_client(table)
        for first in range(0, len(keys), LARGEST_BATCH):
            rows = [{"PartitionKey": partition, "RowKey": key} for key in keys[first : first + LARGEST_BATCH]]
            if not await self._delete_together(client, rows):
                for row in rows:
                    await self._delete_alone(client, row)

    async def _delete_together(self, client: TableClient, rows: Sequence[dict[str, str]]) -> bool:
        """False if one of the rows cannot be deleted: the service then deletes none."""
        try:
            async with self._call():
                deleted = await client.submit_transaction([("delete", row) for row in rows])
        except RowRefused:
            return False
        except StoreUnavailable as error:
            # Another instance deletes too.
            if not isinstance(error.__cause__, HttpResponseError) or not is_missing_row(error.__cause__):
                raise
            return False
        if len(deleted) != len(rows):
            raise StoreUnavailable
        return True

    async def _delete_alone(self, client: TableClient, row: dict[str, str]) -> None:
        try:
            async with self._call():
                await client.delete_entity(row)
        except RowRefused:
            _log.error("cannot delete a row of the table %s: the service refuses its key", client.table_name)

    def _call(self) -> AbstractAsyncContextManager[None]:
        return translated(REPORT_SECONDS, self._turns)
