"""The errors that end a command: one message, and an exit status."""

import click


class CommandError(click.ClickException):
    """The command cannot run, and changed nothing. Exit status 2."""

    exit_code = 2


class Failure(click.ClickException):
    """The command ran and found a failure, or has a bug. Exit status 1."""

    exit_code = 1
