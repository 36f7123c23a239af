"""Reads an app: its files, and its functions. Refuses what the platform would refuse, by raising AppFault."""

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from itertools import combinations
from os import environ
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import azure.functions as func
from azure.functions.decorators.function_app import FunctionRegister
from azurefunctions.extensions.base import RequestTrackerMeta, ResponseTrackerMeta

from .routes import AppFault, Route, Routes

DEFAULT_PREFIX: Final = "api"
_FUNCTION_NAME: Final = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}|\$return")


@contextmanager
def app_at(path: Path, environment: Mapping[str, str]) -> Iterator[tuple[func.FunctionApp, str]]:
    """The app in a function_app.py or its directory, and its route prefix. Settings last until the end."""
    script = (path / "function_app.py" if path.is_dir() else path).resolve()
    if not script.is_file():
        raise AppFault(f"There is no {script}.")
    values = _read_json(script.parent / "local.settings.json").get("Values", {})
    texts = {name: str(value) for name, value in values.items()}
    with added_to_environment(texts | {**environment}):
        yield _load(script), read_prefix(script.parent)


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


def read_prefix(directory: Path) -> str:
    """The route prefix in host.json, without slashes around it."""
    http = _read_json(directory / "host.json").get("extensions", {}).get("http", {})
    return str(http.get("routePrefix", DEFAULT_PREFIX)).strip("/")


def _load(script: Path) -> func.FunctionApp:
    """Runs the script again each time, so that two hosts never share an app."""
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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError) as error:
        raise AppFault(f"{path} is not a JSON object: {error}") from error


@dataclass(frozen=True, slots=True)
class Handler:
    """A trigger's code. Its argument `parameter` receives the request or the timer."""

    call: Callable[..., Any]
    parameter: str


@dataclass(frozen=True, slots=True)
class Functions:
    """The handlers by the names of their functions."""

    routes: Routes
    http: dict[str, Handler]
    timers: dict[str, Handler]


def read_functions(app: func.FunctionApp, prefix: str) -> Functions:
    http, timers, routes = dict[str, Handler](), dict[str, Handler](), list[Route]()
    for name, call, trigger in _declared(app):
        handler = Handler(call, trigger["name"])
        if trigger["type"] == "httpTrigger":
            _check_types(name, handler)
            routes.append(Route.read(name, trigger, prefix))
            http[name] = handler
        elif trigger["type"] == "timerTrigger":
            timers[name] = handler
        else:
            raise AppFault(f"{name}: the local host has HTTP and timer triggers, but no {trigger['type']}.")
    in_order = Routes(routes)
    for one, other in combinations(in_order.ordered, 2):
        if one.overlaps(other):
            raise AppFault(f"{one.function} and {other.function} have the same route and a method in common.")
    return Functions(in_order, http, timers)


def _declared(app: func.FunctionApp) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Each function's name, its code, and its trigger as Azure describes it."""
    app.functions_bindings = None  # without this, an app that is read twice has every name twice
    try:
        functions = app.get_functions()
    except ValueError as error:
        raise AppFault(str(error)) from error
    for function in functions:
        name, call = str(function.get_function_name()), function.get_user_function()
        trigger: dict[str, Any] = function.get_trigger().get_dict_repr()  # type: ignore[union-attr] # it has one
        if not _FUNCTION_NAME.fullmatch(name):
            raise AppFault(f"'{name}' is not a function name. Use a letter, then letters, digits, _ and -.")
        for binding in function.get_bindings():
            if not _BINDING_NAME.fullmatch(binding.name):
                raise AppFault(f"{name}: use only letters and digits in the binding name '{binding.name}'.")
        if not inspect.iscoroutinefunction(call):
            raise AppFault(f"{name}: write it with 'async def'. A 'def' would run in one of few threads.")
        if {*inspect.signature(call).parameters} != {trigger["name"]}:
            raise AppFault(f"{name}: it must have one parameter, '{trigger['name']}', as in its trigger.")
        yield name, call, trigger


def _check_types(name: str, handler: Handler) -> None:
    try:
        types = typing.get_type_hints(handler.call)
    except NameError as error:
        raise AppFault(f"{name}: an annotation has no value when the app runs: {error}") from error
    if handler.parameter in types and not RequestTrackerMeta.check_type(types[handler.parameter]):
        raise AppFault(f"{name}: annotate '{handler.parameter}' with the Request of the app's extension.")
    if "return" in types and not ResponseTrackerMeta.check_type(types["return"]):
        raise AppFault(f"{name}: annotate the result with the Response of the app's extension.")
