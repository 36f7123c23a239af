"""`manage.py attendees`, and what it changes in the running app."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pytest

from shared.core.models import MOST_EXCEPTIONS, Event
from shared.quota.ledger_row import Key
from shared.quota.standing import day_of
from tests import browser
from tests.admin.manage import Result, create_event, manage
from tests.conftest import MODEL, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Answer

ADDRESS = "https://hack.example.com"


async def run(azurite: Azurite, *arguments: str) -> Result:
    result = await manage(azurite, "attendees", *arguments, PROXY_URL=ADDRESS)
    assert result.status == 0, result.errors
    return result


async def new_event(azurite: Azurite, tables: Tables, *options: str) -> Event:
    event = await tables.event((await create_event(azurite, "--models", MODEL, *options))["code"])
    assert event is not None
    return event


async def import_names(azurite: Azurite, code: str, folder: Path, text: str) -> Result:
    file = folder / "roster.csv"
    file.write_text(text, encoding="utf-8")
    return await manage(azurite, "attendees", "import", code, str(file))


async def keys(azurite: Azurite, code: str, *users: str) -> dict[str, str]:
    passes = (await run(azurite, "passes", code, *users, "--json")).json
    return {one["user"]: one["key"].partition("/")[2] for one in passes}


async def test_passes_of_a_roster_open_the_event_for_its_people_only(
    stage: Stage, azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    event = await new_event(azurite, tables, "--access", "roster")
    result = await import_names(
        azurite, event.code, tmp_path, "user,team\nAmy.Lee,red\nbob,blue\nbob,green\n"
    )
    assert (
        "Added 2 attendees" in result.output
        and "These lines repeat a name and are left out: 4." in result.output
    )
    found = await keys(azurite, event.code)
    assert found.keys() == {"amy.lee", "bob"}
    assert (await stage.chat(event.code, found["amy.lee"])).status == 200
    assert (await stage.chat(event.code, "amy.lee")).status == 401
    again = await import_names(azurite, event.code, tmp_path, "bob\ncat\n")
    assert "Added 1 attendee to" in again.output and "Already there: 1." in again.output
    assert (await keys(azurite, event.code))["amy.lee"] == found["amy.lee"]


async def test_nothing_of_a_list_with_an_invalid_name_is_imported(
    azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    event = await new_event(azurite, tables, "--access", "roster")
    names = [f"user-{number}" for number in range(300)]
    result = await import_names(azurite, event.code, tmp_path, "\n".join([*names, "no name"]))
    assert result.status == 2 and "line 301, 'no name'" in result.errors
    assert await tables.attendees.list(event.code) == []


async def test_blocked_attendee_is_refused_until_unblocked(
    stage: Stage, azurite: Azurite, tables: Tables
) -> None:
    event = await new_event(azurite, tables)
    assert (await stage.chat(event.code, "amy")).status == 200
    await usage_of(stage, event.code, 1)
    blocked = await run(azurite, "block", event.code, "Amy")
    assert "Note" not in blocked.output
    assert (await stage.chat(event.code, "amy")).error["code"] == "attendee_blocked"
    assert (await stage.chat(event.code, "bob")).status == 200
    await run(azurite, "unblock", event.code, "amy")
    assert (await stage.chat(event.code, "amy")).status == 200
    assert "Is the name right?" in (await run(azurite, "block", event.code, "amyy")).output
    changed = await tables.event(event.code)
    assert changed is not None and changed.exceptions == {"amyy": {"blocked": True}}


async def test_own_limits_are_changed_and_removed(stage: Stage, azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables, "--requests-per-day", "1")
    result = await run(
        azurite, "limit", event.code, "amy", "--requests-per-day", "2", "--tokens-per-day", "9000"
    )
    assert "2 requests per day, 9,000 tokens per day" in result.output
    assert [(await stage.chat(event.code, "amy")).status for _ in range(3)] == [200, 200, 429]
    locked = await run(azurite, "limit", event.code, "bob", "--requests-per-day", "0")
    assert "--requests-per-day 0 refuses every request of 'bob'" in locked.output
    assert (await stage.chat(event.code, "bob")).status == 429
    await run(azurite, "limit", event.code, "bob", "--as-event")
    assert [(await stage.chat(event.code, "bob")).status for _ in range(2)] == [200, 429]


async def test_changes_of_several_organisers_at_once_are_all_kept(azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables)
    names = [f"user-{number}" for number in range(6)]
    await asyncio.gather(*(run(azurite, "block", event.code, name) for name in names))
    changed = await tables.event(event.code)
    assert changed is not None and sorted(changed.exceptions) == names


async def test_exceptions_up_to_their_limit_are_stored_and_one_more_is_refused(
    stage: Stage, azurite: Azurite, tables: Tables
) -> None:
    event = await new_event(azurite, tables)
    full = {f"user-{number:04}": {"blocked": True} for number in range((MOST_EXCEPTIONS - 2) // 29)}
    await tables.change_event(event.code, lambda found: _with(found, full))
    refused = await manage(azurite, "attendees", "block", event.code, "one-more-than-the-row-can-hold")
    assert refused.status == 2 and "no room for another" in refused.errors
    assert (await stage.chat(event.code, "user-0007")).status == 403
    assert (await stage.chat(event.code, "amy")).status == 200
    assert "Updated" in (await manage(azurite, "events", "update", event.code, "--no-exceptions")).output
    assert (await stage.chat(event.code, "user-0007")).status == 200


def _with(event: Event, exceptions: dict[str, dict[str, bool]]) -> Event:
    return replace(event, exceptions=exceptions)


async def test_reset_gives_back_today_exactly_while_calls_run(
    stage: Stage, azurite: Azurite, tables: Tables
) -> None:
    """Three calls are charged before the reset, and two run over it."""
    event = await new_event(azurite, tables, "--requests-per-day", "5", "--requests-total", "50")
    for _ in range(3):
        assert (await stage.chat(event.code, "amy")).status == 200
    await stage.web._open().quota.sweep(everything=True)
    gate = stage.simulator.gate(MODEL, Answer(), calls=None)
    running = [asyncio.create_task(stage.chat(event.code, "amy")) for _ in range(2)]
    await gate.arrived(2)
    assert (await stage.chat(event.code, "amy")).status == 429
    result = (await run(azurite, "reset", event.code, "amy", "--json")).json
    assert (result["requests"], result["tokens"] > 0) == (3, True)
    gate.open_all()
    assert {(await call).status for call in running} == {200}
    await asyncio.sleep(1.1)  # a refusal is remembered for a second
    assert [(await stage.chat(event.code, "amy")).status for _ in range(4)] == [200, 200, 200, 429]
    await stage.web._open().quota.sweep(everything=True)
    day = day_of(event.starts_at.now(event.time_zone), event.time_zone).name
    row = await tables.read_ledger(Key(event.code, f"amy:{day}"))
    assert row.used.requests == row.granted.requests == 5
    assert (await tables.read_ledger(Key(event.code, ":total"))).used.requests == 8


async def test_a_key_in_place_of_the_name_means_its_attendee(
    azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    event = await new_event(azurite, tables, "--access", "roster")
    await import_names(azurite, event.code, tmp_path, "amy\nbob.lee\n")
    for user, own_pass in (await keys(azurite, event.code)).items():
        key = f"{event.code.upper()}/{own_pass}"
        assert (await run(azurite, "block", event.code, key)).output.startswith(f"Blocked '{user}'.")
        await run(azurite, "limit", event.code, own_pass, "--requests-per-day", "5")
        assert await keys(azurite, event.code, key) == {user: own_pass}
        assert f"'{user}' has used nothing today" in (await run(azurite, "reset", event.code, key)).output
        changed = await tables.event(event.code)
        assert changed is not None and changed.exceptions[user] == {"blocked": True, "requests_per_day": 5}
        assert (await run(azurite, "release", event.code, key)).output.startswith(f"Released '{user}'.")
    assert await tables.attendees.list(event.code) == []


async def test_released_name_can_be_claimed_again_and_its_old_pass_is_void(
    stage: Stage, azurite: Azurite, tables: Tables
) -> None:
    event = await new_event(azurite, tables, "--access", "claim", "--seats", "1")

    async def claim() -> str:
        body = {"event_code": event.code, "user": "amy"}
        async with stage.http.post(f"{stage.url}/v1/event/claim", json=body) as response:
            assert response.status == 200
            return str((await response.json())["api_key"]).partition("/")[2]

    first = await claim()
    assert (await keys(azurite, event.code, "amy")) == {"amy": first}
    await run(azurite, "release", event.code, "amy")
    assert (await stage.chat(event.code, first)).status == 401
    second = await claim()
    assert (await stage.chat(event.code, second)).status == 200
    assert (await stage.chat(event.code, first)).status == 401
    await run(azurite, "block", event.code, "amy")
    result = await manage(azurite, "events", "update", event.code, "--no-exceptions")
    assert result.status == 0, result.errors
    assert [(await stage.chat(event.code, key)).status for key in (first, second)] == [401, 200]
    missing = await manage(azurite, "attendees", "release", event.code, "bob")
    assert missing.status == 2 and "is not taken" in missing.errors


async def usage_of(stage: Stage, code: str, users: int) -> None:
    """Wait until the usage of so many users is written."""
    for _ in range(100):
        if len({row.user for row in await stage.tables.usage(code)}) >= users:
            return
        await asyncio.sleep(0.05)
    raise AssertionError


async def test_list_shows_who_has_started_and_escapes_formulas(
    stage: Stage, azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    event = await new_event(azurite, tables, "--access", "roster", "--requests-per-day", "3")
    roster = 'user,note\namy,\nbob,"=HYPERLINK(""http://x"")"\n+cat,@x\n'
    assert (await import_names(azurite, event.code, tmp_path, roster)).status == 0
    found = await keys(azurite, event.code)
    for _ in range(4):
        await stage.chat(event.code, found["amy"])
    assert (await stage.chat(event.code, "+cat")).status == 401  # without the pass
    await run(azurite, "block", event.code, "bob")
    await run(azurite, "limit", event.code, "+cat", "--requests-per-day", "9")
    await usage_of(stage, event.code, 2)
    await stage.web._open().quota.sweep(everything=True)
    listed = {one["user"]: one for one in (await run(azurite, "list", event.code, "--json")).json}
    amy, bob = listed["amy"], listed["bob"]
    assert (amy["started"], amy["requests_today"], amy["requests_left_today"], amy["refusals"]) == (
        True,
        3,
        0,
        1,
    )
    assert (bob["started"], bob["blocked"], bob["last_hour"]) == (False, True, None)
    assert (listed["+cat"]["started"], listed["+cat"]["refusals"]) == (False, 1)
    text = (await run(azurite, "list", event.code)).output
    assert "1 of 3 have started." in text and "not started" in text and "this hour" in text
    rows = list(csv.DictReader(io.StringIO((await run(azurite, "list", event.code, "--csv")).output)))
    assert [row["user"] for row in rows] == ["'+cat", "amy", "bob"]
    assert (rows[0]["note"], rows[2]["note"], rows[2]["blocked"]) == (
        "'@x",
        '\'=HYPERLINK("http://x")',
        "yes",
    )
    passes = list(csv.DictReader(io.StringIO((await run(azurite, "passes", event.code, "--csv")).output)))
    assert passes[2]["note"].startswith("'=HYPERLINK") and passes[1]["key"] == f"{event.code}/{found['amy']}"
    assert unquote(passes[1]["link"]) == f"{ADDRESS}/#{event.code}/{found['amy']}"


async def test_purge_of_an_attendee_leaves_no_row_with_the_name(
    stage: Stage, azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    """Also after the event was deleted. The rows of others stay."""
    event = await new_event(azurite, tables, "--access", "roster", "--requests-per-day", "9")
    assert (await import_names(azurite, event.code, tmp_path, "amy\namy.lee\n")).status == 0
    for key in (await keys(azurite, event.code)).values():
        assert (await stage.chat(event.code, key)).status == 200
    await run(azurite, "limit", event.code, "amy", "--requests-per-day", "9")
    await usage_of(stage, event.code, 2)
    await stage.web._open().quota.sweep(everything=True)

    async def names() -> set[str]:
        found = {one.user for one in await tables.attendees.list(event.code)}
        found |= {row.user for row in await tables.usage(event.code)}
        async for page in tables.row_keys.pages("quotas", event.code):
            found |= {row.key.rpartition(":")[0] for row in page}
        changed = await tables.event(event.code)
        return found | set(changed.exceptions if changed else ())

    assert await names() == {"amy", "amy.lee"}
    result = await manage(azurite, "attendees", "purge", event.code, "amy", typed="n\n")
    assert result.status == 2 and await names() == {"amy", "amy.lee"}
    await tables.rename_event(event.code, f"{event.code}-new")
    result = await manage(azurite, "attendees", "purge", event.code, "amy", "--yes")
    assert result.status == 2 and f"Use `attendees purge {event.code}-new amy`" in result.errors
    await tables.rename_event(f"{event.code}-new", event.code)
    assert await names() == {"amy", "amy.lee"}
    await run(azurite, "purge", event.code, "amy", "--yes")
    assert await names() == {"amy.lee"}
    await tables.delete_event(event.code)
    await run(azurite, "purge", event.code, "amy.lee", "--yes")
    assert await names() == set()
    again = await run(azurite, "purge", event.code, "amy.lee", "--yes")
    assert "Nothing is deleted. Is the name right?" in again.output


async def test_sheet_of_passes_prints_ten_cards_on_a_page(
    azurite: Azurite, tables: Tables, tmp_path: Path
) -> None:
    event = await new_event(azurite, tables, "--access", "roster")
    names = [*(f"user-{number}" for number in range(11)), "u" * 64]
    lines = "\n".join(f"{name},{'T' * 200}" for name in names)
    assert (await import_names(azurite, event.code, tmp_path, lines)).status == 0
    sheet = tmp_path / "cards.html"
    await run(azurite, "passes", event.code, "--html", str(sheet))
    text = sheet.read_text(encoding="utf-8")
    assert text.count('class="qr"') == 12 and "http://" not in text.replace("http://www.w3.org", "")
    async with browser.opened(tmp_path / "profile") as page:
        await page.open(sheet.as_uri())
        for width, height in ((8.27, 11.69), (8.5, 11)):
            printed = await page.send(
                "Page.printToPDF", paperWidth=width, paperHeight=height, preferCSSPageSize=False
            )
            assert pages(printed["data"]) == 2
        cut = "[...document.querySelectorAll('.card')].filter((c) => c.scrollHeight > c.clientHeight + 1).length"
        assert await page.evaluate(cut) == 0
        assert page.complaints == []


def pages(pdf: str) -> int:
    return len(re.findall(rb"/Type\s*/Page[^s]", base64.b64decode(pdf)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("passes", "CODE"), "has no passes"),
        (("passes", "no-such-event"), "There is no event"),
        (("block", "no-such-event", "amy"), "There is no event"),
        (("block", "CODE", "a b"), "not a valid name"),
        (("limit", "CODE", "amy"), "--as-event"),
        (("limit", "CODE", "amy", "--as-event", "--requests-per-day", "5"), "--as-event"),
        (("limit", "CODE", "amy", "--requests-per-day", "-1"), "out of range"),
        (("release", "CODE", "amy"), "is not taken"),
        (("list", "CODE", "--csv", "--json"), "only one"),
    ],
)
async def test_wrong_input_changes_nothing(
    azurite: Azurite, tables: Tables, arguments: tuple[str, ...], message: str
) -> None:
    event = await new_event(azurite, tables)
    result = await manage(azurite, "attendees", *(event.code if one == "CODE" else one for one in arguments))
    assert result.status == 2 and message in result.errors
    assert await tables.event(event.code) == event


async def test_own_budget_needs_an_event_with_a_budget(
    azurite: Azurite, tables: Tables, stage: Stage
) -> None:
    free = await new_event(azurite, tables)
    refused = await manage(azurite, "attendees", "limit", free.code, "amy", "--budget-per-day", "2")
    assert refused.status == 2 and "has no budget" in refused.errors
    model = await stage.add_deployment(prompt_price=Decimal(1), completion_price=Decimal(2))
    created = await create_event(azurite, "--models", model, "--budget-per-day", "1")
    limited = await run(azurite, "limit", created["code"], "amy", "--budget-per-day", "0.50")
    assert "Limits of 'amy': $0.50 per day." in limited.output
    response = await stage.chat(created["code"], "amy")
    assert (response.status, response.headers["x-event-budget-limit"]) == (200, "0.50")
    assert (await stage.chat(created["code"], "bob")).headers["x-event-budget-limit"] == "1.00"
    await run(azurite, "limit", created["code"], "bob", "--budget-per-day", "0")
    assert (await stage.chat(created["code"], "bob")).error["code"] == "budget_exceeded"
    await stage.web._open().quota.sweep(everything=True)
    amy = (await run(azurite, "list", created["code"], "--json")).json[0]
    assert 0 < amy["cost_today"] < amy["budget_per_day"] == 0.5
    given_back = (await run(azurite, "reset", created["code"], "amy")).output
    assert re.match(r"Gave \$0\.\d+, 1 request, \d+ tokens of today back to 'amy'\.", given_back)
    again = (await run(azurite, "reset", created["code"], "amy")).output
    assert again.startswith("'amy' has used nothing today. Is the name right?")
