"""Which tables an administrator's command talks to, and where the proxy is."""

from __future__ import annotations

import json
import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dotenv import dotenv_values

from admin import local_runs
from admin.faults import Fault
from admin.local_runs import ROOT, Run
from admin.printing import note
from shared.core.settings import TABLES, TABLES_URI

_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """The tables' address, one way or the other, and the proxy's, where it is known."""

    connection_string: str | None
    uri: str | None
    url: str | None
    environment: Mapping[str, str]
    """Where the settings are that deployments name, as far as they are at hand here."""


def find(root: Path = ROOT) -> Target:
    """Named by the environment, `.env` or `local.settings.json`; else those of a `dev.py run` here.

    Raises:
        Fault: none is named and none runs, or `local.settings.json` cannot be read.
    """
    named = _named(root)
    if _names_tables(named):
        return Target(named.get(TABLES) or None, named.get(TABLES_URI) or None, _url(named), named)
    run = _running(root, _url(named))
    if run is None:
        raise Fault(
            f"No tables are named: start `python3 dev.py run`, or set {TABLES} or {TABLES_URI} "
            "in the environment, .env or local.settings.json."
        )
    simulated = {local_runs.SIMULATOR_KEY: local_runs.SIMULATOR_KEY_VALUE} if run.simulator_url else {}
    return Target(run.tables, None, run.url, ChainMap[str, str](simulated, dict(named)))


def find_url(root: Path = ROOT) -> str | None:
    """The proxy's address alone, which may be known where no tables are."""
    named = _named(root)
    if url := _url(named):
        return url
    run = None if _names_tables(named) else _running(root, None)
    return run.url if run else None


def _running(root: Path, wanted: str | None) -> Run | None:
    """The `dev.py run` that serves at this address; the latest where none is given, and a note of others.

    A single one may be reached from elsewhere by an address that it does not know.

    Raises:
        Fault: none serves at this address.
    """
    running = local_runs.running(root / local_runs.LOCAL.name)
    if not running:
        return None
    latest, *others = running
    if wanted:
        for run in running:
            if _place(run.url) == _place(wanted):
                return run
        if others or _place(wanted)[0] == _LOOPBACK:
            serving = " and ".join(run.url for run in running)
            raise Fault(f"No `dev.py run` serves at PROXY_URL={wanted}, but at {serving}.")
        note(f"no `dev.py run` serves at {wanted}: this works on {latest.url}.")
    elif others:
        note(
            f"several `dev.py run`s serve here: this works on the latest, {latest.url}. "
            f"PROXY_URL={others[0].url} chooses another."
        )
    return latest


def _place(url: str) -> tuple[str | None, int | None, str]:
    """Host, port and path: addresses of the same place have the same, with or without the `/v1` for SDKs."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = _LOOPBACK if parts.hostname == "localhost" else parts.hostname
    try:
        port = parts.port
    except ValueError:
        port = None
    return host, port, parts.path.rstrip("/").removesuffix("/v1").removesuffix("/api")


def _named(root: Path) -> Mapping[str, str]:
    return ChainMap[str, str](dict(os.environ), _dot_env(root), _local_settings(root))


def _names_tables(named: Mapping[str, str]) -> bool:
    return bool(named.get(TABLES) or named.get(TABLES_URI))


def _url(named: Mapping[str, str]) -> str | None:
    return (named.get("PROXY_URL") or named.get("SERVICE_API_URI") or "").rstrip("/") or None


def _dot_env(root: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(root / ".env").items() if value is not None}


def _local_settings(root: Path) -> dict[str, str]:
    path = root / "local.settings.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig")).get("Values", {})
        return {name: str(value) for name, value in values.items()}
    except (ValueError, AttributeError) as error:
        raise Fault(f'{path.name} is not a JSON object with an object "Values": {error}.') from error
