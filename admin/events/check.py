"""`manage.py events check`: the rehearsal. Real calls, as an attendee makes them, step by step."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from urllib.parse import urlsplit

import click

from admin.events.codes import checked
from admin.events.rehearsal import Step, rehearsed
from admin.faults import Failed, Fault
from admin.options import Command, as_json
from admin.printing import tell
from admin.target import find_url
from shared.events.credentials import is_user

_MARKS = {True: "ok  ", False: "FAIL", None: "-   "}


@click.command("check", cls=Command, short_help="Call the app as an attendee of CODE would.")
@click.argument("code")
@click.option("--user", required=True, metavar="NAME", help="A GitHub name: yours, as an attendee has one.")
@click.option(
    "--url",
    metavar="URL",
    help="The app's address; without it, PROXY_URL or the `dev.py run` here.",
)
@as_json
def check_event(code: str, user: str, url: str | None, as_json: bool) -> None:
    """Call the app as an attendee of CODE would, and tell what each step found.

    For each model of the event it makes one plain call and one stream, which count for NAME's quota. The exit
    status is 1 when a step fails.
    """
    event_code, name = checked(code), user.strip().lower()
    if not is_user(name):
        raise Fault(f"{user!r} cannot be a user: 1 to 64 letters, digits, '-', '_', '.', '@' or '+'.")
    address = _address(url)
    found = asyncio.run(rehearsed(address, f"{event_code}/{name}"))
    steps = [replace(step, advice=step.advice.replace("CODE", event_code)) for step in found]
    fields = {"url": address, "ok": all(step.ok is not False for step in steps)}
    tell(fields | {"steps": [asdict(step) for step in steps]}, as_json, lambda: _text(address, steps))
    if failed := sum(step.ok is False for step in steps):
        raise Failed(f"{failed} of {len(steps)} steps failed." if failed > 1 else "A step failed.")


def _address(url: str | None) -> str:
    address = (url or find_url() or "").strip().rstrip("/")
    if not address:
        raise Fault(
            "The app's address is not known: give --url https://YOUR-APP.azurewebsites.net, or set PROXY_URL."
        )
    for suffix in ("/v1", "/api"):
        address = address.removesuffix(suffix)
    try:
        parts = urlsplit(address)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise Fault(f"{address!r} is not a whole address, such as https://YOUR-APP.azurewebsites.net.")
    return address


def _text(address: str, steps: list[Step]) -> str:
    width = max(len(step.name) for step in steps)
    lines = [f"Calling {address} as an attendee would.", ""]
    for step in steps:
        lines.append(f"  {_MARKS[step.ok]}  {step.name:{width}}  {step.found}")
        if step.advice:
            lines.append(f"        {'':{width}}  -> {step.advice}")
    if all(step.ok is not False for step in steps):
        lines += ["", "All is well: this event works for attendees."]
    return "\n".join(lines)
