"""Reads the functions that an app declares, and refuses what the platform would refuse."""

import inspect
import logging
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os import environ
from typing import Any, Final

import azure.functions as func
from azurefunctions.extensions.base import (
    HttpV2FeatureChecker,
    RequestTrackerMeta,
    ResponseTrackerMeta,
)

from .faults import AppFault
from .ncrontab import Schedule
from .templates import Template

_log = logging.getLogger(__name__)

_EXTENSION_PAGES: Final = ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
_FUNCTION_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_BINDING_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}|\$return")


@dataclass(frozen=True, slots=True)
class Handler:
    """The user's function; its argument `parameter` receives the trigger."""

    name: str
    call: Callable[..., Any]
    parameter: str
    is_async: bool
    wants_context: bool


@dataclass(frozen=True, slots=True)
class HttpFunction:
    """`methods` is empty when the app lists none: it then serves every method."""

    handler: Handler
    template: Template
    methods: frozenset[str]
    needs_key: bool

    @property
    def name(self) -> str:
        return self.handler.name


@dataclass(frozen=True, slots=True)
class TimerFunction:
    handler: Handler
    schedule: Schedule
    run_on_startup: bool


@dataclass(frozen=True, slots=True)
class Functions:
    """`http` in the order in which routes are tried."""

    http: tuple[HttpFunction, ...]
    timers: tuple[TimerFunction, ...]


def read_functions(app: func.FunctionApp, route_prefix: str) -> Functions:
    """Raises AppFault."""
    http: list[HttpFunction] = []
    timers: list[TimerFunction] = []
    for function in _declared(app):
        kind = function.get_trigger().type  # type: ignore[union-attr] # build() refuses one without
        if kind == "httpTrigger":
            http.append(_http_function(function, route_prefix))
        elif kind == "timerTrigger":
            timers.append(_timer_function(function))
        else:
            raise AppFault(f"{_name(function)}: this host has no '{kind}', only HTTP and timer triggers")
    http.sort(key=lambda one: one.name.lower())
    _refuse_common_routes(http)
    for one in http:
        _warn_of_hangs(one)
    return Functions(tuple(http), tuple(timers))


def _declared(app: func.FunctionApp) -> Iterable[func.Function]:
    app.functions_bindings = None  # else a second reading of one app finds every name taken
    try:
        functions: list[func.Function] = app.get_functions()
    except ValueError as error:
        raise AppFault(str(error)) from error
    for function in functions:
        _check_names(function)
    return functions


def _name(function: func.Function) -> str:
    return str(function.get_function_name())


def _check_names(function: func.Function) -> None:
    name = _name(function)
    if not _FUNCTION_NAME.fullmatch(name) or name.lower() == "host":
        raise AppFault(f"'{name}' is not a function's name: a letter, then letters, digits, '_' and '-'")
    for binding in function.get_bindings():
        if not _BINDING_NAME.fullmatch(binding.name):
            raise AppFault(f"{name}: the binding '{binding.name}' may hold only letters and digits")
        if binding is not function.get_trigger() and binding.type != "http":
            raise AppFault(f"{name}: this host has no binding of type '{binding.type}'")


def _http_function(function: func.Function, route_prefix: str) -> HttpFunction:
    name, trigger = _name(function), _trigger(function)
    if not HttpV2FeatureChecker.http_v2_enabled():
        raise AppFault(f"{name}: the app does not import azurefunctions.extensions.http.fastapi")
    route = trigger["route"] or name
    if route.lstrip("/").lower().startswith(("admin", "runtime")):
        raise AppFault(f"{name}: a route may not begin with 'admin' or 'runtime', as '{route}' does")
    try:
        template = Template.parse(f"{route_prefix}/{route.strip('/')}")
    except ValueError as error:
        raise AppFault(f"{name}: the route '{route}' cannot be read: {error}") from error
    methods = frozenset(str(method).upper() for method in trigger.get("methods", ()))
    level = str(trigger.get("authLevel", "FUNCTION")).upper()
    return HttpFunction(_handler(function, _refuse_http_types), template, methods, level != "ANONYMOUS")


def _timer_function(function: func.Function) -> TimerFunction:
    trigger = _trigger(function)
    expression = re.sub(r"%(.+?)%", lambda name: environ.get(name[1], name[0]), trigger["schedule"])
    try:
        schedule = Schedule.parse(expression)
    except ValueError as error:
        raise AppFault(f"{_name(function)}: {error}") from error
    handler = _handler(function, _refuse_timer_types)
    return TimerFunction(handler, schedule, bool(trigger.get("runOnStartup", False)))


def _trigger(function: func.Function) -> dict[str, Any]:
    described: dict[str, Any] = function.get_trigger().get_dict_repr()  # type: ignore[union-attr] # as above
    return described


TypeCheck = Callable[[str, str, Mapping[str, Any]], None]


def _handler(function: func.Function, refuse_types: TypeCheck) -> Handler:
    name, call, parameter = _name(function), function.get_user_function(), _trigger(function)["name"]
    wanted = set(inspect.signature(call).parameters)
    if wanted - {"context"} != {parameter}:
        raise AppFault(f"{name}: it takes {sorted(wanted)}, but its trigger is named '{parameter}'")
    try:
        annotations = typing.get_type_hints(call)
    except NameError as error:
        raise AppFault(f"{name}: an annotation cannot be resolved when the app runs: {error}") from error
    refuse_types(name, parameter, annotations)
    return Handler(
        name, call, parameter, inspect.iscoroutinefunction(call), "context" in wanted - {parameter}
    )


def _refuse_http_types(name: str, parameter: str, annotations: Mapping[str, Any]) -> None:
    if parameter in annotations and not RequestTrackerMeta.check_type(annotations[parameter]):
        raise AppFault(
            f"{name}: '{parameter}' is annotated {annotations[parameter]!r}; with the HTTP extension it must"
            " be the extension's Request (or nothing), else no function of the app starts"
        )
    if "return" in annotations and not ResponseTrackerMeta.check_type(annotations["return"]):
        raise AppFault(
            f"{name}: it is annotated to return {annotations['return']!r}; with the HTTP extension it must be"
            " one Response class (or nothing), else no function of the app starts"
        )


def _refuse_timer_types(name: str, parameter: str, annotations: Mapping[str, Any]) -> None:
    annotation = annotations.get(parameter, func.TimerRequest)
    if not (isinstance(annotation, type) and issubclass(annotation, func.TimerRequest)):
        raise AppFault(f"{name}: '{parameter}' is annotated {annotation!r}; it must be func.TimerRequest")


def _refuse_common_routes(functions: list[HttpFunction]) -> None:
    for place, later in enumerate(functions):
        for earlier in functions[:place]:
            if later.template.text.lower() == earlier.template.text.lower() and _share_methods(
                earlier, later
            ):
                raise AppFault(f"{earlier.name} and {later.name} have the same route and a method in common")


def _warn_of_hangs(function: HttpFunction) -> None:
    """What the extension answers itself never reaches the function, whose invocation then waits for ever."""
    if not function.methods:
        _log.warning(
            "%s lists no methods: in the cloud one like PROPFIND hangs its invocation", function.name
        )
    for page in _EXTENSION_PAGES:
        if function.template.pattern.fullmatch(page):
            _log.warning("%s serves %s: in the cloud the extension does, and it hangs", function.name, page)


def _share_methods(one: HttpFunction, other: HttpFunction) -> bool:
    return not one.methods or not other.methods or not one.methods.isdisjoint(other.methods)
