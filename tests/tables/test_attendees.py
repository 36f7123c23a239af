"""Names are taken once, and never more than there are seats, over several processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.tables.attendees import SEATS_ROW, Claimed
from shared.tables.service import ATTENDEES
from tests.seeded_tables import Tables
from tests.tables.stored import code
from tools.azurite import Azurite

pytestmark = pytest.mark.one_python

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CLAIMER = """
import asyncio, json, sys
from datetime import UTC, datetime
from shared.tables import attendees
from shared.tables.service import open_service
from shared.tables.tables import Tables

attendees.WAIT_SECONDS = 120.0  # a slow machine needs more than an attendee waits

async def main():
    tables = Tables(open_service(sys.argv[1], None))
    code, names, now = sys.argv[2], sys.argv[4:], datetime.now(UTC)
    outcomes = await asyncio.gather(
        *(tables.attendees.claim(code, name, int(sys.argv[3]), now) for name in names)
    )
    print(json.dumps([(name, outcome.name) for name, outcome in zip(names, outcomes)]))
    await tables.close()

asyncio.run(main())
"""


async def claim_in_a_process(azurite: Azurite, event: str, seats: int, names: list[str]) -> list[list[str]]:
    arguments = (sys.executable, "-c", CLAIMER, azurite.connection_string, event, str(seats), *names)
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    found: list[list[str]] = json.loads(output)
    return found


async def test_500_claims_in_three_processes_take_exactly_200_seats(azurite: Azurite, tables: Tables) -> None:
    """20 of the names are claimed in each process, at the same time."""
    event, shared = code(), [f"shared-{number}" for number in range(20)]
    own = [[f"user-{process}-{number}" for number in range(147)] for process in range(3)]
    batches = [claim_in_a_process(azurite, event, 200, shared + names) for names in own]
    outcomes = [tuple(one) for batch in await asyncio.gather(*batches) for one in batch]
    assert len(outcomes) == 501
    winners = [name for name, outcome in outcomes if outcome == "TAKEN"]
    assert len(winners) == len(set(winners)) == 200
    assert {one.user for one in await tables.attendees.list(event)} == set(winners)
    assert set(Counter(outcome for _, outcome in outcomes)) == {"TAKEN", "NAME_TAKEN", "NO_SEATS_LEFT"}


async def test_released_name_frees_its_seat(tables: Tables) -> None:
    event, names = code(), tables.attendees
    assert await names.claim(event, "amy", 1, NOW) is Claimed.TAKEN
    assert await names.claim(event, "amy", 1, NOW) is Claimed.NAME_TAKEN
    assert await names.claim(event, "bob", 1, NOW) is Claimed.NO_SEATS_LEFT
    assert await names.remove(event, "amy")
    assert not await names.remove(event, "amy")
    assert await names.claim(event, "bob", 1, NOW) is Claimed.TAKEN
    assert await names.claim(event, "cat", None, NOW) is Claimed.TAKEN


async def test_names_are_added_once_while_others_are_claimed(tables: Tables) -> None:
    event, names = code(), tables.attendees
    rows = {f"user-{number}": {"source": "roster", "team": "red"} for number in range(250)}
    claims = [names.claim(event, f"other-{number}", 1000, NOW) for number in range(10)]
    added, *claimed = await asyncio.gather(names.add(event, rows), *claims)
    assert (added, set(claimed)) == (250, {Claimed.TAKEN})
    assert await names.add(event, rows) == 0
    found = await names.list(event)
    assert len(found) == 260
    assert next(one for one in found if one.user == "user-7").team == "red"
    assert await names.claim(event, "late", 260, NOW) is Claimed.NO_SEATS_LEFT


async def test_missing_counter_is_made_from_the_rows(tables: Tables, service: TableServiceClient) -> None:
    event, names = code(), tables.attendees
    await names.add(event, {"amy": {}, "bob": {}})
    await service.get_table_client(ATTENDEES).delete_entity(event, SEATS_ROW)
    assert await names.claim(event, "cat", 3, NOW) is Claimed.TAKEN
    assert await names.claim(event, "dan", 3, NOW) is Claimed.NO_SEATS_LEFT
