"""`manage.py events check`: test an event with real requests."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from admin.errors import CommandError, Failure
from admin.events.codes import parse_code
from admin.options import as_json
from admin.printing import print_result
from admin.target import find_url
from shared.core.errors import InvalidEventToken
from shared.events.credentials import parse

if TYPE_CHECKING:
    from admin.events.check_steps import Step

EXAMPLE = "https://YOUR-APP.azurewebsites.net"
_MARKS = {True: "ok  ", False: "FAIL", None: "-   "}


@click.command("check", short_help="Test an event with real requests.")
@click.argument("code")
@click.option(
    "--user",
    required=True,
    metavar="NAME",
    help="User name for the test, such as your GitHub name. At an event with passes: NAME.PASS.",
)
@click.option(
    "--url", metavar="URL", help="Address of the app. Default: PROXY_URL, or the running `dev.py run`."
)
@as_json
def check_event(code: str, user: str, url: str | None, as_json: bool) -> None:
    """Test an event with real requests, as an attendee sends them.

    Each model of the event gets one request to each API that it serves, and in chat also a streaming request.
    They count toward the quota of NAME. Images are not tested.
    The exit status is 1 if a step fails.
    """
    from admin.events.check_steps import run_steps

    event_code, user_name = parse_code(code), user.strip().lower()
    try:
        parse(f"{event_code}/{user_name}".encode())
    except InvalidEventToken as error:
        raise CommandError(f"{user!r} is not a valid user name. {error.message}") from error
    address = find_address(url)
    steps = asyncio.run(run_steps(address, event_code, user_name))
    failed = sum(step.ok is False for step in steps)
    fields = {"url": address, "ok": not failed, "steps": [asdict(step) for step in steps]}
    print_result(fields, as_json, lambda: _text(address, steps))
    if failed:
        raise Failure(f"{failed} of {len(steps)} steps failed.")


def find_address(url: str | None) -> str:
    """The address of the app, without a path. Raises CommandError if it is not known or not valid."""
    address = (url or find_url() or "").strip().rstrip("/")
    if not address:
        raise CommandError(f"The address of the app is not known. Use --url {EXAMPLE}, or set PROXY_URL.")
    address = address.removesuffix("/v1").removesuffix("/api")
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise CommandError(f"{address!r} is not a valid address. Use a full address, such as {EXAMPLE}.")
    return address


def _text(address: str, steps: list[Step]) -> str:
    width = max(len(step.name) for step in steps)
    lines = [f"Testing {address} as an attendee.", ""]
    for step in steps:
        lines.append(f"  {_MARKS[step.ok]}  {step.name:{width}}  {step.found}")
        if step.advice:
            lines.append(f"        {'':{width}}  -> {step.advice}")
    if all(step.ok is not False for step in steps):
        lines += ["", "All steps passed. Attendees can use this event."]
    return "\n".join(lines)
