"""Which tables a command works on, and where the app is."""

from __future__ import annotations

import json
import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from admin import local_runs
from admin.errors import CommandError
from admin.local_runs import ROOT, Run
from admin.printing import print_note
from shared.core.settings import CACHE_SECONDS, TABLES, TABLES_URI
from shared.core.texts import plural

_LOOPBACK = "127.0.0.1"
LOCAL_HOSTS = frozenset({_LOOPBACK, "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Target:
    """The tables (by a connection string or a URI), and the app's address if it is known."""

    connection_string: str | None
    uri: str | None
    url: str | None
    environment: Mapping[str, str]
    """The settings that are known here, also those that hold the keys of deployments."""


def find_target(root: Path = ROOT) -> Target:
    """The tables that the environment, `.env` or `local.settings.json` names, or those of a `dev.py run`.

    Raises:
        CommandError: there are none, or `local.settings.json` cannot be read.
    """
    settings = _settings(root)
    if _names_tables(settings):
        return Target(
            settings.get(TABLES) or None, settings.get(TABLES_URI) or None, _app_url(settings), settings
        )
    run = _find_run(root, _app_url(settings))
    if run is None:
        raise CommandError(
            f"No tables are set. Start `python3 dev.py run`, or set {TABLES} or {TABLES_URI} "
            "in the environment, .env or local.settings.json."
        )
    simulated = {local_runs.SIMULATOR_KEY: local_runs.SIMULATOR_KEY_VALUE} if run.simulator_url else {}
    return Target(run.tables, None, run.url, ChainMap[str, str](simulated, dict(settings)))


def takes_effect() -> str:
    return f"The change takes effect within {cache_time()}."


def cache_time(root: Path = ROOT) -> str:
    """How long the app may not know of a change, such as `30 seconds`.

    It is the app's setting as it is known here: from what `dev.py run` reads, or from `azd env get-values`.
    """
    settings = _settings(root)
    try:
        deployed = json.loads(settings.get("PROXY_SETTINGS") or "{}")
        seconds = CACHE_SECONDS.read(ChainMap(dict(settings), deployed), [])
    except (ValueError, AttributeError, TypeError):
        seconds = CACHE_SECONDS.default
    return plural(max(1, ceil(seconds)), "second")


def find_url(root: Path = ROOT) -> str | None:
    """The app's address, if it is known. The tables need not be known."""
    settings = _settings(root)
    if url := _app_url(settings):
        return url
    run = None if _names_tables(settings) else _find_run(root, None)
    return run.url if run else None


def _find_run(root: Path, url: str | None) -> Run | None:
    """The `dev.py run` at `url`, or the newest if `url` is None. A note says if others are running.

    If only one is running and `url` is on another host, it is used too: its port may be forwarded.
    """
    running = local_runs.running(root / local_runs.LOCAL.name)
    if not running:
        return None
    newest, *others = running
    if url:
        if chosen := next((run for run in running if _place(run.url) == _place(url)), None):
            return chosen
        if others or _place(url)[0] == _LOOPBACK:
            addresses = ", ".join(run.url for run in running)
            raise CommandError(f"No `dev.py run` is running at PROXY_URL={url}. Use one of: {addresses}.")
        print_note(f"No `dev.py run` is running at {url}. Using {newest.url}.")
    elif others:
        print_note(
            f"Several `dev.py run` are running. Using the newest, {newest.url}. "
            f"To use another, set PROXY_URL={others[0].url}."
        )
    return newest


def _place(url: str) -> tuple[str | None, int | None, str]:
    """Host, port and path, equal for all spellings of one address, with or without the `/v1` for SDKs."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = _LOOPBACK if parts.hostname == "localhost" else parts.hostname
    try:
        port = parts.port
    except ValueError:
        port = None
    return host, port, parts.path.rstrip("/").removesuffix("/v1").removesuffix("/api")


def _settings(root: Path) -> Mapping[str, str]:
    return ChainMap[str, str](dict(os.environ), _dot_env(root), _local_settings(root))


def _names_tables(settings: Mapping[str, str]) -> bool:
    return bool(settings.get(TABLES) or settings.get(TABLES_URI))


def _app_url(settings: Mapping[str, str]) -> str | None:
    return (settings.get("PROXY_URL") or settings.get("SERVICE_API_URI") or "").rstrip("/") or None


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
        raise CommandError(
            f'{path.name} must be a JSON object with an object "Values". Correct it: {error}.'
        ) from error
