"""`manage.py backup` and `restore`, on real tables, and the rows of the last release.

`last_release.jsonl` is a backup that the last release made, of an event with every limit, a deployment with every
column, and some calls. At a release, replace it: CONTRIBUTING.md says how.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables.aio import TableServiceClient

from admin.backup.copying import restore
from admin.backup.file import BackupRow, read_backup
from admin.backup.values import to_json
from admin.errors import CommandError, Failure
from admin.tables import TABLES
from shared.core.models import Deployment
from shared.events.passes import pass_of
from shared.tables.service import EVENTS, QUOTAS, USAGE, open_service
from tests.admin.manage import ROOT, environment, manage, start
from tests.conftest import EVENT, KEY, MODEL, Stage, serve
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Simulator
from tools.tap import TableTap

LAST_RELEASE = Path(__file__).with_name("last_release.jsonl")
LINES = LAST_RELEASE.read_text(encoding="utf-8").splitlines(keepends=True)
ODD_ROW = {
    "PartitionKey": "odd",
    "RowKey": "by hand",
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "raw": b"\x00\xff",
    "line": "a\u2028b\nc\x85",
    "huge": EntityProperty(2**63 - 1, EdmType.INT64),
    "small": -5,
    "share": 1.0,
    "unknown": float("nan"),
    "empty": "",
    "flag": False,
}

Value = Any
Content = dict[tuple[str, str, str], dict[str, Value]]


@pytest.fixture(scope="module")
def own_azurite() -> Iterator[Azurite]:
    with Azurite(None) as running:
        yield running


@pytest.fixture
async def empty(own_azurite: Azurite) -> AsyncIterator[Tables]:
    """Tables without rows, on a service of their own."""
    async with TableServiceClient.from_connection_string(own_azurite.connection_string) as service:
        for table in TABLES:
            await service.delete_table(table)
    tables = Tables(open_service(own_azurite.connection_string, None))
    await tables.create_tables()
    yield tables
    await tables.close()


async def content(tables: Tables) -> Content:
    """Every row, with the types of its values."""
    return {
        (table, row["PartitionKey"], row["RowKey"]): {name: to_json(row[name]) for name in row}
        for table in TABLES
        async for page in tables.pages(table)
        for row in page
    }


@dataclass(frozen=True)
class Place:
    """A storage account of its own, a simulator, and the app on both."""

    azurite: Azurite
    tables: Tables
    simulator: Simulator

    def app(self) -> Any:
        settings = {"PROXY_TABLES": self.azurite.connection_string, "SIMULATOR_KEY": KEY}
        return serve(self.tables, self.simulator, settings | {"PROXY_CACHE_SECONDS": "0"})


@pytest.fixture
def place(own_azurite: Azurite, empty: Tables, shared_simulator: Simulator) -> Place:
    shared_simulator.reset()
    return Place(own_azurite, empty, shared_simulator)


async def statuses(stage: Stage, user: str, calls: int, event: str = EVENT.code) -> list[int]:
    return [(await stage.chat(event, user)).status for _ in range(calls)]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def delete_rows(tables: Tables) -> None:
    for table, partition, key in await content(tables):
        await tables.row_keys.delete(table, partition, [key])


async def test_restored_tables_are_the_same_and_serve_on_to_the_last_request(
    place: Place, tmp_path: Path
) -> None:
    exceptions: dict[str, dict[str, Value]] = {"user-1": {"requests_per_day": 5}, "user-2": {"blocked": True}}
    event = replace(EVENT, requests_per_day=3, requests_total=300, access="claim", pass_secret="5ec2e7")
    event = replace(event, exceptions=exceptions)
    await place.tables.put_event(event)
    await place.tables.put_deployment(
        Deployment(MODEL, MODEL, place.simulator.url, MODEL, auth="SIMULATOR_KEY")
    )
    await place.tables.insert(USAGE, [ODD_ROW])
    users = [pass_of(event, f"user-{number}") for number in range(120)]
    async with place.app() as stage:
        for first in range(0, len(users), 20):  # more at once can wait too long for the tables
            used = await asyncio.gather(*(statuses(stage, user, 2) for user in users[first : first + 20]))
            assert set(map(tuple, used)) <= {(200, 200), (403, 403)}
    before, file = await content(place.tables), tmp_path / "day.jsonl"
    saved = await manage(place.azurite, "backup", str(file))
    assert saved.status == 0 and f"Saved {len(before):,} rows to {file}." in saved.output
    assert names(tmp_path) == ["day.jsonl"]
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o077 == 0, "others can read the event codes"

    await delete_rows(place.tables)
    restored = await manage(place.azurite, "restore", str(file))
    assert f"Restored {len(before):,} rows" in restored.output, restored.errors
    assert await content(place.tables) == before

    async with place.app() as stage:
        assert await statuses(stage, users[0], 2) == [200, 429]
        assert await statuses(stage, users[1], 4) == [200, 200, 200, 429]
        assert await statuses(stage, users[2], 1) == [403]
        assert await statuses(stage, "user-3", 1) == [401]
    total = (await content(place.tables))[QUOTAS, EVENT.code, ":total"]
    assert total["requests_used"] == {"Int64": 242}


async def test_last_release_and_this_version_read_the_rows_of_each_other(place: Place) -> None:
    """During a rolling update, both versions serve, and each reads the rows of the other."""
    assert (await manage(place.azurite, "restore", str(LAST_RELEASE))).status == 0
    old = await content(place.tables)
    change = ("deployments", "update", "gpt-4o-mini", "west", "--endpoint", place.simulator.url, "--no-check")
    assert (await manage(place.azurite, *change)).status == 0
    event, (deployment,) = await place.tables.event("last-release"), await place.tables.deployments()
    assert event is not None
    await place.tables.put_event(replace(event, code="copy"))
    await place.tables.put_deployment(replace(deployment, id="copy"))
    async with place.app() as stage:
        assert await statuses(stage, "ann", 2, "last-release") == [200, 200]
        assert await statuses(stage, "ann", 2, "copy") == [200, 200]
    usage = (await manage(place.azurite, "usage", "last-release", "--json")).json
    assert {row["user"]: row["requests"] for row in usage["rows"]} == {"ann": 4, "bob": 2}
    new = await content(place.tables)
    assert new[QUOTAS, "last-release", ":total"]["requests_used"] == {"Int64": 6}
    added = {key: new[key] for key in new.keys() - old.keys()}
    for table in TABLES:
        assert columns(old, table) - HEALTH - PRICES <= columns(added, table), (
            f"the last release needs these: {table}"
        )


HEALTH = {("health_seen_at", "DateTime"), ("health_status", "str"), ("health_cooling_until", "DateTime")}
"""A hint, which a new target does not keep."""
PRICES = {("prompt_price", "float"), ("completion_price", "float")}
"""They are texts now. The last release makes a float of a text too."""


def columns(rows: Content, table: str) -> set[tuple[str, str]]:
    """The names and types of the columns of these rows."""
    return {
        (name, next(iter(value)) if isinstance(value, dict) else type(value).__name__)
        for key, row in rows.items()
        if key[0] == table
        for name, value in row.items()
    }


async def test_tables_with_other_rows_are_refused_and_stay(place: Place) -> None:
    await place.tables.put_event(EVENT)
    before = await content(place.tables)
    refused = await manage(place.azurite, "restore", str(LAST_RELEASE))
    assert refused.status == 2 and "The tables are not empty: events has the row 'hackathon'" in refused.error
    assert await content(place.tables) == before


async def test_restore_that_fails_in_the_middle_continues(place: Place) -> None:
    rows = [*read_backup(LAST_RELEASE)]
    rows += [BackupRow(USAGE, f"event-{number}", "x", {"requests": 1}) for number in range(30)]
    async with TableTap(place.azurite.port, most=60).open() as tap:
        unsteady = Tables(open_service(tap.connection_string, None))
        with pytest.raises(Failure, match=r"of 37 rows are restored. Run the same command again"):
            await restore(unsteady, rows)
        await unsteady.close()
    stored = await content(place.tables)
    assert 0 < len(stored) < 37
    assert not [key for key in stored if key[0] == EVENTS], "an event without its quota would give it twice"
    assert await restore(place.tables, rows) == 37 - len(stored)
    assert len(await content(place.tables)) == 37
    assert await restore(place.tables, rows) == 0


def damaged(number: int, old: str, new: str) -> str:
    """The backup with another text in one line."""
    assert old in LINES[number]
    return "".join([*LINES[:number], LINES[number].replace(old, new), *LINES[number + 1 :]])


BAD = {
    "": "is not a backup",
    "{}": "is not a backup",
    '{"format": "azure-openai-event-proxy backup"': "is not a backup",
    damaged(0, '"version": 1', '"version": 2'): "is of version 2. This manage.py reads version 1",
    "".join(LINES[:-1]): "is not complete: it has no last line",
    "".join(LINES)[:-300]: "line 7 is not a row of a backup",
    "".join([*LINES[:3], *LINES[4:]]): "is not complete: it says 7 rows, but has 6",
    "".join([*LINES[:3], LINES[2], *LINES[3:]]): "line 4: line 3 has the same row",
    damaged(1, '"events"', '"other"'): "line 2: there is no table 'other'",
    damaged(1, "true", "null"): "line 2 is not a row of a backup",
    damaged(1, '{"Int64": 50}', '{"Int64": "50"}'): "line 2 is not a row of a backup",
    damaged(1, '{"Int64": 50}', "3000000000"): "line 2 is not a row of a backup",
    damaged(1, "2026-01-01T", "yesterday"): "line 2 is not a row of a backup",
    damaged(2, "0.15", "NaN"): "line 3 is not a row of a backup",
    damaged(2, '"columns"', '"column"'): "line 3 is not a row of a backup",
    damaged(2, "{", ""): "line 3 is not a row of a backup",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: BAD[text][:40])
def test_file_with_a_fault_is_refused_and_the_line_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError) as caught:
        read_backup(file)
    assert BAD[text] in str(caught.value)


async def test_existing_file_is_not_replaced(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "day.jsonl"
    file.write_text("older", encoding="utf-8")
    refused = await manage(place.azurite, "backup", str(file))
    assert refused.status == 2 and "exists. Use another name" in refused.error
    assert file.read_text(encoding="utf-8") == "older"
    for name in ("day.json", ".jsonl"):
        assert "Use a name that ends with .jsonl" in (await manage(place.azurite, "backup", name)).error


async def test_tables_that_fail_in_the_middle_leave_no_file(place: Place, tmp_path: Path) -> None:
    async with TableTap(place.azurite.port, most=6).open() as tap:  # 4 of them ask for the tables
        failed = await manage(tap.connection_string, "backup", str(tmp_path / "day.jsonl"))
    assert failed.status == 2 and "Cannot access the tables" in failed.error
    assert names(tmp_path) == []


async def test_killed_backup_leaves_no_file_of_that_name(place: Place, tmp_path: Path) -> None:
    async with TableTap(place.azurite.port).open() as tap:
        tap.passing.clear()
        process = await start(tap.connection_string, "backup", str(tmp_path / "day.jsonl"))
        await tap.request_arrived.wait()
        process.kill()
        tap.passing.set()
        await process.communicate()
    assert "day.jsonl" not in names(tmp_path)
    (tmp_path / ".day.jsonl.new").touch()  # what a killed one leaves later
    assert (await manage(place.azurite, "backup", str(tmp_path / "day.jsonl"))).status == 0
    assert names(tmp_path) == ["day.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="no ulimit")
async def test_full_disk_leaves_no_file(place: Place, tmp_path: Path) -> None:
    await place.tables.insert(USAGE, [ODD_ROW | {"RowKey": str(one), "line": "x" * 900} for one in range(20)])
    command = [sys.executable, str(ROOT / "manage.py"), "backup", str(tmp_path / "day.jsonl")]
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"ulimit -f 4; exec {shlex.join(command)}"),
        env=environment(place.azurite, {"PYTHONDONTWRITEBYTECODE": "1"}),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2 and b"Cannot write" in errors and b"Use another file." in errors
    assert names(tmp_path) == []
