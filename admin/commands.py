"""The `manage.py` command line."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import click

from admin.attendees.commands import attendees
from admin.backup.commands import backup, restore
from admin.deployments.commands import deployments
from admin.errors import Failure
from admin.events.commands import events
from admin.options import DEBUG, Group, debug
from admin.usage.commands import usage


class _Program(Group):
    """Prints one message for every error; with `--debug`, the traceback first."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if context.meta.get(DEBUG) and not isinstance(error, Failure):
                traceback.print_exception(error)
            if isinstance(error, click.UsageError) and "unexpected extra argument" in error.message:
                text = f"{error.message}. Put a value with spaces in quotes."
                raise click.UsageError(text, error.ctx) from error
            if isinstance(error, click.ClickException | OSError):  # click handles a closed output
                raise
            raise Failure(
                f"Unexpected error ({type(error).__name__}: {error}). Add --debug to see where it happens."
            ) from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@debug
@click.pass_context
def main(context: click.Context) -> None:
    """Manage events and deployments, and see how much is used.

    The commands use the tables named in PROXY_TABLES or PROXY_TABLES__tableServiceUri. Set one of them in the
    environment, .env or local.settings.json. If none is set, the commands use the running `python3 dev.py
    run`. If several are running, they use the newest; choose another with PROXY_URL=ADDRESS.

    \b
    Your first event:
      python3 manage.py deployments add gpt-4o-mini \\
              --endpoint https://NAME.openai.azure.com --deployment gpt-4o-mini
      python3 manage.py events create --name "Winter Hack" --models gpt-4o-mini \\
              --starts "2026-12-01 09:00" --ends "2026-12-03 18:00" --time-zone Europe/Berlin \\
              --requests-per-day 200 --max-output-tokens 800
      python3 manage.py events update CODE --starts now     # opens it for a test
      python3 manage.py events check CODE --user YOUR-NAME
      python3 manage.py usage CODE --watch
    """
    logging.basicConfig(level=logging.WARNING if context.meta.get(DEBUG) else logging.CRITICAL)


main.add_command(events)
main.add_command(deployments)
main.add_command(attendees)
main.add_command(usage)
main.add_command(backup)
main.add_command(restore)
