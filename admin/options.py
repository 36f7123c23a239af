"""What the commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

LARGEST_LIMIT: Final = 10**12
LIMITS: Final = {
    "requests_per_day": "Of each attendee; the day begins at midnight in the event's time zone.",
    "tokens_per_day": "Of each attendee: prompt and completion tokens together.",
    "requests_per_minute": "Of each attendee.",
    "requests_total": "Of all attendees, over the whole event.",
    "tokens_total": "Likewise: what the event may cost at most.",
    "max_output_tokens": "Of one answer. Longer wishes are lowered to it.",
}

DEBUG: Final = f"{__name__}.debug"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


class Command(click.Command):
    """With `--debug`, which every command takes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params.append(_debug())


class Group(click.Group):
    command_class = Command

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params.append(_debug())


Group.group_class = Group


def _debug() -> click.Option:
    def note(context: click.Context, _: click.Parameter, given: bool) -> None:
        context.meta[DEBUG] = given or context.meta.get(DEBUG, False)

    told = "Show the whole trace of a failure."
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=note, help=told
    )


def limits(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each limit of an event."""
    for name, told in reversed(LIMITS.items()):
        lowest = 1 if name == "max_output_tokens" else 0
        kind = click.IntRange(lowest, LARGEST_LIMIT)
        command = click.option(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=told)(command)
    return command


def names(text: str) -> tuple[str, ...]:
    """Comma-separated ones, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
