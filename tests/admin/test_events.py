"""`manage.py events`, as a program on real tables."""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.core.errors import InvalidDeskKey
from shared.core.models import LIMITS, Event
from shared.desk.keys import check_desk_key, desk_key
from shared.tables.service import EVENTS, open_service
from tests.admin.manage import DATES, create_event, manage, run_program, start
from tests.conftest import EVENT, MODEL, QUESTION, Stage, nothing_left_in_flight
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.tap import TableTap


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
    assert "Open 1 Jan 2026, 00:00 to 1 Jan 2036, 18:00 Europe/Berlin" in slide
    assert 'OpenAI(base_url="https://hack.example.com/v1", api_key="handed/YOUR-GITHUB-NAME")' in slide
    assert "50 requests per day" in slide
    assert result.errors == ""


async def test_the_notes_on_an_event_are_where_its_handout_is_copied_from(azurite: Azurite) -> None:
    create = ("events", "create", "--name", "Winter Hack", *DATES, "--requests-per-day", "0")
    result = await manage(azurite, *create)
    assert result.errors == "" and "https://YOUR-APP.azurewebsites.net/v1" in result.output
    assert "Note: The address above is a placeholder. Set PROXY_URL" in result.output
    assert (
        "Note: --requests-per-day 0 refuses every request. To remove the limit, use --no-limit"
        in result.output
    )
    result = await manage(azurite, *create, "--json")
    assert result.json["requests_per_day"] == 0 and "Note: --requests-per-day 0 refuses" in result.errors


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
    await stage.web._open().tally.flush()
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
    assert "The event is stopped. To reopen it, use `events update halted --resume`." in result.output
    assert "stopped" not in (await manage(azurite, "events", "update", "halted", "--resume")).output


async def test_update_of_an_ended_event_notes_that_it_has_ended(tables: Tables, azurite: Azurite) -> None:
    dates = {"starts_at": datetime(2025, 1, 1, tzinfo=UTC), "ends_at": datetime(2025, 1, 2, tzinfo=UTC)}
    await tables.put_event(replace(EVENT, code="gone", active=False, **dates))  # type: ignore[arg-type]
    result = await manage(azurite, "events", "update", "gone", "--resume", "--json")
    assert result.json["active"]
    assert "The event has ended. To extend it, use `events update gone --ends DATE`." in result.errors
    assert "ended" not in (await manage(azurite, "events", "update", "gone", "--ends", "2037-01-01")).output


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
    assert result.status == 0 and f"Note: {note}" in result.output


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


@pytest.mark.usefixtures("tables")
async def test_parallel_is_created_changed_shown_and_listed(azurite: Azurite) -> None:
    assert (await create_event(azurite, "several", "--parallel", "4"))["parallel"] == 4
    shown = await manage(azurite, "events", "show", "several")
    assert re.search(r"^parallel +4$", shown.output, re.MULTILINE)
    await manage(azurite, "events", "update", "several", "--parallel", "1000")
    listed = (await manage(azurite, "events", "list", "--json")).json
    assert [event["parallel"] for event in listed if event["code"] == "several"] == [1000]
    await manage(azurite, "events", "update", "several", "--no-limit", "parallel")
    assert (await manage(azurite, "events", "show", "several", "--json")).json["parallel"] is None
    shown = await manage(azurite, "events", "show", "several")
    assert re.search(r"^parallel +16 \(default\)$", shown.output, re.MULTILINE)


@pytest.mark.parametrize("number", ["0", "1001", "2.5"])
async def test_parallel_is_a_whole_number_from_1_to_1000(azurite: Azurite, number: str) -> None:
    result = await manage(azurite, "events", "update", "several", "--parallel", number)
    assert result.status == 2 and "--parallel" in result.error


async def test_tools_and_stored_responses_are_created_changed_and_shown(azurite: Azurite) -> None:
    options = ("--tools", "web_search_preview,mcp", "--no-stored-responses")
    fields = await create_event(azurite, "tooled", *options)
    assert (fields["tools"], fields["store_responses"]) == (["web_search_preview", "mcp"], False)
    shown = await manage(azurite, "events", "show", "tooled")
    assert re.search(r"^hosted tools +web_search_preview, mcp$", shown.output, re.MULTILINE)
    assert re.search(r"^stored responses +no$", shown.output, re.MULTILINE)
    await manage(azurite, "events", "update", "tooled", "--organizer", "Ann")
    assert not (await manage(azurite, "events", "show", "tooled", "--json")).json["store_responses"]
    await manage(azurite, "events", "update", "tooled", "--tools", "", "--stored-responses")
    fields = (await manage(azurite, "events", "show", "tooled", "--json")).json
    assert (fields["tools"], fields["store_responses"]) == ([], True)
    fields = (await manage(azurite, "events", "update", "tooled", "--no-stored-responses", "--json")).json
    assert not fields["store_responses"]


