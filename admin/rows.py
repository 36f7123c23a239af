"""Rows that cannot be read, for example because they were edited by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from admin.errors import CommandError
from admin.options import option_name
from shared.core.counts import UsageRow
from shared.core.models import LIMITS, Deployment, Event
from shared.events.credentials import is_event_code
from shared.tables import deployment_rows, event_rows
from shared.tables.columns import UNREADABLE, Reader, Row, plain
from shared.tables.usage_rows import COLUMNS as COUNTS
from shared.tables.usage_rows import usage_from_row

HIDDEN = "(secret)"
"""In place of the value of a secret."""

LONGEST_VALUE = 80
"""The characters of a value that a message shows."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """How the rows of one table are read and corrected."""

    name: str
    read: Callable[[Row], T_co]
    columns: Mapping[str, Reader]
    options: Mapping[str, str]
    """By column: the option of `update` that replaces its value."""
    placeholders: Mapping[str, Any]
    """Values for required columns that a command is about to replace."""


class BadRow(NamedTuple):
    kind: Kind[Any]
    row: Row
    problems: Mapping[str, str]
    """What is wrong, by column."""

    @property
    def key(self) -> tuple[str, str]:
        return self.row["PartitionKey"], self.row["RowKey"]

    @property
    def problem(self) -> str:
        return ", ".join(self.problems.values())

    @property
    def name(self) -> str:
        """As a command names the row."""
        partition, row = self.key
        if self.kind is DEPLOYMENT:
            return shlex.join((partition, row))
        has_wrong_key = not self.problems.keys().isdisjoint(("PartitionKey", "RowKey"))
        return shlex.quote(f"{partition}/{row}" if has_wrong_key else partition)

    @property
    def message(self) -> str:
        partition, row = self.key
        name = f"event {partition!r}" if self.kind is EVENT else f"deployment {row!r} of model {partition!r}"
        return f"The {name} cannot be read: {self.problem}. {self._advice}"

    @property
    def _advice(self) -> str:
        command, options = f"{self.kind.name}s", [self.kind.options.get(name) for name in self.problems]
        if self.kind is DEPLOYMENT and self.problems.keys() == {"active"}:
            return f"Correct it with `deployments enable {self.name}` or `deployments disable {self.name}`."
        if any(option is None for option in options):
            return f"Delete it with `{command} delete {self.name}`."
        advice = f"Correct it with `{command} update {self.name} {' '.join(map(str, options))}`."
        return f"{advice} This makes every pass void." if "exceptions" in self.problems else advice

    @property
    def fields(self) -> dict[str, Any]:
        """For JSON: the key, what is wrong, and the columns as text."""
        code, row = self.key
        key = {"code": code} if self.kind is EVENT else {"model": code, "id": row}
        return key | {
            "problem": self.problem,
            "columns": {
                name: HIDDEN if name in event_rows.SECRETS else str(plain(value))
                for name, value in self.row.items()
            },
        }

    def corrected(self, columns: Collection[str]) -> Any:
        """The value of the row, before a command replaces these columns.

        Raises:
            CommandError: another column cannot be read either.
        """
        if not self.problems.keys() <= set(columns):
            raise CommandError(self.message)
        rest = {name: value for name, value in self.row.items() if name not in self.problems}
        return self.kind.read(rest | {name: self.kind.placeholders.get(name) for name in self.problems})


class Rows(NamedTuple, Generic[T]):
    good: list[T]
    bad: list[BadRow]


EVENT: Kind[Event] = Kind(
    "event",
    event_rows.event_from_row,
    event_rows.COLUMNS,
    {
        "name": "--name TEXT",
        "starts_at": "--starts DATE",
        "ends_at": "--ends DATE",
        "active": "--resume",
        "organizer": "--organizer TEXT",
        "time_zone": "--time-zone ZONE",
        "models": "--models A,B",
        "default_model": "--default-model A",
        "tools": "--tools A,B",
        "store_responses": "--stored-responses",
        "access": "--access ACCESS",
        "seats": "--seats N",
        "exceptions": "--no-exceptions",
        **{name: f"{option_name(name)} N" for name in LIMITS},
        "cost_per_day": "--budget-per-day AMOUNT",
        "cost_total": "--budget AMOUNT",
        "currency": "--currency CODE",
    },
    {
        "starts_at": datetime(2000, 1, 1, tzinfo=UTC),
        "ends_at": datetime(2200, 1, 1, tzinfo=UTC),
        "active": True,
        "store_responses": True,
        **dict.fromkeys(
            (
                "name",
                "organizer",
                "time_zone",
                "models",
                "default_model",
                "tools",
                "currency",
                "access",
                "exceptions",
            ),
            "",
        ),
    },
)
DEPLOYMENT: Kind[Deployment] = Kind(
    "deployment",
    deployment_rows.deployment_from_row,
    deployment_rows.COLUMNS,
    {
        "endpoint": "--endpoint URL",
        "api_version": "--api-version V",
        "auth": "--managed-identity",
        "output_field": "--output-field FIELD",
        "apis": "--apis A,B",
        "priority": "--priority N",
        "weight": "--weight N",
        "prompt_price": "--prompt-price P",
        "completion_price": "--completion-price P",
        "cached_prompt_price": "--cached-prompt-price P",
        "long_prices": "--long-prices N:P/C/O",
        "currency": "--currency CODE",
    },
    {
        "endpoint": "https://placeholder.openai.azure.com",
        "active": True,
        "priority": 1,
        "weight": 1,
        **dict.fromkeys(("api_version", "auth", "output_field", "apis", "long_prices", "currency"), ""),
    },
)


def parse(kind: Kind[T], row: Row) -> T | BadRow:
    problems = {
        name: problem for name in kind.columns if (problem := _problem(row, name, kind.columns[name]))
    }
    if kind is EVENT:
        problems |= _key_problems(row)
    return BadRow(kind, row, problems) if problems else kind.read(row)


def parse_all(kind: Kind[T], rows: Iterable[Row]) -> Rows[T]:
    found = [parse(kind, row) for row in rows]
    return Rows(
        [one for one in found if not isinstance(one, BadRow)],
        [one for one in found if isinstance(one, BadRow)],
    )


def parse_usage(rows: Iterable[Row]) -> tuple[list[UsageRow], list[str]]:
    """The usage, and a sentence about each row that cannot be read."""
    usage, bad = [], []
    for row in rows:
        try:
            usage.append(usage_from_row(row))
        except UNREADABLE:
            problems = [problem for name, read in COUNTS.items() if (problem := _problem(row, name, read))]
            problem = ", ".join(problems) or "RowKey is not HOUR:USER:MODEL:WRITER"
            bad.append(f"The usage row {row['RowKey']!r} is left out, because it cannot be read: {problem}.")
    return usage, bad


def _problem(row: Row, name: str, read: Reader) -> str | None:
    try:
        read(row, name)
    except UNREADABLE:
        if name in event_rows.SECRETS:
            return f"{name} is not a text"
        return f"{name} is {_value(row[name])}" if name in row else f"{name} is missing"
    return None


def _value(value: Any) -> str:
    text = repr(plain(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _key_problems(row: Row) -> dict[str, str]:
    """A key that no attendee's request can have."""
    found = {}
    if row["RowKey"] != event_rows.EVENT_ROW:
        found["RowKey"] = f"RowKey is {row['RowKey']!r}, not {event_rows.EVENT_ROW!r}"
    code = row["PartitionKey"]
    if code != code.lower() or not is_event_code(code):
        found["PartitionKey"] = f"PartitionKey is {code!r}, which is not an event code in lower case"
    return found
