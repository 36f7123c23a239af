"""Which tables an administrator's command talks to."""

from __future__ import annotations

import json
import os
from collections import ChainMap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from admin.faults import Fault, Outage
from shared.errors import StoreUnavailable
from shared.identity import default_credential
from shared.settings import TABLES, TABLES_URI
from shared.tables import Tables, open_service
from tools import runs
from tools.processes import ROOT


@dataclass(frozen=True, slots=True)
class Target:
    """The tables' address, one way or the other, and the proxy's, where it is known."""

    connection_string: str | None
    uri: str | None
    url: str | None
    environment: Mapping[str, str]


def find(root: Path = ROOT) -> Target:
    """Named by the environment, `.env` or `local.settings.json`; else those of the `dev.py run` here.

    Raises:
        Fault: none is named and none runs, or `local.settings.json` cannot be read.
    """
    named = ChainMap[str, str](os.environ, _dot_env(root), _local_settings(root))
    if named.get(TABLES) or named.get(TABLES_URI):
        url = named.get("PROXY_URL") or named.get("SERVICE_API_URI")
        return Target(named.get(TABLES) or None, named.get(TABLES_URI) or None, url, named)
    running = runs.running()
    if not running:
        raise Fault(
            f"No tables are named: start `python3 dev.py run`, or set {TABLES} or {TABLES_URI} "
            "in the environment, .env or local.settings.json."
        )
    run = running[0]
    return Target(run.tables, None, run.url, named)


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Tables]:
    """The tables, made where they are missing.

    Raises:
        Outage: they do not answer.
        Fault: their address cannot be read.
    """
    credential = (
        None if target.connection_string else default_credential(target.environment.get("AZURE_CLIENT_ID"))
    )
    try:
        tables = Tables(open_service(target.connection_string, target.uri, credential))
    except ValueError as error:
        raise Fault(f"{TABLES} is not a connection string of a storage account.") from error
    try:
        await tables.create_tables()
        yield tables
    except StoreUnavailable as error:
        raise Outage(f"The tables do not answer: {_why(error)}.") from error
    finally:
        await tables.close()
        if credential is not None:
            await credential.close()


def _why(error: StoreUnavailable) -> str:
    cause = error.__cause__
    status = getattr(cause, "status_code", None)
    if status == 403:
        return "you lack the role Storage Table Data Contributor there (a new one works after minutes)"
    return f"status {status}" if status else type(cause).__name__


def _dot_env(root: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(root / ".env").items() if value is not None}


def _local_settings(root: Path) -> dict[str, str]:
    path = root / "local.settings.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig")).get("Values", {})
    except (ValueError, AttributeError) as error:
        raise Fault(f"{path.name} is not a JSON object: {error}.") from error
    return {name: str(value) for name, value in values.items()}
