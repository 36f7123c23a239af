"""Reads the functions that an app declares, and refuses those that the platform would refuse."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import azure.functions as func
from azurefunctions.extensions.base import RequestTrackerMeta, ResponseTrackerMeta

from .faults import AppFault
from .routes import Route, Routes

_FUNCTION_NAME: Final = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}|\$return")


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
    """Raises AppFault."""
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
            raise AppFault(
                f"'{name}' is not a function name. Use a letter, then letters, digits, '_' and '-'."
            )
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
