"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from admin.money import BUDGET
from shared.core.models import DEFAULT_PARALLEL, HIGHEST_PARALLEL, LIMITS

DEBUG = f"{__name__}.debug"
"""The key in click's context under which a command finds whether `--debug` is set."""
LARGEST_LIMIT = 10**12
_LIMIT_HELP = {
    "requests_per_day": "Requests per attendee and day. A day starts at midnight in the event's time zone.",
    "tokens_per_day": "Tokens per attendee and day, prompt and completion together.",
    "requests_per_minute": "Requests per attendee and minute, on each instance of the app.",
    "requests_total": "Total requests for the whole event.",
    "tokens_total": "Total tokens for the whole event.",
    "max_output_tokens": "Maximum output of one request in tokens, all its answers (n) together. "
    "Larger requests are reduced to this.",
    "parallel": "Requests of an attendee that can run at the same time, on each instance. "
    f"Default: {DEFAULT_PARALLEL}.",
}
_BUDGET_HELP = {
    "budget": "Money for the whole event, such as 200. The event never costs more.",
    "budget_per_day": "Money per attendee and day, such as 2.",
}
_LIMIT_RANGE = {"max_output_tokens": (1, LARGEST_LIMIT), "parallel": (1, HIGHEST_PARALLEL)}
"""From 0 to the largest limit, unless it is here."""

BUDGETS = {"budget": "cost_total", "budget_per_day": "cost_per_day"}
"""The field of an event for each option with an amount of money."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


class Number(click.ParamType[int | float]):
    """A number from `lowest` to `highest`."""

    name = "number"

    def __init__(self, kind: type[int] | type[float], lowest: int, highest: int) -> None:
        self._kind, self._lowest, self._highest = kind, lowest, highest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        try:
            number = self._kind(value)
        except ValueError:
            kind, example = ("a whole number", "1000") if self._kind is int else ("a number", "0.15")
            self.fail(f"{value!r} is not {kind}. Example: {example}.", param, ctx)
        if not self._lowest <= number <= self._highest:
            self.fail(f"{value} is out of range. Use {self._lowest} to {self._highest:,}.", param, ctx)
        return number


def _set_debug(context: click.Context, _: click.Parameter, given: bool) -> None:
    """The option can come before or after the name of a command, so it is processed several times."""
    context.meta[DEBUG] = given or context.meta.get(DEBUG, False)


debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)


_INSTEAD = {
    "extend": "events update CODE --extend TIME",
    "resume": "events update CODE --resume",
    "start": "events update CODE --starts now",
    "open": "events update CODE --starts now",
    "close": "events stop CODE",
    "end": "events stop CODE",
    "add": "attendees import CODE FILE",
    "remove": "attendees release CODE USER",
}
"""What to use for words that name no command of a group."""


class Group(click.Group):
    """A group that adds `--debug` to each of its commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            instead = _INSTEAD.get(args[0].lower(), "")
            if instead.partition(" ")[0] == self.name:
                raise click.UsageError(f"No such command {args[0]!r}. Use `{instead}`.", ctx) from error
            raise

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(debug(cmd), name)


def option_name(name: str) -> str:
    """The option of a parameter: `tokens_total` gives `--tokens-total`."""
    return f"--{name.replace('_', '-')}"


def limits(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each limit of an event, money first."""
    for name, help_text in reversed([(name, _LIMIT_HELP[name]) for name in LIMITS]):
        kind = Number(int, *_LIMIT_RANGE.get(name, (0, LARGEST_LIMIT)))
        command = click.option(option_name(name), type=kind, metavar="N", help=help_text)(command)
    for name, help_text in reversed(_BUDGET_HELP.items()):
        command = click.option(option_name(name), type=BUDGET, metavar="AMOUNT", help=help_text)(command)
    return command


def split_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
