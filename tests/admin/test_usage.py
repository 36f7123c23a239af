"""`manage.py usage`: sums, costs and files, on real tables."""

from __future__ import annotations

import asyncio
import csv
import io
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from admin.usage import live, watch
from admin.usage.event_usage import read_usage
from admin.usage.summary import Sort, summarize
from shared.core.counts import Counts, Minute, UsageRow
from shared.core.models import Deployment
from shared.quota.amounts import Amount
from shared.quota.ledger_row import LedgerRow
from shared.tables.service import open_service
from tests.admin.manage import manage, start
from tests.conftest import EVENT
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.tap import TableTap

KOLKATA = ZoneInfo("Asia/Kolkata")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def row(user: str, model: str, counts: Counts, hour: datetime = NOON, event: str = "used") -> UsageRow:
    return UsageRow(event, hour, user, model, counts)


ROWS = [
    row("ann", "cheap", Counts(2, 1_000_000, 500_000, 1, 0)),
    row("ann", "free", Counts(1, 10, 20, 0, 0), NOON + timedelta(hours=1)),
    row("=1+1", "cheap", Counts(1, 100, 100, 0, 1)),
    row("bob", "", Counts(refusals=3), NOON + timedelta(hours=1)),
]


@pytest.fixture(scope="module")
async def used(tables: Tables) -> None:
    """An event with the rows of two writers, and deployments with and without a price."""
    await tables.put_event(replace(EVENT, code="used", name="EventUsage & <b>loved</b>", time_zone=KOLKATA))
    await tables.write_usage(ROWS, "one")
    await tables.write_usage([row("ann", "cheap", Counts(1, 5, 5, 0, 0))], "two")
    priced = Deployment("cheap", "a", "https://a.openai.azure.com", "cheap", active=False)
    await tables.put_deployment(replace(priced, prompt_price=Decimal("0.1"), completion_price=Decimal("0.4")))


@pytest.mark.usefixtures("used")
async def test_rows_of_all_writers_are_summed_and_sorted(azurite: Azurite) -> None:
    by_user = (await manage(azurite, "usage", "USED", "--json")).json
    assert [line["user"] for line in by_user["rows"]] == ["ann", "=1+1", "bob"]
    assert by_user["rows"][0] == {
        "user": "ann",
        "requests": 4,
        "prompt_tokens": 1_000_015,
        "completion_tokens": 500_025,
        "total_tokens": 1_500_040,
        "refusals": 1,
        "errors": 0,
        "cost": pytest.approx(0.3000025),
        "cached_tokens": 0,
        "tokens_without_price": 30,
    }
    by_model = (await manage(azurite, "usage", "used", "--by", "model", "--json")).json
    assert {line["model"]: line["requests"] for line in by_model["rows"]} == {"cheap": 4, "free": 1, "": 0}
    by_hour = (await manage(azurite, "usage", "used", "--by", "hour", "--json")).json
    assert [line["hour"] for line in by_hour["rows"]] == ["2026-06-01 17:30", "2026-06-01 18:30"]
    assert by_user["total"] == by_model["total"] == by_hour["total"]
    assert by_user["models_without_price"] == ["free"]


@pytest.mark.usefixtures("used")
async def test_the_table_has_totals_and_names_models_without_a_price(azurite: Azurite) -> None:
    result = await manage(azurite, "usage", "used", "--by", "model")
    lines = [line.split() for line in result.output.splitlines() if line.strip()]
    assert ["total", "0.3001*", "5", "1,000,115", "500,125", "1,500,240", "4", "1"] in lines
    assert any(line[:2] == ["(no", "model)"] for line in lines)
    assert "* Excludes free: no price set." in result.output


@pytest.mark.usefixtures("used")
async def test_people_read_hours_as_attendees_do_and_programs_as_iso(azurite: Azurite) -> None:
    result = await manage(azurite, "usage", "used", "--by", "hour")
    assert "\n 1 Jun 2026, 17:30 " in result.output and "\n total " in result.output
    result = await manage(azurite, "usage", "used", "--by", "hour", "--csv")
    assert "\n2026-06-01 17:30," in result.output


@pytest.mark.usefixtures("used")
async def test_csv_has_numbers_and_no_formula(azurite: Azurite) -> None:
    result = await manage(azurite, "usage", "used", "--csv")
    found = list(csv.DictReader(io.StringIO(result.output)))
    assert [line["user"] for line in found] == ["ann", "'=1+1", "bob"]
    assert [line["cost"] for line in found] == ["0.3000025", "0.00005", ""]
    assert {(line["currency"], line["cost_is"]) for line in found} == {("USD", "estimate")}
    assert sum(int(line["total_tokens"]) for line in found) == 1_500_240


