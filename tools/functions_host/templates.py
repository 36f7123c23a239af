"""Route templates of ASP.NET form: `events/{code}/{page:int?}`, `v1/{*rest}`.

Literals ignore case, a trailing slash is ignored, a catch-all matches nothing too. Defaults (`{name=value}`)
are not understood.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Constraint = Callable[[str], bool]

_PART: Final = re.compile(r"\{((?:[^{}]|\{\{|\}\})+)\}(?!\})|((?:[^{}]|\{\{|\}\})+)")
_PARAMETER: Final = re.compile(r"(\*{0,2})([^:?*=/]+)((?::.*?)??)(\??)")
_GUID: Final = re.compile(r"[{(]?[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}[)}]?", re.IGNORECASE)
_CONSTRAINT: Final = re.compile(r":(\w+)(?:\((.*?)\)(?=:|$))?")


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    constraints: tuple[Constraint, ...]
    optional: bool
    catch_all: bool

    @classmethod
    def parse(cls, text: str) -> "Parameter":
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise ValueError(f"'{{{text}}}' is not a route parameter")
        star, name, constraints, question = found.groups()
        return cls(name, _parse_constraints(constraints), bool(question), bool(star))

    def accepts(self, value: str) -> bool:
        return all(constraint(value) for constraint in self.constraints)


@dataclass(frozen=True, slots=True)
class Template:
    """`pattern` matches a whole decoded path that begins with a slash."""

    text: str
    pattern: re.Pattern[str]
    parameters: tuple[Parameter, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Raises ValueError with a sentence that names the part at fault."""
        parameters: list[Parameter] = []
        segments = _split(text.strip("/"))
        pattern = "".join(
            _segment(segment, parameters, last=place == len(segments))
            for place, segment in enumerate(segments, 1)
        )
        _check_names(parameters)
        whole = re.compile(f"{pattern}/?" if pattern else "/", re.IGNORECASE)
        return cls("/".join(segments), whole, tuple(parameters))

    @property
    def is_literal(self) -> bool:
        return not self.parameters

    def values(self, found: re.Match[str]) -> dict[str, str] | None:
        """The parameters of what `pattern` found, without absent ones; None when a constraint refuses one."""
        values: dict[str, str] = {}
        for parameter, value in zip(self.parameters, found.groups(), strict=True):
            if not value:
                continue
            if not parameter.accepts(value):
                return None
            values[parameter.name] = value
        return values


def _split(text: str) -> list[str]:
    """Segments; a slash inside a parameter (a regex may hold one) does not split."""
    return re.findall(r"(?:\{(?:[^{}]|\{\{|\}\})*\}(?!\})|[^/])+", text)


def _segment(segment: str, parameters: list[Parameter], *, last: bool) -> str:
    parts = list(_PART.finditer(segment))
    if "".join(part[0] for part in parts) != segment:
        raise ValueError(f"the braces of '{segment}' do not pair")
    if len(parts) == 1 and parts[0][1]:
        return _whole_segment(_unescape(parts[0][1]), parameters, last=last)
    return "/" + "".join(_mixed_part(part, parameters) for part in parts)


def _whole_segment(text: str, parameters: list[Parameter], *, last: bool) -> str:
    parameter = Parameter.parse(text)
    parameters.append(parameter)
    if (parameter.optional or parameter.catch_all) and not last:
        raise ValueError(f"'{{{text}}}' must be the last segment")
    if parameter.catch_all:
        return r"(?:/((?s:.*)))?"
    return r"(?:/([^/]+))?" if parameter.optional else r"/([^/]+)"


def _mixed_part(part: re.Match[str], parameters: list[Parameter]) -> str:
    if part[2]:
        return re.escape(_unescape(part[2]))
    parameter = Parameter.parse(_unescape(part[1]))
    if parameter.optional or parameter.catch_all:
        raise ValueError(f"'{part[0]}' must be a whole segment")
    parameters.append(parameter)
    return r"([^/]+)"


def _unescape(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")


def _check_names(parameters: list[Parameter]) -> None:
    names = [parameter.name.lower() for parameter in parameters]
    if len(set(names)) != len(names):
        raise ValueError("a route parameter is named twice")


def _parse_constraints(text: str) -> tuple[Constraint, ...]:
    found = list(_CONSTRAINT.finditer(text))
    if "".join(match[0] for match in found) != text:
        raise ValueError(f"'{text}' is not a list of route constraints")
    return tuple(_constraint(match[1], match[2]) for match in found)


def _constraint(name: str, argument: str | None) -> Constraint:
    if name == "regex" and argument is not None:
        searched = re.compile(argument, re.IGNORECASE)
        return lambda value: searched.search(value) is not None
    if name in _PLAIN and argument is None:
        return _PLAIN[name]
    if name in _NUMBERED and argument is not None:
        return _NUMBERED[name](*(int(number) for number in argument.split(",")))
    raise ValueError(f"the route constraint '{name}' is not known here")


def _is_integer(bits: int) -> Constraint:
    limit = 1 << (bits - 1)
    return lambda value: bool(re.fullmatch(r"[+-]?[0-9]+", value)) and -limit <= int(value) < limit


_PLAIN: Final[dict[str, Constraint]] = {
    "int": _is_integer(32),
    "long": _is_integer(64),
    "alpha": lambda value: bool(re.fullmatch(r"[a-zA-Z]*", value)),
    "bool": lambda value: value.lower() in {"true", "false"},
    "guid": lambda value: bool(_GUID.fullmatch(value)),
    "required": bool,
}
_NUMBERED: Final[dict[str, Callable[..., Constraint]]] = {
    "length": lambda low, high=None: lambda value: low <= len(value) <= (low if high is None else high),
    "minlength": lambda low: lambda value: len(value) >= low,
    "maxlength": lambda high: lambda value: len(value) <= high,
    "min": lambda low: lambda value: _is_integer(64)(value) and int(value) >= low,
    "max": lambda high: lambda value: _is_integer(64)(value) and int(value) <= high,
    "range": lambda low, high: lambda value: _is_integer(64)(value) and low <= int(value) <= high,
}
