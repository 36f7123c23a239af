"""`python -m tools.demo [--simulator URL --key-setting NAME]`: tables, the event "hackathon" and deployments.

Without a simulator, only the tables.

It may be run again: the event is open and its deployments serve afterwards, and what else an administrator
changed of them stays.
"""

import argparse
import asyncio
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from admin.tables import Tables
from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Event
from shared.core.settings import Settings, SettingsError
from shared.tables.service import open_service

CODE = "hackathon"
MODELS = ("gpt-4o-mini", "gpt-4o")
_OPEN_FOR = timedelta(days=7)


def main() -> int:
    options = _parse()
    try:
        asyncio.run(_seed(options.simulator, options.key_setting))
    except (SettingsError, StoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--simulator", metavar="URL", help="of the simulated Azure OpenAI")
    parser.add_argument("--key-setting", metavar="NAME", default="", help="the setting that holds its key")
    return parser.parse_args()


async def _seed(endpoint: str | None, key_setting: str) -> None:
    settings = Settings.read(os.environ)
    tables = Tables(open_service(settings.tables, settings.tables_uri))
    try:
        await tables.create_tables()
        if endpoint is None:
            return
        for model in MODELS:
            await _deploy(tables, Deployment(model, "simulated", endpoint, model, auth=key_setting))
        now = datetime.now(UTC)
        if await tables.change_event(CODE, lambda event: _reopened(event, now)) is None:
            await tables.add_event(_new(now))
    finally:
        await tables.close()


async def _deploy(tables: Tables, one: Deployment) -> None:
    def moved(there: Deployment) -> Deployment:
        return replace(there, endpoint=one.endpoint, auth=one.auth, active=True)

    if await tables.change_deployment(one, moved) is None:
        await tables.add_deployment(one)


def _new(now: datetime) -> Event:
    return Event(
        CODE,
        "Demo hackathon",
        now - timedelta(days=1),
        now + _OPEN_FOR,
        models=MODELS,
        default_model=MODELS[0],
        max_output_tokens=800,
        requests_per_day=200,
        tokens_per_day=100_000,
    )


def _reopened(event: Event, now: datetime) -> Event:
    """Open from yesterday for `_OPEN_FOR` at least. The organiser's other changes stay."""
    starts_at, ends_at = min(event.starts_at, now - timedelta(days=1)), max(event.ends_at, now + _OPEN_FOR)
    return replace(event, active=True, starts_at=starts_at, ends_at=ends_at)


if __name__ == "__main__":
    sys.exit(main())