async def test_each_event_has_a_secret_that_stays_and_is_never_shown(
    tables: Tables, azurite: Azurite
) -> None:
    await create_event(azurite, "sealed")
    await create_event(azurite, "other")
    event, other = await tables.event("sealed"), await tables.event("other")
    assert event is not None and other is not None
    assert len(event.id_secret) == 64 and event.id_secret != other.id_secret
    outputs = [
        await manage(azurite, "events", *command, *output)
        for command in (("show", "sealed"), ("list",), ("update", "sealed", "--parallel", "3"))
        for output in ((), ("--json",))
    ]
    outputs.append(await manage(azurite, "events", "stop", "sealed", "--json"))
    assert not any(event.id_secret in result.output + result.errors for result in outputs)
    changed = await tables.event("sealed")
    assert changed is not None and changed.id_secret == event.id_secret
    assert event.id_secret not in repr(changed)


def shown_key(output: str) -> str:
    return output.rpartition("/desk#")[2].strip()


async def test_the_desk_link_is_printed_and_a_new_one_voids_it(tables: Tables, azurite: Azurite) -> None:
    created = await manage(azurite, "events", "create", "with-desk", "--name", "D", *DATES)
    event = await tables.event("with-desk")
    assert event is not None and shown_key(created.output.partition("\nNote")[0]) == desk_key(event)
    assert event.desk_secret not in created.output + repr(event)
    again = await manage(azurite, "events", "desk", "with-desk")
    assert shown_key(again.output) == desk_key(event)
    other = await manage(azurite, "events", "desk", "with-desk", "--new", "--json")
    changed = await tables.event("with-desk")
    assert changed is not None and other.json["desk_url"].endswith(f"/desk#{desk_key(changed)}")
    with pytest.raises(InvalidDeskKey):
        check_desk_key(desk_key(event), changed)


async def test_an_event_of_an_earlier_version_gets_a_desk(tables: Tables, azurite: Azurite) -> None:
    await tables.add_event(replace(EVENT, code="no-desk-yet"))
    shown = await manage(azurite, "events", "desk", "no-desk-yet")
    event = await tables.event("no-desk-yet")
    assert event is not None and len(event.desk_secret) == 64
    assert shown_key(shown.output) == desk_key(event)


async def test_an_update_gives_a_secret_to_an_event_of_an_earlier_version(
    tables: Tables, azurite: Azurite
) -> None:
    await tables.add_event(replace(EVENT, code="older"))
    await manage(azurite, "events", "update", "older", "--parallel", "3")
    event = await tables.event("older")
    assert event is not None and len(event.id_secret) == 64


async def test_an_update_keeps_the_columns_of_a_later_version(
    tables: Tables, service: TableServiceClient, azurite: Azurite
) -> None:
    await tables.add_event(replace(EVENT, code="newer", requests_per_day=5))
    rows = service.get_table_client(EVENTS)
    key = {"PartitionKey": "newer", "RowKey": "event"}
    await rows.upsert_entity(key | {"colour": "blue"})
    await manage(azurite, "events", "update", "newer", "--no-limit", "requests-per-day")
    row = await rows.get_entity(*key.values())
    assert row["colour"] == "blue" and "requests_per_day" not in row


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


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_interrupted_update_leaves_the_event_unchanged(
    tables: Tables, azurite: Azurite, method: str
) -> None:
    """Interrupted at its first table call, and at the write, which was sent but has not arrived."""
    await tables.put_event(replace(EVENT, code="interrupted"))
    before = await tables.event("interrupted")
    update = ("events", "update", "interrupted", "--ends", "2031-01-01", "--no-limit", "tokens-total")
    async with nothing_left_in_flight(), TableTap(azurite.port).open() as tap:
        tap.passing.clear()
        process = await start(tap.connection_string, *update)
        async with asyncio.timeout(60):
            await tap.request_arrived.wait()
            while not tap.requests[-1].startswith(method):
                tap.request_arrived.clear()
                tap.passing.set()
                tap.passing.clear()
                await tap.request_arrived.wait()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert await tables.event("interrupted") == before
        tap.passing.set()
    assert (process.returncode, errors.decode().strip()) == (130, "Interrupted.")
    assert tap.requests[-1].startswith(method)


async def test_missing_tables_are_created() -> None:
    with Azurite(None) as empty:
        assert (await manage(empty, "events", "list", "--json")).json == []
        result = await manage(empty, "events", "create", "first", "--name", "A hack", *DATES)
        assert result.status == 0 and "No model is deployed yet" in result.output
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
