"""Finds the function for a request as the platform does: in the order of the functions' names, ignoring case.

No precedence by how specific a route is, and a wrong method is no match. Routes without parameters are
looked up in a dictionary wherever that gives the same answer as trying them in order.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from .templates import Template


class Routed(Protocol):
    @property
    def template(self) -> Template: ...

    @property
    def methods(self) -> frozenset[str]: ...


RoutedT = TypeVar("RoutedT", bound=Routed)
Match = tuple[RoutedT, dict[str, str]]
Candidates = tuple[tuple[Callable[[str], re.Match[str] | None], RoutedT], ...]

# what the HTTP extension's server accepts; it answers any other method by itself
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")

_ESCAPES: Final = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class _Methods(Generic[RoutedT]):
    """The functions for one method."""

    literals: dict[bytes, RoutedT]
    ordered: Candidates[RoutedT]


class Routes(Generic[RoutedT]):
    """Over functions in the order in which they are to be tried."""

    def __init__(self, functions: Sequence[RoutedT]) -> None:
        self._methods = {method: _for_method(functions, method) for method in METHODS}

    def find(self, method: str, raw_path: bytes) -> Match[RoutedT] | None:
        """`raw_path` as it came over the wire, without the query."""
        candidates = self._methods.get(method)
        if candidates is None:
            return None
        literal = candidates.literals.get(raw_path.lower())
        if literal is not None:
            return literal, {}
        return _first_match(candidates.ordered, decode_path(raw_path))


def decode_path(raw_path: bytes) -> str:
    """Percent-decoded once, but `%2F` and what is not UTF-8 stay as they are; dot segments are resolved."""
    path = raw_path.decode("latin-1")
    if "%" in path:
        path = _ESCAPES.sub(_decode_run, path)
    return _without_dot_segments(path) if "/." in path else path


def _decode_run(run: re.Match[str]) -> str:
    try:
        return bytes.fromhex(run[0].replace("%", "")).decode("utf-8")
    except UnicodeDecodeError:
        return run[0]


def _without_dot_segments(path: str) -> str:
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join([*kept, ""] if path.endswith(("/.", "/..")) else kept)


def _for_method(functions: Sequence[RoutedT], method: str) -> _Methods[RoutedT]:
    allowed = [one for one in functions if not one.methods or method in one.methods]
    ordered = tuple((one.template.pattern.fullmatch, one) for one in allowed)
    literals = {}
    for function in allowed:
        for path in _literal_paths(function):
            match = _first_match(ordered, decode_path(path))
            if match is not None and match[0] is function:
                literals[path] = function
    return _Methods(literals, ordered)


def _literal_paths(function: Routed) -> list[bytes]:
    text = function.template.text
    if not (function.template.is_literal and text.isascii()) or "%" in text or "{" in text:
        return []
    path = f"/{text}".lower().encode()
    return [path, path + b"/"] if text else [path]


def _first_match(candidates: Candidates[RoutedT], path: str) -> Match[RoutedT] | None:
    for fullmatch, function in candidates:
        found = fullmatch(path)
        if found is not None and (parameters := function.template.values(found)) is not None:
            return function, parameters
    return None
