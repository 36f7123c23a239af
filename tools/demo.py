"""`python -m tools.demo [--simulator URL --key-setting NAME]`: creates the tables and the demo event.

Without `--simulator`, creates only the tables. If the event exists, opens it again and sets the address of
its deployments. Other changes stay.
"""

import argparse
import asyncio
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from admin.tables import Tables
from shared.core.errors import StoreUnavailable
from shared.core.ids import new_secret
from shared.core.models import DEFAULT_APIS, EMBEDDINGS, IMAGES, Deployment, Event
from shared.core.settings import Settings, SettingsError
from shared.tables.service import open_service

CODE = "hackathon"
MODELS = {
    "gpt-4o-mini": DEFAULT_APIS,
    "gpt-4o": DEFAULT_APIS,
    "text-embedding-3-small": (EMBEDDINGS,),
    "gpt-image-1": (IMAGES,),
}
_PRICES = {
    "gpt-4o-mini": ("0.15", "0.075", "0.6"),
    "gpt-4o": ("2.5", "1.25", "10"),
    "text-embedding-3-small": ("0.02", None, None),
    "gpt-image-1": ("5", "1.25", "40"),
}
"""Of 1,000,000 prompt tokens, cached ones and completion tokens: those that `deployments add` finds."""
DEFAULT_MODEL = "gpt-4o-mini"
_OPEN_FOR = timedelta(days=7)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--simulator", metavar="URL", help="address of the simulated Azure OpenAI")
    parser.add_argument("--key-setting", metavar="NAME", default="", help="setting that holds its key")
    options = parser.parse_args()
    try:
        asyncio.run(_create(options.simulator, options.key_setting))
    except (SettingsError, StoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _create(simulator: str | None, key_setting: str) -> None:
    settings = Settings.read(os.environ)
    tables = Tables(open_service(settings.tables, settings.tables_uri))
    try:
        await tables.create_tables()
        if simulator:
            for model, apis in MODELS.items():
                deployment = Deployment(model, "simulated", simulator, model, auth=key_setting, apis=apis)
                await _deploy(tables, replace(deployment, **_prices(model)))
            now = datetime.now(UTC)
            if await tables.change_event(CODE, lambda event: _reopened(event, now)) is None:
                await tables.add_event(new_event(now))
    finally:
        await tables.close()


def _prices(model: str) -> dict[str, Any]:
    prompt, cached, completion = (None if one is None else Decimal(one) for one in _PRICES[model])
    return {"prompt_price": prompt, "cached_prompt_price": cached, "completion_price": completion}


async def _deploy(tables: Tables, wanted: Deployment) -> None:
    moved = partial(replace, endpoint=wanted.endpoint, auth=wanted.auth, active=True)
    if await tables.change_deployment(wanted, moved) is None:
        await tables.add_deployment(wanted)


def new_event(now: datetime) -> Event:
    return Event(
        CODE,
        "Demo hackathon",
        now - timedelta(days=1),
        now + _OPEN_FOR,
        models=tuple(MODELS),
        default_model=DEFAULT_MODEL,
        max_output_tokens=800,
        requests_per_day=200,
        tokens_per_day=100_000,
        id_secret=new_secret(),
        desk_secret=new_secret(),
    )


def _reopened(event: Event, now: datetime) -> Event:
    starts_at, ends_at = min(event.starts_at, now - timedelta(days=1)), max(event.ends_at, now + _OPEN_FOR)
    secrets: dict[str, Any] = {
        name: getattr(event, name) or new_secret() for name in ("id_secret", "desk_secret")
    }
    return replace(event, active=True, starts_at=starts_at, ends_at=ends_at, **secrets)


if __name__ == "__main__":
    sys.exit(main())
