"""The command line as a whole."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import click

from admin.deployments.commands import deployments
from admin.events.commands import events
from admin.faults import Failed
from admin.options import DEBUG, Group
from admin.usage.commands import usage


class _Program(Group):
    """Tells every failure in a sentence; with `--debug`, after its trace."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if context.meta.get(DEBUG) and not isinstance(error, Failed):
                traceback.print_exception(error)
            if isinstance(error, click.ClickException | OSError):  # click knows an output that was closed
                raise
            raise Failed(
                f"This should not happen ({type(error).__name__}: {error}): --debug shows where it does."
            ) from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.pass_context
def main(context: click.Context) -> None:
    """Administers events and deployments, and tells what was used.

    Talks to the tables that the environment, .env or local.settings.json name (PROXY_TABLES); with
    nothing set, to those of the `python3 dev.py run` that is running here. Where several run, to the
    latest's, and says so; PROXY_URL=ADDRESS chooses another of them.

    \b
    A first event:
      python3 manage.py deployments add gpt-4o-mini \\
              --endpoint https://NAME.openai.azure.com --deployment gpt-4o-mini
      python3 manage.py events create --name "Winter Hack" --models gpt-4o-mini \\
              --starts "2026-12-01 09:00" --ends "2026-12-03 18:00" --time-zone Europe/Berlin \\
              --requests-per-day 200 --max-output-tokens 800
      python3 manage.py events update CODE --starts now     # opens it for a rehearsal
      python3 manage.py events check CODE --user YOUR-NAME
      python3 manage.py usage CODE --watch
    """
    logging.basicConfig(level=logging.WARNING if context.meta.get(DEBUG) else logging.CRITICAL)


main.add_command(events)
main.add_command(deployments)
main.add_command(usage)
