"""What cannot be done, in one clear sentence; nothing was changed."""

import click


class Fault(click.ClickException):
    """The input is wrong: exit status 2."""

    exit_code = 2


class Outage(click.ClickException):
    """The input may be right, but the tables do not answer: exit status 1."""

    exit_code = 1
