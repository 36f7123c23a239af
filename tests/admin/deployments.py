"""`manage.py deployments add` and `update`, with the arguments that most tests use."""

from __future__ import annotations

from shared.core.models import Deployment
from tests.admin.manage import Result, manage
from tests.conftest import KEY
from tests.seeded_tables import Tables
from tools.azurite import Azurite

MODEL = "tried"


def adding(url: str, *more: str, model: str = MODEL, deployment: str = "gpt-4o") -> tuple[str, ...]:
    return ("deployments", "add", model, "--endpoint", url, "--deployment", deployment, *more)


async def add(azurite: Azurite, url: str, *more: str, deployment: str = "gpt-4o", **settings: str) -> Result:
    command = adding(url, "--key-env", "SIMULATOR_KEY", *more, deployment=deployment)
    return await manage(azurite, *command, **{"SIMULATOR_KEY": KEY} | settings)


async def update(azurite: Azurite, *options: str, **settings: str) -> Result:
    command = ("deployments", "update", MODEL, "gpt-4o", *options)
    return await manage(azurite, *command, **{"SIMULATOR_KEY": KEY} | settings)


async def stored(tables: Tables, model: str = MODEL) -> list[Deployment]:
    return [one for one in await tables.deployments() if one.model == model]


async def delete(tables: Tables, model: str = MODEL) -> None:
    for one in await stored(tables, model):
        await tables.delete_deployment(one.model, one.id)
