"""Finds and deletes rows by their keys, in any table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple

from azure.core.exceptions import HttpResponseError
from azure.data.tables.aio import TableServiceClient

from ..core.turns import Turns
from .service import LARGEST_BATCH, REPORT_SECONDS, translated

NOT_FOUND = 404


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
            if row is None:
                return
            last = row["PartitionKey"]
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
        """Delete rows of one partition. Rows that no longer exist are skipped.

        Raises:
            StoreUnavailable: the table is unavailable. Some of the rows may be deleted.
        """
        client = self._service.get_table_client(table)
        for first in range(0, len(keys), LARGEST_BATCH):
            rows = [{"PartitionKey": partition, "RowKey": key} for key in keys[first : first + LARGEST_BATCH]]
            async with self._call():
                try:
                    await client.submit_transaction([("delete", row) for row in rows])
                except HttpResponseError as error:
                    if error.status_code != NOT_FOUND:
                        raise
                    # Another instance deletes too. One missing row makes the whole transaction fail.
                    for row in rows:
                        await client.delete_entity(row)

    def _call(self) -> AbstractAsyncContextManager[None]:
        return translated(REPORT_SECONDS, self._turns)
