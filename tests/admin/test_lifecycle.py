"""`manage.py events rotate`, `rename`, `copy`, `purge` and `handout`."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shared.core.models import Event
from shared.events.passes import pass_of
from shared.tables.event_rows import SECRETS
from tests.admin.manage import DATES, Result, create_event, manage
from tests.conftest import MODEL, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite


async def run(azurite: Azurite, *arguments: str, **settings: str) -> Result:
    result = await manage(azurite, "events", *arguments, **settings)
    assert result.status == 0, result.errors
    return result


async def new_event(azurite: Azurite, tables: Tables, *options: str) -> Event:
    event = await tables.event((await create_event(azurite, "--models", MODEL, *options))["code"])
    assert event is not None
    return event


async def test_rotate_makes_every_pass_void(stage: Stage, azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables, "--access", "claim")
    await tables.attendees.add(event.code, {"amy": {"source": "claim"}, "bob": {"source": "claim"}})
    await tables.put_event(replace(event, exceptions={"amy": {"pass_number": 3, "blocked": False}}))
    assert (await stage.chat(event.code, pass_of(event, "bob"))).status == 200
    assert "is void. Names that are taken: 2." in (await run(azurite, "rotate", event.code, "--yes")).output
    assert (await stage.chat(event.code, pass_of(event, "bob"))).status == 401
    changed = await tables.event(event.code)
    assert changed is not None and changed.exceptions == {"amy": {"blocked": False}}
    assert (await stage.chat(event.code, pass_of(changed, "amy"))).status == 200


async def test_new_code_keeps_the_event_its_usage_and_its_passes(
    stage: Stage, azurite: Azurite, tables: Tables
) -> None:
    event = await new_event(azurite, tables, "--access", "claim", "--requests-per-day", "2")
    await tables.attendees.add(event.code, {"amy": {"source": "claim"}})
    key, new = pass_of(event, "amy"), f"{event.code}-new"
    assert (await stage.chat(event.code, key)).status == 200
    assert f"Attendees now use {new}/" in (await run(azurite, "rename", event.code, new.upper())).output
    assert (await stage.chat(event.code, key)).status == 401
    assert [(await stage.chat(new, key)).status for _ in range(2)] == [200, 429]
    for _ in range(100):
        rows = (await manage(azurite, "usage", new, "--json")).json["rows"]
        if rows and rows[0]["requests"] == 2 and rows[0]["refusals"]:
            break
        await asyncio.sleep(0.1)
    assert [(row["user"], row["requests"], row["refusals"]) for row in rows] == [("amy", 2, 1)]
    assert len((await manage(azurite, "attendees", "list", new, "--json")).json) == 1
    taken = await manage(azurite, "events", "create", event.code, "--name", "Another", *DATES)
    assert taken.status == 2 and f"The usage of event {new!r} is kept under the code" in taken.errors
    await run(azurite, "rename", new, event.code)
    back = await tables.event(event.code)
    assert back is not None and back == event


async def test_copied_event_has_the_limits_and_no_attendees(azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables, "--access", "claim", "--seats", "9", "--requests-per-day", "7")
    await tables.put_event(replace(event, active=False, exceptions={"amy": {"blocked": True}}))
    dates = ("--starts", "2035-01-01", "--ends", "2035-01-02")
    copied = await tables.event((await run(azurite, "copy", event.code, *dates, "--json")).json["code"])
    assert copied is not None
    kept = {"code": event.code, "starts_at": event.starts_at, "ends_at": event.ends_at}
    secrets = {name: getattr(event, name) for name in SECRETS}
    assert replace(copied, **kept, **secrets) == event  # type: ignore[arg-type]
    assert len({getattr(one, name) for one in (copied, event) for name in SECRETS}) == 2 * len(SECRETS)


async def test_the_slide_of_an_event_without_a_list_names_models_that_work(azurite: Azurite) -> None:
    created = await manage(azurite, "events", "create", "--name", "Free", *DATES)
    (models,) = re.findall(r"  Models: (.+)", created.output)
    (used,) = re.findall(r'model="(.+?)"', created.output)
    assert MODEL in models and used in models and "MODEL" not in used


@pytest.mark.parametrize(("command", "error"), [("rotate", "has no passes"), ("purge", "is not over")])
async def test_what_cannot_be_done_is_refused_before_it_is_confirmed(
    azurite: Azurite, tables: Tables, command: str, error: str
) -> None:
    event = await new_event(azurite, tables)
    refused = await manage(azurite, "events", command, event.code, typed="y\n")
    assert refused.status == 2 and error in refused.error and "[y/N]" not in refused.output + refused.errors


async def test_purge_leaves_no_row_of_an_event(stage: Stage, azurite: Azurite, tables: Tables) -> None:
    """Not of one that is open."""
    event = await new_event(azurite, tables, "--access", "claim", "--requests-total", "5")
    await tables.attendees.add(event.code, {f"user-{number}": {} for number in range(130)})
    assert (await stage.chat(event.code, pass_of(event, "user-7"))).status == 200
    refused = await manage(azurite, "events", "purge", event.code, "--yes")
    assert refused.status == 2 and "is not over" in refused.errors
    new = f"{event.code}-renamed"
    await run(azurite, "rename", event.code, new)
    await run(azurite, "stop", new)
    await stage.web._open().tally.flush()
    await stage.web._open().quota.sweep(everything=True)
    old = await manage(azurite, "events", "purge", event.code, "--yes")
    assert old.status == 2 and f"Use `events purge {new}`" in old.errors
    renamed = await tables.event(new)
    assert renamed is not None
    await tables.put_event(replace(renamed, currency="unreadable"))
    assert (await manage(azurite, "usage", new, "--json")).json["rows"][0]["user"] == "user-7"
    removed = (await run(azurite, "purge", new, "--yes", "--json")).json["removed"]
    assert removed["attendees"] == 130 and removed["events"] == 1 and removed["usage"] and removed["quotas"]
    for table in ("events", "attendees", "quotas", "usage"):
        for code in (event.code, new):
            assert [page async for page in tables.row_keys.pages(table, code) if page] == []


@pytest.mark.parametrize(
    ("names", "hint"),
    [((), "no usage and no attendees"), (("amy",), "attendees is kept. `manage.py events purge")],
)
async def test_delete_points_to_usage_only_where_there_is_some(
    azurite: Azurite, tables: Tables, names: tuple[str, ...], hint: str
) -> None:
    event = await new_event(azurite, tables, "--access", "claim")
    await tables.attendees.add(event.code, {name: {"source": "claim"} for name in names})
    deleted = (await run(azurite, "delete", event.code, "--yes")).output
    assert hint in deleted and "manage.py usage" not in deleted


async def test_extended_event_ends_later(azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables)
    assert "The dates are now" in (await run(azurite, "update", event.code, "--extend", "90m")).output
    changed = await tables.event(event.code)
    assert changed is not None and (changed.ends_at - event.ends_at).total_seconds() == 5400
    for text, message in (
        ("soon", "Use one such as 30m, 1h30m or 2d."),
        ("99999d", "Use a shorter --extend."),
    ):
        wrong = await manage(azurite, "events", "update", event.code, "--extend", text)
        assert wrong.status == 2 and message in wrong.errors


@pytest.mark.parametrize("access", ["open", "claim", "roster"])
async def test_pasted_text_of_the_handout_prints_an_answer(
    stage: Stage, azurite: Azurite, tables: Tables, tmp_path: Path, access: str
) -> None:
    """With a name or pass in place of the placeholder."""
    event = await new_event(azurite, tables, "--access", access, "--organizer", "Ann")
    drawing = tmp_path / "code.svg"
    found = (
        await run(azurite, "handout", event.code, "--json", "--qr", str(drawing), PROXY_URL=stage.url)
    ).json
    assert found["link"] == f"{stage.url}/#{event.code}" and "Ann" in found["slide"]
    assert drawing.read_text(encoding="utf-8").startswith("<?xml")
    text = (await run(azurite, "handout", event.code, PROXY_URL=stage.url)).output
    assert found["code"] in text and "█" in text
    placeholder = "YOUR-GITHUB-NAME" + ("" if access == "open" else ".PASS")
    program = found["code"].replace(placeholder, "amy" if access == "open" else pass_of(event, "amy"))
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr


async def test_notes_say_what_a_change_of_the_access_means(azurite: Azurite, tables: Tables) -> None:
    event = await new_event(azurite, tables)
    changed = (await run(azurite, "update", event.code, "--access", "claim", "--seats", "0")).output
    assert (
        "Keys without a pass stop working" in changed and "With --seats 0, no one can take a name" in changed
    )
    seats = (await run(azurite, "update", event.code, "--seats", "0")).output
    assert "With --seats 0" in seats and "stop working" not in seats
    opened = (await run(azurite, "update", event.code, "--access", "open", "--seats", "5")).output
    assert "can use any name" in opened and "--seats has no effect" in opened
    shown = (await run(azurite, "show", event.code)).output
    assert event.pass_secret not in shown and "pass_secret" not in shown
    assert event.pass_secret not in (await run(azurite, "show", event.code, "--json")).output
