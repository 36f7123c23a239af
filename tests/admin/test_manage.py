"""`manage.py events`, as a program, on real tables."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from admin.faults import Fault
from admin.target import find
from shared.core.models import LIMITS, Event
from shared.tables.service import open_service
from tests.admin.manage import DATES, ROOT, created, manage, program
from tests.conftest import EVENT, MODEL, QUESTION, Stage, TableTap, nothing_left_in_flight
from tests.seeded_tables import Tables
from tools.azurite import Azurite

DEAD = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"


async def test_an_event_that_was_created_is_open_to_attendees(stage: Stage, azurite: Azurite) -> None:
    fields = await created(azurite, "Winter-Hack", "--models", MODEL, "--max-output-tokens", "7")
    assert (fields["code"], fields["default_model"]) == ("winter-hack", MODEL)
    assert fields["starts_at"] == "2025-12-31T23:00:00+00:00"
    async with stage.post(headers={"api-key": "winter-hack/ann"}, json=QUESTION) as answer:
        assert (answer.status, answer.headers["x-event-max-output-tokens"]) == (200, "7")


@pytest.mark.usefixtures("tables")
async def test_a_code_is_proposed_that_can_be_said_and_not_guessed(azurite: Azurite) -> None:
    codes = [(await created(azurite))["code"] for _ in range(2)]
    assert codes[0] != codes[1]
    assert all(re.fullmatch(r"([a-z]{3,9}-){3}[a-z]{3,9}", code) for code in codes)


@pytest.mark.usefixtures("tables")
async def test_what_to_hand_out_is_printed_with_the_address_and_a_text_for_the_slide(
    azurite: Azurite,
) -> None:
    more = ("--models", MODEL, "--requests-per-day", "50")
    said = await manage(
        *(azurite, "events", "create", "handed", "--name", "Winter Hack", *DATES, *more),
        PROXY_URL="https://hack.example.com/",
    )
    assert said.status == 0, said.errors
    assert "Endpoint   https://hack.example.com/v1\n" in said.output
    assert "API key    handed/YOUR-GITHUB-NAME\n" in said.output
    slide = said.output.partition("For the slide:")[2]
    assert "Thu 2026-01-01 00:00 to Tue 2036-01-01 18:00, Europe/Berlin" in slide
    assert 'OpenAI(base_url="https://hack.example.com/v1", api_key="handed/YOUR-GITHUB-NAME")' in slide
    assert "50 requests a day" in slide


async def test_an_event_is_changed_stopped_resumed_and_removed(stage: Stage, azurite: Azurite) -> None:
    await created(azurite, "changing", "--models", MODEL, "--requests-per-day", "5")

    async def status() -> int:
        async with stage.post(headers={"api-key": "changing/ann"}, json=QUESTION) as answer:
            return answer.status

    async def update(*options: str) -> None:
        said = await manage(azurite, "events", "update", "changing", *options)
        assert said.status == 0, said.errors

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
    said = await manage(azurite, "events", "delete", "changing", "--yes")
    assert "usage stays" in said.output and "quota rows" in said.output
    assert await status() == 401


async def test_a_removal_asks_and_without_a_yes_nothing_is_removed(tables: Tables, azurite: Azurite) -> None:
    await created(azurite, "asked")
    for answer in ("n\n", "\n", ""):
        said = await manage(azurite, "events", "delete", "asked", answer=answer)
        assert (said.status, said.output) == (2, "")
        assert "Nothing was changed" in said.errors
    assert await tables.event("asked") is not None
    assert (await manage(azurite, "events", "delete", "asked", "--json", answer="y\n")).json[
        "code"
    ] == "asked"
    assert await tables.event("asked") is None


async def test_an_update_of_a_stopped_event_says_that_it_stays_stopped(
    tables: Tables, azurite: Azurite
) -> None:
    await created(azurite, "halted")
    assert (await manage(azurite, "events", "stop", "halted")).status == 0
    said = await manage(azurite, "events", "update", "halted", "--ends", "2037-01-01")
    assert said.status == 0 and "it is stopped, and stays so until" in said.errors
    assert "stopped" not in (await manage(azurite, "events", "update", "halted", "--resume")).errors


async def test_an_update_of_an_event_that_is_over_says_so(tables: Tables, azurite: Azurite) -> None:
    dates = {"starts_at": datetime(2025, 1, 1, tzinfo=UTC), "ends_at": datetime(2025, 1, 2, tzinfo=UTC)}
    await tables.put_event(replace(EVENT, code="gone", active=False, **dates))  # type: ignore[arg-type]
    said = await manage(azurite, "events", "update", "gone", "--resume", "--json")
    assert said.json["active"] and "it is over already: `events update --ends ...`" in said.errors
    assert "over" not in (await manage(azurite, "events", "update", "gone", "--ends", "2037-01-01")).errors


SMALL = {
    "a day's": (("--tokens-per-day", "10"), "--tokens-per-day 10 is too little: a question of one word"),
    "a total": (("--tokens-total", "38"), "--tokens-total 38 is too little: a question of one word"),
    "a day's, below the cap": (
        ("--tokens-per-day", "500", "--max-output-tokens", "800"),
        "--tokens-per-day 500 is less than one call sets aside: its prompt and --max-output-tokens 800",
    ),
}


@pytest.mark.parametrize(("limits", "told"), SMALL.values(), ids=SMALL)
async def test_a_token_limit_that_is_too_small_for_a_call_is_noted(
    tables: Tables, azurite: Azurite, limits: tuple[str, ...], told: str
) -> None:
    said = await manage(azurite, "events", "create", "--name", "A hack", *DATES, *limits, "--json")
    assert said.json and f"Note: {told}" in said.errors
    said = await manage(azurite, "events", "update", said.json["code"], *limits)
    assert said.status == 0 and f"Note: {told}" in said.errors


async def test_a_note_that_calls_are_refused_is_true(stage: Stage, azurite: Azurite) -> None:
    question = {"messages": [{"role": "user", "content": "Hi"}]}

    async def asked(tokens: int) -> tuple[int, bool]:
        limits = ("--models", MODEL, "--tokens-per-day", str(tokens))
        said = await manage(azurite, "events", "create", "--name", "A hack", *DATES, *limits, "--json")
        async with stage.post(headers={"api-key": f"{said.json['code']}/ann"}, json=question) as answer:
            return answer.status, "nearly every call is refused" in said.errors

    assert await asked(30) == (429, True)
    assert await asked(100) == (200, False)


async def test_two_updates_at_once_both_stand(tables: Tables, azurite: Azurite) -> None:
    await created(azurite, "twice")
    options = [("--organizer", "Ann"), *((f"--{name.replace('_', '-')}", "7") for name in LIMITS)]
    said = await asyncio.gather(*(manage(azurite, "events", "update", "twice", *one) for one in options))
    assert [one.status for one in said] == [0] * len(options)
    event = await tables.event("twice")
    assert event is not None and event.organizer == "Ann"
    assert [getattr(event, name) for name in LIMITS] == [7] * len(LIMITS)


async def test_a_change_made_meanwhile_is_not_overwritten(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="meanwhile"))
    asked: list[str] = []
    has_read = asyncio.Event()

    async with TableTap(azurite.port).open() as tap:
        slow = Tables(open_service(tap.connection_string, None))

        def change(event: Event) -> Event:
            asked.append(event.organizer)
            if len(asked) == 1:
                tap.passing.clear()  # what it writes now waits
                tap.asked.clear()
                has_read.set()
            return replace(event, name="Changed")

        changing = asyncio.create_task(slow.change_event("meanwhile", change))
        async with asyncio.timeout(30):
            await has_read.wait()
            await tap.asked.wait()
        await tables.change_event("meanwhile", lambda event: replace(event, organizer="Ann"))
        tap.passing.set()
        changed = await changing
        await slow.close()

    assert asked == ["", "Ann"]
    assert changed == await tables.event("meanwhile")
    assert changed is not None and (changed.name, changed.organizer) == ("Changed", "Ann")
    assert await tables.change_event("no-such", change) is None


@pytest.mark.parametrize(("number", "method"), [(1, "POST"), (8, "PUT")])
async def test_an_update_that_is_interrupted_leaves_the_event_as_it_was(
    tables: Tables, azurite: Azurite, number: int, method: str
) -> None:
    """At its first call, and at the one that writes: what is held back then was sent, and has not arrived."""
    await tables.put_event(replace(EVENT, code="interrupted"))
    before = await tables.event("interrupted")
    async with nothing_left_in_flight(), TableTap(azurite.port).open() as tap:
        tap.passing.clear()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "manage.py"), "events", "update", "interrupted"),
            *("--ends", "2031-01-01", "--no-limit", "tokens-total"),
            env={**os.environ, "PROXY_TABLES": tap.connection_string},
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            for _ in range(number - 1):
                await tap.asked.wait()
                tap.asked.clear()
                tap.passing.set()
                tap.passing.clear()
            await tap.asked.wait()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert await tables.event("interrupted") == before
        tap.passing.set()
    assert (process.returncode, errors.decode().strip()) == (130, "Interrupted.")
    assert tap.requests[-1].startswith(method) and len(tap.requests) == number


async def test_tables_that_are_missing_are_made() -> None:
    with Azurite(None) as empty:
        assert (await manage(empty, "events", "list", "--json")).json == []
        said = await manage(empty, "events", "create", "first", "--name", "A hack", *DATES)
        assert said.status == 0 and "no model is deployed yet" in said.errors
        tables = Tables(open_service(empty.connection_string, None))
        try:
            assert await tables.usage("first") == []
        finally:
            await tables.close()


async def test_every_event_is_listed_with_its_state_in_its_own_time(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="listed", name="[bold]Odd[/] name"))
    await tables.put_event(replace(EVENT, code="listed-stopped", active=False))
    said = await program(azurite, "events", "list")
    lines = {line.split()[0]: line for line in said.output.splitlines() if line.strip()}
    assert "[bold]Odd[/] name" in lines["listed"] and " open " in lines["listed"]
    assert " stopped " in lines["listed-stopped"]
    assert {event["code"] for event in (await manage(azurite, "events", "list", "--json")).json} >= {
        "listed",
        "listed-stopped",
    }
    shown = await manage(azurite, "events", "show", "LISTED")
    assert "no limit" in shown.output


NEW = ("events", "create", "x", "--name", "n")
WRONG = {
    "unknown zone": ((*NEW, *DATES[:5], "Mars/Base"), "no time zone 'Mars/Base'"),
    "a city for a zone": ((*NEW, *DATES[:5], "Berlin"), "did you mean Europe/Berlin?"),
    "end before start": ((*NEW, "--starts", "2026-02-02", "--ends", "2026-02-01"), "ends before it starts"),
    "empty code": (("events", "create", "", "--name", "n", *DATES), "'' cannot be an event code"),
    "code with a user": (("events", "check", "hackathon/ann", "--user", "ann"), "without the user"),
    "illegal code": (("events", "create", "a/b", "--name", "n", *DATES), "cannot be an event code"),
    "code that exists": (("events", "create", "hackathon", "--name", "n", *DATES), "`events update`"),
    "unknown model": ((*NEW, *DATES, "--models", "gpt-4o-mni"), "Did you mean gpt-4o-mini?"),
    "model in capitals": (
        (*NEW, *DATES, "--models", "GPT-4o"),
        "No deployment serves GPT-4o. Did you mean gpt-4o?",
    ),
    "no model at all": ((*NEW, *DATES, "--models", ","), "names no model"),
    "unknown default model": ((*NEW, *DATES, "--default-model", "no-such"), "No deployment serves no-such"),
    "default that is no model": (
        (*NEW, *DATES, "--models", MODEL, "--default-model", "gpt-4o"),
        "is not one of gpt-4o-mini",
    ),
    "no date": ((*NEW, "--starts", "soon", "--ends", "2026-02-01"), '"2026-12-01 09:00"'),
    "empty date": ((*NEW, "--starts", "", "--ends", "2026-02-01"), "A date is empty"),
    "date of two meanings": (
        (*NEW, "--starts", "01/02/2026", "--ends", "2026-03-01"),
        "can be read as 1 February and as 2 January: write the year first",
    ),
    "negative quota": (
        (*NEW, *DATES, "--requests-per-day", "-1"),
        "'--requests-per-day': -1 is not from 0 to 1,000,000,000,000.",
    ),
    "quota with a comma": (
        (*NEW, *DATES, "--requests-per-day", "1,000"),
        "'1,000' is not a whole number, such as 1000.",
    ),
    "absurd quota": ((*NEW, *DATES, "--tokens-per-day", "9" * 30), "--tokens-per-day"),
    "word for a quota": ((*NEW, *DATES, "--requests-total", "many"), "is not a whole number"),
    "no output at all": ((*NEW, *DATES, "--max-output-tokens", "0"), "--max-output-tokens"),
    "empty name": (("events", "create", "x", "--name", " ", *DATES), "--name"),
    "name of two lines": (("events", "create", "x", "--name", "a\nb", *DATES), "in one line"),
    "unknown event": (("events", "stop", "no-such-event"), "There is no event 'no-such-event'"),
    "no change": (("events", "update", "hackathon"), "nothing to change"),
    "limit and none": (
        ("events", "update", "hackathon", "--tokens-total", "5", "--no-limit", "tokens-total"),
        "not both",
    ),
    "default and none": (
        ("events", "update", "hackathon", "--default-model", MODEL, "--no-default-model"),
        "not both",
    ),
    "update to an unknown model": (("events", "update", "hackathon", "--models", "no-such"), "not one of"),
    "usage of no event": (("usage", "no-such-event"), "There is no event"),
    "two forms of usage": (("usage", "hackathon", "--csv", "--json"), "Give one of"),
    "usage by what is not": (("usage", "hackathon", "--by", "colour"), "'user', 'model', 'hour'"),
    "pause of no watch": (("usage", "hackathon", "--every", "5"), "--every goes with --watch"),
    "report in no file": (("usage", "hackathon", "--html", ""), "the name of a file"),
    "user that can be none": (("events", "check", "hackathon", "--user", "a/b"), "cannot be a user"),
    "address that is none": (
        ("events", "check", "hackathon", "--user", "ann", "--url", "ftp://x"),
        "is not a whole address",
    ),
    "unknown command": (("events", "crate"), "No such command"),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
async def test_wrong_input_is_one_sentence_and_status_2_and_changes_nothing(
    tables: Tables, azurite: Azurite, arguments: tuple[str, ...], told: str
) -> None:
    before = await tables.events()
    said = await manage(azurite, *arguments)
    assert (said.status, said.output) == (2, "")
    assert told in said.complaint
    assert await tables.events() == before


async def test_debug_shows_the_trace_wherever_it_stands(azurite: Azurite) -> None:
    for arguments in (("--debug", "events", "stop", "nobody"), ("events", "stop", "nobody", "--debug")):
        said = await program(azurite, *arguments)
        assert (said.status, said.output) == (2, "")
        assert said.errors.startswith("Traceback") and "There is no event 'nobody'" in said.errors


async def test_tables_that_do_not_answer_are_told() -> None:
    said = await manage(DEAD, "events", "list")
    assert said.status == 2
    assert said.complaint.startswith("Error: The tables do not answer: nothing is to be reached")


async def test_nobody_signed_in_is_told() -> None:
    only_its_cli = {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential", "PATH": ""}
    said = await manage(
        None, "events", "list", PROXY_TABLES__tableServiceUri="https://127.0.0.1:9", **only_its_cli
    )
    assert said.status == 2
    assert "The tables do not answer: you are not signed in to Azure" in said.complaint


async def test_a_connection_string_that_is_none_is_told() -> None:
    said = await manage("nonsense", "events", "list")
    assert said.status == 2 and "connection string" in said.complaint


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"Values": null}', '{"Values": []}'])
def test_local_settings_that_cannot_be_read_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "local.settings.json").write_text(content)
    with pytest.raises(Fault, match=r"local\.settings\.json is not a JSON object"):
        find(tmp_path)


AZURE_REFUSALS = {
    "AuthorizationPermissionMismatch": (403, "role Storage Table Data Contributor"),
    "AuthorizationFailure": (403, "firewall"),
    "AuthenticationFailed": (403, "account key"),
    "KeyBasedAuthenticationNotPermitted": (403, "PROXY_TABLES__tableServiceUri"),
    "AccountIsDisabled": (403, "role Storage Table Data Contributor"),
    "InternalError": (500, "500 InternalError"),
}


@pytest.mark.parametrize(("code", "status", "told"), [(code, *rest) for code, rest in AZURE_REFUSALS.items()])
async def test_what_azure_refuses_is_told_with_what_mends_it(code: str, status: int, told: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = (
            f'{{"odata.error": {{"code": "{code}", "message": {{"lang": "en", "value": "No."}}}}}}'.encode()
        )
        head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}x-ms-error-code: {code}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        said = await manage(DEAD.replace(":9/", f":{port}/"), "events", "list")
    assert said.status == 2
    assert "The tables do not answer" in said.complaint and told in said.complaint


def test_help_is_quick_for_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, admin.commands\n"
        "heavy = ('azure', 'aiohttp', 'rich', 'jinja2', 'vl_convert', 'dateutil', 'xkcdpass')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["events", "deployments", "usage", "events create", "deployments update"])
async def test_every_command_explains_itself(command: str) -> None:
    said = await program(None, *command.split(), "--help")
    assert said.status == 0 and "Usage: manage.py" in said.output and "--debug" in said.output


@pytest.mark.parametrize("command", ["create", "update"])
async def test_help_says_that_the_output_cap_is_for_all_answers_of_a_call(command: str) -> None:
    """As `test_the_cap_is_lowered_in_the_field_that_the_client_used` shows."""
    told = (await manage(None, "events", command, "--help")).output.rpartition("--max-output-tokens")[2]
    assert " ".join(told.split()).startswith("N Of one call, all its answers (n) together.")


def test_nothing_of_administration_is_deployed() -> None:
    """What the app needs is in `requirements.txt` alone, and it has no use for what manage.py needs besides."""

    def named(file: str) -> set[str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        return {line.partition("==")[0].lower() for line in lines if "==" in line}

    assert named("requirements-admin.txt") and named("requirements.txt")
    assert named("requirements-admin.txt") & named("requirements.txt") == set()
    sources = [ROOT / "function_app.py", *(ROOT / "shared").rglob("*.py")]
    assert not [path.name for path in sources if re.search(r"(from|import) admin", path.read_text("utf-8"))]
