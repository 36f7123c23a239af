"""The file of a backup: JSON lines that a person can read.

The first line says what the file is, each other line is a row, and the last line has the number of rows, so
that a file that is cut is recognized.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from admin.backup.values import from_json, to_json
from admin.errors import CommandError
from admin.tables import TABLES
from shared.tables.columns import Row

FORMAT = "azure-openai-event-proxy backup"
VERSION = 1
_OWNER_ONLY = 0o600
"""The file has event codes, which are secrets."""
_LONGEST_SHOWN = 60


class BackupRow(NamedTuple):
    table: str
    partition: str
    key: str
    columns: dict[str, Any]
    """As azure-data-tables takes them."""

    @property
    def entity(self) -> dict[str, Any]:
        return {**self.columns, "PartitionKey": self.partition, "RowKey": self.key}


def backup_row(table: str, row: Row) -> BackupRow:
    columns = {name: value for name, value in row.items() if name not in {"PartitionKey", "RowKey"}}
    return BackupRow(table, row["PartitionKey"], row["RowKey"], columns)


class BackupWriter:
    """Writes rows to a backup that is not complete yet."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.rows: Counter[str] = Counter()
        self._write(
            {"format": FORMAT, "version": VERSION, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        )

    def add(self, rows: Iterable[BackupRow]) -> None:
        for table, partition, key, columns in rows:
            values = {name: to_json(columns[name]) for name in columns}
            self._write({"table": table, "key": [partition, key], "columns": values})
            self.rows[table] += 1

    def end(self) -> None:
        self._write({"rows": self.rows.total()})

    def _write(self, line: Any) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_backup(file: Path) -> Iterator[BackupWriter]:
    """A new file, which gets its name only when it is complete. It never replaces another one.

    Raises CommandError if it exists or cannot be written.
    """
    if file.exists():
        raise CommandError(f"{file} exists. Use another name: a backup never replaces a file.")
    partial = file.with_name(f".{file.name}.new")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            writer = BackupWriter(stream)
            yield writer
            writer.end()
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"Cannot write {file}: {error.strerror or error}. Use another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read_backup(file: Path) -> list[BackupRow]:
    """Every row of a complete backup. Raises CommandError if it has a fault; the message names the line."""
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Cannot read {file}: {getattr(error, 'strerror', None) or error}.") from error
    _check_header(file, lines[:1])
    rows, ending = [], None
    places: dict[tuple[str, str, str], int] = {}
    for number, line in enumerate(lines[1:], 2):
        content = _parse(file, number, line)
        if number == len(lines) and content.keys() == {"rows"}:
            ending = content["rows"]
            break
        row = _row(file, number, content)
        if (first := places.setdefault(row[:3], number)) != number:
            raise CommandError(f"{file}, line {number}: line {first} has the same row. Remove one of them.")
        rows.append(row)
    if ending != len(rows):
        found = "has no last line" if ending is None else f"says {ending} rows, but has {len(rows)}"
        raise CommandError(f"{file} is not complete: it {found}. Use another backup.")
    return rows


def _check_header(file: Path, first: list[str]) -> None:
    with suppress(ValueError, AttributeError):
        header = json.loads(first[0]) if first else {}
        if header.get("format") == FORMAT:
            if header.get("version") != VERSION:
                raise CommandError(
                    f"{file} is of version {header.get('version')}. This manage.py reads version {VERSION}. "
                    "Use the manage.py that made it, or a newer one."
                )
            return
    raise CommandError(f"{file} is not a backup. `manage.py backup FILE` makes one.")


def _parse(file: Path, number: int, line: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        content = json.loads(line, parse_constant=_refuse)
        if isinstance(content, dict):
            return content
    raise _wrong(file, number, line)


def _refuse(_: str) -> None:
    raise ValueError


def _row(file: Path, number: int, content: dict[str, Any]) -> BackupRow:
    match content:
        case {"table": str(table), "key": [str(partition), str(key)], "columns": dict(columns), **rest} if (
            not rest
        ):
            if table not in TABLES:
                raise CommandError(
                    f"{file}, line {number}: there is no table {table!r}. Use one of {', '.join(TABLES)}."
                )
            with suppress(ValueError, TypeError):
                return BackupRow(table, partition, key, {name: from_json(columns[name]) for name in columns})
    raise _wrong(file, number, json.dumps(content, ensure_ascii=False))


def _wrong(file: Path, number: int, line: str) -> CommandError:
    shown = line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
    return CommandError(
        f"{file}, line {number} is not a row of a backup: {shown}. Correct it, or use another backup."
    )
