"""The app on disk: function_app.py, and what is read of host.json and local.settings.json."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from os import environ
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
from azure.functions.decorators.function_app import FunctionRegister

from .faults import AppFault

DEFAULT_PREFIX = "api"


def find_script(path: Path) -> Path:
    """The function_app.py at `path`, which is a file or a directory. Raises AppFault."""
    script = (path / "function_app.py" if path.is_dir() else path).resolve()
    if not script.is_file():
        raise AppFault(f"There is no {script}.")
    return script


def load_app(script: Path) -> func.FunctionApp:
    """Runs the script again each time, so that two hosts never share an app. Raises AppFault."""
    directory, name = str(script.parent), script.stem
    if directory not in sys.path:
        sys.path.append(directory)  # last, as in the cloud
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(script)
    SourceFileLoader(name, str(script)).exec_module(module)
    apps = [value for value in vars(module).values() if isinstance(value, FunctionRegister)]
    if len(apps) != 1:
        raise AppFault(f"{script} needs one function app at its top level. It has {len(apps)}.")
    return apps[0]  # type: ignore[return-value] # only FunctionApp and the ASGI and WSGI apps are of this kind


def read_prefix(directory: Path) -> str:
    """The route prefix in host.json, without slashes around it. Raises AppFault."""
    http = _read_json(directory / "host.json").get("extensions", {}).get("http", {})
    return str(http.get("routePrefix", DEFAULT_PREFIX)).strip("/")


def read_values(directory: Path) -> dict[str, str]:
    """The settings in local.settings.json. Raises AppFault."""
    values = _read_json(directory / "local.settings.json").get("Values", {})
    return {name: str(value) for name, value in values.items()}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError) as error:
        raise AppFault(f"{path} is not a JSON object: {error}") from error


@contextmanager
def added_to_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that are not set yet, and removes them after the block."""
    added = {name: value for name, value in values.items() if name not in environ}
    environ.update(added)
    try:
        yield
    finally:
        for name in added:
            environ.pop(name, None)
