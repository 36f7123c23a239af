"""Which function serves a request, by the rules of the Functions host.

Functions are tried in the order of their names, ignoring case; one that does not list the method is passed
over. Literals ignore case, and a trailing slash does not matter. `{name}` takes one segment, `{*rest}` takes
all that follows, which may be nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_SEGMENT: Final = re.compile(r"\{(\*?)([A-Za-z_]\w*)\}|[^{}]+")
_ESCAPES: Final = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")


class AppFault(Exception):
    """The app cannot be served. The message is one sentence that names the fault and its place."""


@dataclass(frozen=True, slots=True)
class Route:
    """`template` includes the prefix. A function whose `methods` are empty takes every method."""

    function: str
    template: str
    methods: frozenset[str]
    pattern: re.Pattern[str]

    @classmethod
    def read(cls, function: str, trigger: Mapping[str, Any], prefix: str) -> "Route":
        """`trigger` is the function's HTTP trigger as Azure describes it. Raises AppFault."""
        route = (trigger.get("route") or function).strip("/")
        if route.lower().startswith(("admin", "runtime")):
            raise AppFault(f"{function}: the route '{route}' may not begin with 'admin' or 'runtime'.")
        methods = frozenset(str(method).upper() for method in trigger.get("methods") or ())
        template = f"{prefix}/{route}".strip("/")
        return cls(function, template, methods, _compile(function, template))

    def overlaps(self, other: "Route") -> bool:
        """Whether both have the same template and a method in common."""
        common = self.methods & other.methods or not (self.methods and other.methods)
        return bool(common) and self.template.lower() == other.template.lower()


class Routes:
    def __init__(self, routes: Iterable[Route]) -> None:
        self.ordered = sorted(routes, key=lambda one: one.function.lower())
        self.find = lru_cache(maxsize=1024)(self._find)
        """The function for a method and a resolved path, and its parameters. Do not change these."""

    def _find(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        for route in self.ordered:
            if (not route.methods or method in route.methods) and (found := route.pattern.fullmatch(path)):
                return route.function, {name: value for name, value in found.groupdict().items() if value}
        return None


def _compile(function: str, template: str) -> re.Pattern[str]:
    pattern = ""
    for segment in template.split("/") if template else ():
        found = _SEGMENT.fullmatch(segment)
        if not found or pattern.endswith(")?"):
            rule = f"a route has literals, {{name}}, and {{*rest}} at its end: '{template}'."
            raise AppFault(f"{function}: {rule}")
        star, name = found.groups()
        if name is None:
            pattern += "/" + re.escape(segment)
        else:
            pattern += rf"(?:/(?P<{name}>(?s:.*)))?" if star else rf"/(?P<{name}>[^/]+)"
    return re.compile(pattern + "/?", re.IGNORECASE)


def resolve(raw_path: str) -> str:
    """Percent-decodes once and resolves `.` and `..`. `%2F`, and bytes that are not UTF-8, stay encoded."""
    path = _ESCAPES.sub(_decode, raw_path) if "%" in raw_path else raw_path
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join([*kept, ""] if segments[-1] in {".", ".."} else kept)


def _decode(run: re.Match[str]) -> str:
    try:
        return bytes.fromhex(run[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return run[0]