@pytest.mark.parametrize("name", ["=cmd", "+1", "-2", "@sum"])
async def test_csv_escapes_every_kind_of_formula(tables: Tables, azurite: Azurite, name: str) -> None:
    code = f"formula{ord(name[0])}"
    await tables.put_event(replace(EVENT, code=code))
    await tables.write_usage([row(name, "m", Counts(1), event=code)], "w")
    assert f"\n'{name},,USD,estimate,1," in (await manage(azurite, "usage", code, "--csv")).output


async def test_an_event_with_a_budget_shows_what_was_charged_and_what_is_left(
    tables: Tables, azurite: Azurite
) -> None:
    budget = {"cost_total": 2_000_000, "cost_per_day": 500_000, "currency": "EUR"}
    await tables.put_event(replace(EVENT, code="charged", **budget))  # type: ignore[arg-type]
    rows = [
        row("ann", "cheap", Counts(1, 5000, 5000, cached_tokens=70, cost=1), event="charged"),
        row("bob", "dear", Counts(1, 5, 5, cost=1_499_999), event="charged"),
    ]
    await tables.write_usage(rows, "w")
    output = (await manage(azurite, "usage", "charged")).output
    assert "Spent: 1.50 EUR of 2.00 EUR. Left: 0.50 EUR.\nEach attendee has 0.50 EUR per day.\n" in output
    lines = [line.split() for line in output.splitlines() if line.strip()]
    assert lines[2][:3] == ["user", "cost", "requests"]
    assert [line[:2] for line in lines[4:6]] == [["bob", "1.50"], ["ann", "<0.0001"]]
    assert "*" not in output and "No cost" not in output
    found = list(csv.DictReader(io.StringIO((await manage(azurite, "usage", "charged", "--csv")).output)))
    assert [(line["cost"], line["currency"], line["cost_is"]) for line in found] == [
        ("1.499999", "EUR", "charged"),
        ("0.000001", "EUR", "charged"),
    ]
    fields = (await manage(azurite, "usage", "charged", "--json")).json
    assert (fields["budget"], fields["budget_per_day"], fields["cost_is_estimate"]) == (2, 0.5, False)


async def test_an_unused_event_has_no_usage(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="unused"))
    assert "No usage yet" in (await manage(azurite, "usage", "unused")).output
    assert (await manage(azurite, "usage", "unused", "--json")).json["rows"] == []
    assert (await manage(azurite, "usage", "unused", "--csv")).output.count("\n") == 1


async def test_a_deleted_event_keeps_its_usage(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="deleted"))
    await tables.write_usage([row("ann", "m", Counts(3, 4, 5), event="deleted")], "w")
    assert (await manage(azurite, "events", "delete", "deleted", "--yes")).status == 0
    assert (await manage(azurite, "usage", "deleted", "--json")).json["total"]["requests"] == 3


def test_the_highest_of_several_prices_is_used_also_of_a_disabled_deployment() -> None:
    one = Deployment("m", "a", "https://a", "m", prompt_price=Decimal("1.0"), completion_price=Decimal("4.0"))
    two = replace(one, id="b", prompt_price=Decimal("2.0"), completion_price=Decimal("3.0"), active=False)
    summary = summarize([row("ann", "m", Counts(1, 500_000, 250_000))], "user", KOLKATA, [one, two])
    assert summary.total.cost == Decimal("2.0")
    assert summary.several_prices == ["m"]
    same = summarize([row("ann", "m", Counts(1, 1, 1))], "user", KOLKATA, [one, replace(one, id="c")])
    assert same.several_prices == [] and same.total.cost == Decimal("0.000005")


def test_an_hour_that_comes_twice_has_two_rows() -> None:
    first = datetime(2026, 10, 25, 0, tzinfo=UTC)
    rows = [row("ann", "m", Counts(1), first + timedelta(hours=number)) for number in range(4)]
    summary = summarize(rows, "hour", ZoneInfo("Europe/Berlin"), [])
    assert [line.key for line in summary.rows] == [
        "2026-10-25 02:00 +0200",
        "2026-10-25 02:00 +0100",
        "2026-10-25 03:00",
        "2026-10-25 04:00",
    ]


