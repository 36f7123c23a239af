"""What the commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from shared.core.models import LIMITS

CACHE_TIME: Final = "the app's PROXY_CACHE_SECONDS (30, unless set)"
LARGEST_LIMIT: Final = 10**12
_LIMIT_HELP: Final = {
    "requests_per_day": "Of each attendee; the day begins at midnight in the event's time zone.",
    "tokens_per_day": "Of each attendee: prompt and completion tokens together.",
    "requests_per_minute": "Of each attendee.",
    "requests_total": "Of all attendees, over the whole event.",
    "tokens_total": "Likewise: what the event may cost at most.",
    "max_output_tokens": "Of one call, all its answers (n) together. Longer wishes are lowered to it.",
}

DEBUG: Final = f"{__name__}.debug"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


class Number(click.ParamType[int | float]):
    """Within bounds, and with sentences that say how to write one."""

    name = "number"

    def __init__(self, kind: type[int] | type[float], lowest: int, highest: int) -> None:
        self._kind, self._lowest, self._highest = kind, lowest, highest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        try:
            number = self._kind(value)
        except ValueError:
            kind, example = ("a whole number", "1000") if self._kind is int else ("a number", "0.15")
            self.fail(f"{value!r} is not {kind}, such as {example}.", param, ctx)
        if not self._lowest <= number <= self._highest:
            self.fail(f"{value} is not from {self._lowest} to {self._highest:,}.", param, ctx)
        return number


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
    for name in reversed(LIMITS):
        lowest = 1 if name == "max_output_tokens" else 0
        kind = Number(int, lowest, LARGEST_LIMIT)
        option, text = f"--{name.replace('_', '-')}", _LIMIT_HELP[name]
        command = click.option(option, type=kind, metavar="N", help=text)(command)
    return command


def names(text: str) -> tuple[str, ...]:
    """Comma-separated ones, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
