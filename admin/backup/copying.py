"""Reads every row into a backup, and writes the rows of a backup into empty tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from time import monotonic

import click

from admin.backup.file import BackupRow, backup_row, new_backup
from admin.backup.values import to_json
from admin.connection import explain
from admin.errors import CommandError, Failure
from admin.tables import TABLES, Tables
from shared.core.errors import StoreUnavailable
from shared.tables.service import EVENTS, LARGEST_BATCH

PROGRESS_SECONDS = 5.0
LARGEST_BATCH_BYTES = 2_000_000
"""Half of what a transaction may have (Azure Table Storage, "Performing entity group transactions")."""

_ORDER = (*(table for table in TABLES if table != EVENTS), EVENTS)
"""The events come last: a request is admitted only when its quota is there."""


class Progress:
    """Prints the number of rows every few seconds, to standard error."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._next = monotonic() + PROGRESS_SECONDS

    def show(self, rows: int) -> None:
        if monotonic() >= self._next:
            click.echo(f"  {rows:,} rows {self._done}", err=True)
            self._next = monotonic() + PROGRESS_SECONDS


async def back_up(tables: Tables, file: Path) -> dict[str, int]:
    """Write every row of every table to `file`, and return the number of rows of each table."""
    progress = Progress("saved")
    with new_backup(file) as backup:
        for table in TABLES:
            async for page in tables.pages(table):
                backup.add(backup_row(table, row) for row in page)
                progress.show(backup.rows.total())
    return {table: backup.rows[table] for table in TABLES}


async def restore(tables: Tables, rows: Sequence[BackupRow]) -> int:
    """Write the rows that are missing, and return their number.

    Raises:
        CommandError: the tables have another row than those of the backup. Nothing is written.
        Failure: the tables failed in the middle. The same call continues.
    """
    wanted = {row[:3]: row for row in rows}
    missing = {key: wanted[key] for key in wanted}
    for table in TABLES:
        async for page in tables.pages(table):
            for found in (backup_row(table, row) for row in page):
                if not _is_same(found, wanted.get(found[:3])):
                    raise CommandError(
                        f"The tables are not empty: {table} has the row {found.partition!r}, {found.key!r}, "
                        "which differs from the backup. Restore into empty tables."
                    )
                del missing[found[:3]]
    return await _write(tables, list(missing.values()))


async def _write(tables: Tables, rows: Sequence[BackupRow]) -> int:
    progress, written = Progress("restored"), 0
    for batch in _batches(rows):
        try:
            await tables.insert(batch[0].table, [row.entity for row in batch])
        except StoreUnavailable as error:
            raise Failure(
                f"{explain(error, tables.url)} {written:,} of {len(rows):,} rows are restored. "
                "Run the same command again: it continues."
            ) from error
        written += len(batch)
        progress.show(written)
    return written


def _batches(rows: Iterable[BackupRow]) -> Iterator[list[BackupRow]]:
    """The rows in transactions: of one partition, and not too many or too large."""
    ordered = sorted(rows, key=lambda row: (_ORDER.index(row.table), row.partition, row.key))
    for _, group in groupby(ordered, key=lambda row: row[:2]):
        batch: list[BackupRow] = []
        size = 0
        for row in group:
            length = len(json.dumps(_json(row)))
            if batch and (len(batch) == LARGEST_BATCH or size + length > LARGEST_BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(row)
            size += length
        yield batch


def _is_same(found: BackupRow, wanted: BackupRow | None) -> bool:
    return wanted is not None and _json(found) == _json(wanted)


def _json(row: BackupRow) -> dict[str, object]:
    return {name: to_json(row.columns[name]) for name in row.columns}
