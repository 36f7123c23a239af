"""`manage.py events handout`: what attendees need, to show, to print and to paste."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin.errors import CommandError
from admin.events import codes
from admin.events import text as event_text
from admin.options import as_json
from admin.printing import print_note, print_result
from admin.qr import for_terminal, svg_file
from admin.saving import save
from admin.session import run
from admin.target import find_target
from shared.core.models import CLAIM, OPEN, Event

if TYPE_CHECKING:
    from admin.tables import Tables

_HOW = {
    OPEN: "Open the page, and enter your GitHub name.",
    CLAIM: "Open the page, and take your name. It gives you your key.",
    "roster": "Open the page with your own link, or scan the code on your card.",
}


@click.command("handout", short_help="Print what attendees need: link, QR code, slide, code.")
@click.argument("code")
@click.option(
    "--qr", type=click.Path(dir_okay=False, path_type=Path), help="Save the QR code as an SVG file."
)
@as_json
def print_handout(code: str, qr: Path | None, as_json: bool) -> None:
    """Print the link to the page, its QR code, the text of a slide, and code that works when pasted."""
    target = find_target()
    event, model = run(target, lambda tables: _event_and_model(tables, code))
    url = target.url or event_text.PLACEHOLDER_URL
    link, program = f"{url}/#{event.code}", sample(event, url, model)
    if target.url is None:
        print_note("The address is a placeholder. Set PROXY_URL in the environment or .env.")
    if qr is not None:
        save(qr, svg_file(link))
        print_note(f"Saved the QR code to {qr}.")
    fields = {"link": link, "slide": _slide(event, link), "code": program}
    print_result(fields, as_json, lambda: _text(event, link, program))


async def _event_and_model(tables: Tables, code: str) -> tuple[Event, str]:
    """The event, and a model that it can use in chat."""
    event = await codes.readable_event(tables, code)
    model = event_text.chat_model(event, await tables.deployments())
    if model is None:
        raise CommandError("The event has no chat model yet. Add one with `deployments add`.")
    return event, model


def sample(event: Event, url: str, model: str) -> str:
    """A program that prints the model's answer."""
    return f"""\
# pip install openai
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{event_text.key(event)}")
completion = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "What is a glove box?"}}],
)
print(completion.choices[0].message.content)
"""


def _slide(event: Event, link: str) -> str:
    lines = [event.name, f"Open {event_text.period(event)}", link, _HOW[event.access]]
    if event.organizer:
        lines.append(f"Questions: {event.organizer}")
    return "\n".join(lines)


def _text(event: Event, link: str, program: str) -> str:
    slide = "\n".join(f"  {line}" for line in _slide(event, link).splitlines())
    key = event_text.key(event)
    return f"""\
Page: {link}
{for_terminal(link)}
For a slide:

{slide}

To paste, with your own name or pass in place of {key.partition("/")[2]}:

{program}"""
