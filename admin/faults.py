"""What a person did that cannot be done: one clear sentence, exit status 2, nothing changed."""

import click


class Fault(click.ClickException):
    exit_code = 2
