"""`manage.py events`, as a program on real tables."""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.core.models import LIMITS, Event
from shared.tables.service import EVENTS, open_service
from tests.admin.manage import DATES, create_event, manage, run_program, start
from tests.conftest import EVENT, MODEL, QUESTION, Stage, TableTap, nothing_left_in_flight
from tests.seeded_tables import Tables
from tools.azurite import Azurite


async def test_attendees_can_use_a_new_event(stage: Stage, azurite: Azurite) -> None:
    fields = await create_event(azurite, "Winter-Hack", "--models", MODEL, "--max-output-tokens", "7")
    assert (fields["code"], fields["default_model"]) == ("winter-hack", MODEL)
    assert fields["starts_at"] == "2025-12-31T23:00:00+00:00"
    async with stage.post(headers={"api-key": "winter-hack/ann"}, json=QUESTION) as response:
        assert (response.status, response.headers["x-event-max-output-tokens"]) == (200, "7")


@pytest.mark.usefixtures("tables")
async def test_generated_codes_are_four_words_and_differ(azurite: Azurite) -> None:
    codes = [(await create_event(azurite))["code"] for _ in range(2)]
    assert codes[0] != codes[1]
    assert all(re.fullmatch(r"([a-z]{3,9}-){3}[a-z]{3,9}", code) for code in codes)


@pytest.mark.usefixtures("tables")
async def test_create_prints_the_address_the_key_and_a_slide(azurite: Azurite) -> None:
    create = ("events", "create", "handed", "--name", "Winter Hack", *DATES, "--models", MODEL)
    result = await manage(azurite, *create, "--requests-per-day", "50", PROXY_URL="https://hack.example.com/")
    assert result.status == 0, result.errors
    assert "Endpoint   https://hack.example.com/v1\n" in result.output
    assert "API key    handed/YOUR-GITHUB-NAME\n" in result.output
    slide = result.output.partition("For a slide:")[2]
    assert "Thu 2026-01-01 00:00 to Tue 2036-01-01 18:00, Europe/Berlin" in slide
    assert 'OpenAI(base_url="https://hack.example.com/v1", api_key="handed/YOUR-GITHUB-NAME")' in slide
    assert "50 requests per day" in slide


async def test_the_app_follows_update_stop_resume_and_delete(stage: Stage, azurite: Azurite) -> None:
    await create_event(azurite, "changing", "--models", MODEL, "--requests-per-day", "5")

    async def status() -> int:
        async with stage.post(headers={"api-key": "changing/ann"}, json=QUESTION) as response:
            return response.status

    async def update(*options: str) -> None:
        result = await manage(azurite, "events", "update", "changing", *options)
        assert result.status == 0, result.errors

    assert await status() == 200
    await update("--requests-per-day", "0")
    assert await status() == 429
    await update("--no-limit", "requests-per-day")
    assert await status() == 200
    assert (await manage(azurite, "events", "stop", "changing")).status == 0
    assert await status() == 403
    await update("--resume", "--models", f"{MODEL},gpt-4o", "--no-default-model")
    assert await status() == 400
    await update("--default-model", "gpt-4o", "--organizer", "Ann")
    assert await status() == 200
    await update("--ends", "2026-01-02")
    assert await status() == 403
    result = await manage(azurite, "events", "delete", "changing", "--yes")
    assert "Usage data is kept" in result.output and "reuse this code" in result.output
    assert await status() == 401


async def test_delete_without_confirmation_deletes_nothing(tables: Tables, azurite: Azurite) -> None:
    await create_event(azurite, "confirmed")
    for typed in ("n\n", "\n", ""):
        result = await manage(azurite, "events", "delete", "confirmed", typed=typed)
        assert (result.status, result.output) == (2, "")
        assert "Error: Cancelled." in result.errors
    assert await tables.event("confirmed") is not None
    result = await manage(azurite, "events", "delete", "confirmed", "--json", typed="y\n")
    assert result.json["code"] == "confirmed"
    assert await tables.event("confirmed") is None


async def test_update_of_a_stopped_event_notes_that_it_stays_stopped(azurite: Azurite) -> None:
    await create_event(azurite, "halted")
    assert (await manage(azurite, "events", "stop", "halted")).status == 0
    result = await manage(azurite, "events", "update", "halted", "--ends", "2037-01-01")
    assert result.status == 0
    assert "The event is stopped. To reopen it, use `events update halted --resume`." in result.errors
    assert "stopped" not in (await manage(azurite, "events", "update", "halted", "--resume")).errors


async def test_update_of_an_ended_event_notes_that_it_has_ended(tables: Tables, azurite: Azurite) -> None:
    dates = {"starts_at": datetime(2025, 1, 1, tzinfo=UTC), "ends_at": datetime(2025, 1, 2, tzinfo=UTC)}
    await tables.put_event(replace(EVENT, code="gone", active=False, **dates))  # type: ignore[arg-type]
    result = await manage(azurite, "events", "update", "gone", "--resume", "--json")
    assert result.json["active"]
    assert "The event has ended. To extend it, use `events update gone --ends DATE`." in result.errors
    assert "ended" not in (await manage(azurite, "events", "update", "gone", "--ends", "2037-01-01")).errors


SMALL_LIMITS = {
    "day": (("--tokens-per-day", "10"), "--tokens-per-day 10 is too low: a question of one word"),
    "total": (("--tokens-total", "38"), "--tokens-total 38 is too low: a question of one word"),
    "day below the output limit": (
        ("--tokens-per-day", "500", "--max-output-tokens", "800"),
        "--tokens-per-day 500 is less than one request can use: its prompt and --max-output-tokens 800",
    ),
}


