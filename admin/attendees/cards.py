"""A sheet of passes to print and cut: one HTML file, which loads nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from admin.events import text as event_text
from admin.qr import svg_element
from shared.core.models import Event


def render(event: Event, passes: Sequence[Mapping[str, str]]) -> str:
    """A card for each pass, in this order. Every text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("cards.html").render(
        event=event,
        period=event_text.period(event),
        cards=[(one, Markup(svg_element(one["link"]))) for one in passes],  # noqa: S704 - made here
    )
