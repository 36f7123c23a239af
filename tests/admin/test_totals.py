"""Limits for a whole event that are set while it runs, and seats that are already taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from shared.core.counts import Counts, UsageRow
from shared.core.models import CLAIM
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.standing import TOTAL_ROW
from tests.admin.manage import Result, manage
from tests.conftest import EVENT, MODEL, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Answer

USED = Counts(requests=3, prompt_tokens=900, completion_tokens=100, cost=12_340_000)
_numbers = count(1)


async def new_event(tables: Tables, used: Counts | None = USED, **changes: Any) -> str:
    """An event that is open, and has used this."""
    code = f"total-{next(_numbers)}"
    fields = {"models": ("none",), "default_model": None} | changes
    await tables.put_event(replace(EVENT, code=code, **fields))
    if used is not None:
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        await tables.write_usage([UsageRow(code, hour, "amy", "none", used)], "w")
    return code


async def update(azurite: Azurite, code: str, *options: str) -> Result:
    result = await manage(azurite, "events", "update", code, *options)
    assert result.status == 0, result.errors
    return result


@pytest.mark.parametrize(
    ("options", "counted", "note"),
    [
        (
            ("--budget", "200"),
            Amount(cost=12_340_000),
            "$12.34 that the event has spent so far counts toward",
        ),
        (
            ("--tokens-total", "5000"),
            Amount(tokens=1000),
            "1,000 tokens that the event has used so far count",
        ),
        (("--requests-total", "9"), Amount(requests=3), "3 requests that the event has used so far count"),
    ],
)
async def test_a_total_that_is_set_while_the_event_runs_counts_what_was_used_before(
    tables: Tables, azurite: Azurite, options: tuple[str, str], counted: Amount, note: str
) -> None:
    code = await new_event(tables)
    result = await update(azurite, code, *options)
    assert note in result.output and f"{options[0]}." in result.output
    row = await tables.read_ledger(Key(code, TOTAL_ROW))
    assert (row.used, row.granted) == (counted, counted)
    again = await update(azurite, code, options[0], "6000")
    assert "so far" not in again.output
    assert (await tables.read_ledger(Key(code, TOTAL_ROW))).used == counted


async def test_what_another_total_has_counted_is_not_counted_twice(tables: Tables, azurite: Azurite) -> None:
    code = await new_event(tables, tokens_total=9000)
    granted = Amount(3, 1500, 0)
    await tables.write_ledger(Key(code, TOTAL_ROW), LedgerRow(granted, Amount(3, 1000, 12_000_000)))
    await update(azurite, code, "--budget", "200", "--requests-total", "50")
    row = await tables.read_ledger(Key(code, TOTAL_ROW))
    assert row.used == Amount(3, 1000, 12_340_000)
    assert row.granted == Amount(3, 1500, 340_000), "what instances have in hand stays in their hand"


async def test_the_next_requests_of_a_running_event_go_on_from_what_was_used(
    stage: Stage, azurite: Azurite
) -> None:
    code = await stage.add_event()
    stage.simulator.always(MODEL, Answer(prompt_tokens=30, completion_tokens=870))
    assert (await stage.chat(code)).status == 200
    await stage.web._open().tally.flush()
    await update(azurite, code, "--tokens-total", "1000")
    refused = await stage.chat(code, messages=[{"role": "user", "content": "What? " * 200}])
    assert refused.error["message"].startswith("This event has 100 of 1,000 tokens left")


async def test_a_total_below_what_is_used_says_that_it_refuses_every_request(
    tables: Tables, azurite: Azurite
) -> None:
    code = await new_event(tables, tokens_total=9000, requests_total=9)
    await tables.write_ledger(Key(code, TOTAL_ROW), LedgerRow(Amount(3, 1000), Amount(3, 1000)))
    result = await update(azurite, code, "--tokens-total", "900", "--requests-total", "3")
    assert (
        "Note: The event has used 1,000 tokens already, and --tokens-total is 900: every request is refused."
        in result.output
    )
    assert "The event has used 3 requests already, and --requests-total is 3" in result.output
    raised = await update(azurite, code, "--tokens-total", "1500", "--requests-total", "4")
    assert "already" not in raised.output


async def test_an_event_that_was_charged_nothing_says_where_its_budget_begins(
    tables: Tables, azurite: Azurite
) -> None:
    code = await new_event(tables, Counts(requests=2, prompt_tokens=50))
    result = await update(azurite, code, "--budget", "200")
    assert "The event has used 2 requests so far. No cost of them is known, so --budget begins at $0.00." in (
        result.output
    )
    fresh = await new_event(tables, None)
    assert "so far" not in (await update(azurite, fresh, "--budget", "200")).output


@pytest.mark.parametrize(
    ("columns", "note"),
    [({}, True), ({"tokens_per_day": 500}, False)],
)
async def test_a_first_limit_for_each_day_says_that_it_begins_now(
    tables: Tables, azurite: Azurite, columns: dict[str, Any], note: bool
) -> None:
    code = await new_event(tables, **columns)
    result = await update(azurite, code, "--requests-per-day", "50")
    assert (
        "What attendees used before this change does not count toward their limits of today."
        in (result.output)
    ) is note


@pytest.mark.parametrize(("seats", "taken"), [("2", True), ("3", False)])
async def test_fewer_seats_than_names_that_are_taken_are_noted(
    tables: Tables, azurite: Azurite, seats: str, taken: bool
) -> None:
    code = await new_event(tables, access=CLAIM, pass_secret="secret")
    now = datetime.now(UTC)
    rows = {name: {"source": "claim", "added_at": now} for name in ("amy", "bob", "kim")}
    await tables.attendees.add(code, rows)
    output = (await update(azurite, code, "--seats", seats)).output
    assert (
        "3 names are taken already, more than --seats 2. They keep their passes, and no one else can take a name."
        in output
    ) is taken
    assert ("All 3 seats are taken, so no one else can take a name." in output) is not taken


@pytest.mark.parametrize(("ends", "note"), [("+740d", True), ("+700d", False)])
async def test_an_event_of_more_than_two_years_is_noted(
    tables: Tables, azurite: Azurite, ends: str, note: bool
) -> None:
    code = await new_event(tables, None)
    changed = await update(azurite, code, "--starts", "now", "--ends", ends)
    new = ("events", "create", f"{code}-long", "--name", "A", "--starts", "now", "--ends", ends)
    created = await manage(azurite, *new)
    for result in (changed, created):
        assert ("days. Is the year right?" in result.output) is note


async def test_limits_that_are_perhaps_mixed_up_are_noted(tables: Tables, azurite: Azurite) -> None:
    code = await new_event(tables, None)
    mixed = ("--budget", "2", "--budget-per-day", "200", "--tokens-total", "10", "--tokens-per-day", "9")
    output = (await update(azurite, code, *mixed)).output
    assert (
        "Note: --budget $2.00 is less than --budget-per-day $200.00: one attendee can use all of it" in output
    )
    assert output.count("one attendee can use all of it") == 1


async def test_a_short_code_is_noted(azurite: Azurite) -> None:
    async def notes(*options: str) -> str:
        new = ("events", "create", *options, "--starts", "now", "--ends", "+1h")
        return (await manage(azurite, *new)).output

    assert "Note: The event code is 'hack'. It is short" in await notes("--name", "Winter", "hack")
    assert "is short" not in await notes("--name", "Winter", "hack-roster", "--access", "roster")
    assert "is short" not in await notes("--name", "Winter")


async def test_the_time_that_a_change_takes_is_the_setting_of_the_app(
    tables: Tables, azurite: Azurite
) -> None:
    code = await new_event(tables, None)

    async def time(**settings: str) -> str:
        result = await manage(azurite, "events", "update", code, "--organizer", "Ann", **settings)
        return result.output.partition("takes effect within ")[2].partition(".")[0]

    assert await time() == "30 seconds"
    assert await time(PROXY_CACHE_SECONDS="10") == "10 seconds"
    assert await time(PROXY_SETTINGS='{"PROXY_CACHE_SECONDS": "0"}') == "1 second"
    assert await time(PROXY_SETTINGS="what?") == await time(PROXY_CACHE_SECONDS="soon") == "30 seconds"