@pytest.mark.parametrize(("limits", "note"), SMALL_LIMITS.values(), ids=SMALL_LIMITS)
@pytest.mark.usefixtures("tables")
async def test_a_token_limit_below_one_request_is_noted(
    azurite: Azurite, limits: tuple[str, ...], note: str
) -> None:
    result = await manage(azurite, "events", "create", "--name", "A hack", *DATES, *limits, "--json")
    assert result.json and f"Note: {note}" in result.errors
    result = await manage(azurite, "events", "update", result.json["code"], *limits)
    assert result.status == 0 and f"Note: {note}" in result.errors


@pytest.mark.parametrize(("tokens", "status", "is_noted"), [(30, 429, True), (100, 200, False)])
async def test_requests_are_refused_when_a_note_says_so(
    stage: Stage, azurite: Azurite, tokens: int, status: int, is_noted: bool
) -> None:
    limits = ("--models", MODEL, "--tokens-per-day", str(tokens))
    result = await manage(azurite, "events", "create", "--name", "A hack", *DATES, *limits, "--json")
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    async with stage.post(headers={"api-key": f"{result.json['code']}/ann"}, json=question) as response:
        assert response.status == status
    assert ("Almost every request will be refused" in result.errors) == is_noted


async def test_simultaneous_updates_all_take_effect(tables: Tables, azurite: Azurite) -> None:
    await create_event(azurite, "twice")
    options = [("--organizer", "Ann"), *((f"--{name.replace('_', '-')}", "7") for name in LIMITS)]
    results = await asyncio.gather(*(manage(azurite, "events", "update", "twice", *one) for one in options))
    assert [result.status for result in results] == [0] * len(options)
    event = await tables.event("twice")
    assert event is not None and event.organizer == "Ann"
    assert [getattr(event, name) for name in LIMITS] == [7] * len(LIMITS)


async def test_a_change_does_not_overwrite_another_made_meanwhile(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="meanwhile"))
    organizers: list[str] = []
    has_read = asyncio.Event()

    async with TableTap(azurite.port).open() as tap:
        slow = Tables(open_service(tap.connection_string, None))

        def change(event: Event) -> Event:
            organizers.append(event.organizer)
            if len(organizers) == 1:
                tap.passing.clear()  # hold back its write
                tap.request_arrived.clear()
                has_read.set()
            return replace(event, name="Changed")

        changing = asyncio.create_task(slow.change_event("meanwhile", change))
        async with asyncio.timeout(30):
            await has_read.wait()
            await tap.request_arrived.wait()
        await tables.change_event("meanwhile", lambda event: replace(event, organizer="Ann"))
        tap.passing.set()
        changed = await changing
        await slow.close()

    assert organizers == ["", "Ann"]
    assert changed == await tables.event("meanwhile")
    assert changed is not None and (changed.name, changed.organizer) == ("Changed", "Ann")
    assert await tables.change_event("no-such", change) is None


@pytest.mark.parametrize(("number", "method"), [(1, "POST"), (8, "PUT")])
async def test_an_interrupted_update_leaves_the_event_unchanged(
    tables: Tables, azurite: Azurite, number: int, method: str
) -> None:
    """Interrupted at its first table call, and at the write, which was sent but has not arrived."""
    await tables.put_event(replace(EVENT, code="interrupted"))
    before = await tables.event("interrupted")
    update = ("events", "update", "interrupted", "--ends", "2031-01-01", "--no-limit", "tokens-total")
    async with nothing_left_in_flight(), TableTap(azurite.port).open() as tap:
        tap.passing.clear()
        process = await start(tap.connection_string, *update)
        async with asyncio.timeout(60):
            for _ in range(number - 1):
                await tap.request_arrived.wait()
                tap.request_arrived.clear()
                tap.passing.set()
                tap.passing.clear()
            await tap.request_arrived.wait()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert await tables.event("interrupted") == before
        tap.passing.set()
    assert (process.returncode, errors.decode().strip()) == (130, "Interrupted.")
    assert tap.requests[-1].startswith(method) and len(tap.requests) == number


async def test_missing_tables_are_created() -> None:
    with Azurite(None) as empty:
        assert (await manage(empty, "events", "list", "--json")).json == []
        result = await manage(empty, "events", "create", "first", "--name", "A hack", *DATES)
        assert result.status == 0 and "No model is deployed yet" in result.errors
        tables = Tables(open_service(empty.connection_string, None))
        try:
            assert await tables.usage("first") == []
        finally:
            await tables.close()


async def test_list_shows_each_event_with_its_state(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="listed", name="[bold]Odd[/] name"))
    await tables.put_event(replace(EVENT, code="listed-stopped", active=False))
    result = await run_program(azurite, "events", "list")
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert "[bold]Odd[/] name" in lines["listed"] and " open " in lines["listed"]
    assert " stopped " in lines["listed-stopped"]
    listed = (await manage(azurite, "events", "list", "--json")).json
    assert {event["code"] for event in listed} >= {"listed", "listed-stopped"}
    assert "no limit" in (await manage(azurite, "events", "show", "LISTED")).output


async def test_a_value_that_cannot_be_read_is_named(
    tables: Tables, service: TableServiceClient, azurite: Azurite
) -> None:
    await tables.put_event(replace(EVENT, code="bad"))
    row = {"PartitionKey": "bad", "RowKey": "event", "requests_per_day": "1,000"}
    await service.get_table_client(EVENTS).update_entity(row, mode="merge")
    listed = await manage(azurite, "events", "list")
    shown = await manage(azurite, "events", "show", "bad")
    await tables.delete_event("bad")
    value = "The event 'bad' has a value that cannot be read: requests_per_day is '1,000'."
    assert listed.status == 2 and value in listed.error
    assert shown.status == 2 and "a row has a value that cannot be read" in shown.error