async def test_watch_reads_only_rows_that_can_change(tables: Tables, azurite: Azurite) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await tables.put_event(replace(EVENT, code="watched"))
    old = [
        row(f"user-{n}", "m", Counts(1), now - timedelta(hours=5 + n % 7), event="watched") for n in range(50)
    ]
    await tables.write_usage([*old, row("ann", "m", Counts(1), now, event="watched")], "w")
    async with TableTap(azurite.port).open() as tap:
        tapped = Tables(open_service(tap.connection_string, None))
        reading = watch.Reading(await read_usage(tapped, "watched"), datetime.now(UTC))
        await tables.write_usage([row("ann", "m", Counts(7), now, event="watched")], "w")
        tap.requests.clear()
        reading = await watch.refresh(tapped, reading)
        await tapped.close()
    assert tap.reads_of("/usage(") == 1 and "RowKey%20ge" in tap.requests[0]
    assert len(tap.requests) == 3  # besides: the event, and its account
    total = summarize(reading.used.rows, "user", KOLKATA, []).total
    assert total.counts.requests == len(old) + 7
    assert len(reading.used.rows) == len(old) + 1


async def test_watch_shows_what_is_left_when_it_runs_out_and_who_is_stuck() -> None:
    now = datetime(2026, 12, 1, 15, 0, 30, tzinfo=UTC)
    event = replace(
        EVENT, starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=1), tokens_total=9000
    )
    minutes = {minute: Minute(10, 60, 0, 0, 0) for minute in range(50, 60)}
    stuck = {59: Minute(0, 0, 0, 7)}
    hour = now.replace(minute=0, second=0) - timedelta(hours=1)
    rows = [
        UsageRow("e", hour, "ann", "m", Counts(100, 300, 300), minutes),
        UsageRow("e", hour, "bob", "m", Counts(refusals=7), stuck, "token_quota_exceeded"),
    ]
    ledger = LedgerRow(granted=Amount(0, 3000), used=Amount(0, 3000))
    assert live.lines(event, rows, ledger, now) == [
        "Runs out at 16:46 (tokens, in 106 minutes, at the rate of the last 10).",
        "tokens: 6,000 of 9,000 left, 57 a minute.",
        "2 attendees active; 7 refused and 0 errors in 10 minutes.",
        "Refused again and again: bob (7, token_quota_exceeded).",
    ]


@pytest.mark.parametrize(
    ("sort", "is_charged", "order"),
    [
        (None, False, ["many", "dear", "late"]),
        ("cost", False, ["dear", "many", "late"]),
        ("cost", True, ["late", "many", "dear"]),
        ("refused", False, ["late", "many", "dear"]),
        ("requests", False, ["dear", "many", "late"]),
    ],
)
def test_those_with_the_most_of_it_come_first(sort: Sort | None, is_charged: bool, order: list[str]) -> None:
    rows = [
        row("many", "free", Counts(2, 9000, cost=2)),
        row("late", "none", Counts(1, 20, refusals=7, cost=3)),
        row("dear", "cheap", Counts(3, 1000, cost=1)),
    ]
    priced = Deployment("cheap", "a", "https://a.openai.azure.com", "a", prompt_price=Decimal(9))
    priced = replace(priced, completion_price=Decimal(9))
    found = summarize(rows, "user", KOLKATA, [priced], is_charged=is_charged, sort=sort)
    assert [one.key for one in found.rows] == order


async def test_watch_continues_when_the_tables_fail_for_a_while(tables: Tables) -> None:
    await tables.put_event(replace(EVENT, code="watched-on"))
    reading = watch.Reading(await read_usage(tables, "watched-on"), datetime.now(UTC))
    async with TableTap().open() as tap:
        lost = Tables(open_service(tap.connection_string, None))
        failed = await watch.refresh(lost, reading)
        await lost.close()
    assert failed.error and failed.used == reading.used
    assert (await watch.refresh(tables, failed)).error == ""


async def test_ctrl_c_ends_watch_without_an_error(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="watched-live"))
    process = await start(azurite, "usage", "watched-live", "--watch", "--every", "2")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"(watched-live)" not in await process.stdout.readline():
            pass
        await tables.write_usage([row("late", "m", Counts(1), datetime.now(UTC), event="watched-live")], "w")
        while b"late" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_a_report_that_fails_leaves_the_old_one(used: None, azurite: Azurite, tmp_path: Path) -> None:
    result = await manage(azurite, "usage", "used", "--html", str(tmp_path / "no-such" / "report.html"))
    assert result.status == 2 and "Cannot write" in result.error
    report = tmp_path / "report.html"
    report.write_text("the old one")
    assert (await manage(azurite, "usage", "no-such-event", "--html", str(report))).status == 2
    assert report.read_text() == "the old one"
    assert (await manage(azurite, "usage", "used", "--html", str(report))).status == 0
    assert "EventUsage &amp; &lt;b&gt;loved&lt;/b&gt;" in report.read_text(encoding="utf-8")
    assert [path.name for path in await asyncio.to_thread(lambda: [*tmp_path.iterdir()])] == ["report.html"]
