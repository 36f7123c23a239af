"""What cannot be done, in one clear sentence; nothing was changed."""

import click


class Fault(click.ClickException):
    """The input is wrong: exit status 2."""

    exit_code = 2


class Outage(Fault):
    """The input may be right, but the tables do not answer; whoever calls can try again."""


class Failed(click.ClickException):
    """What was to be tried was tried, and failed; the report is printed already. Exit status 1."""

    exit_code = 1
