"""The names and values that Azure Resource Manager takes, read from the source of Azure's Python packages.

Three generations of generated code say it in three ways: `TypedDict` in `types.py`, `rest_field` in
`_models.py`, and `_attribute_map` in `_models_py3.py`. Only the classes asked for are read; nothing is
imported.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Field:
    """One property on the wire; `annotation` is what the source says of its type."""

    annotation: str
    required: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Model:
    """An object on the wire."""

    name: str
    fields: Mapping[str, Field]
    nested: Mapping[str, Model] = field(default_factory=dict)
    """Fields that the source flattens into this class, such as `properties`."""


_Fields = dict[str, Field]
_Attributes = dict[str, dict[str, dict[str, object]]]


class Sdk:
    """One module of models, with its enumerations."""

    def __init__(self, module: str) -> None:
        self.path = _locate(module)
        self.source = self.path.read_text(encoding="utf-8")

    @cached_property
    def _classes(self) -> Mapping[str, str]:
        pieces = re.split(r"(?m)^(?=class )", self.source)[1:]
        return {re.match(r"class (\w+)", piece).group(1): piece for piece in pieces}  # type: ignore[union-attr]

    @cached_property
    def enums(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for path in _enum_files(self.path):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found[node.name] = frozenset(_constants(node))
        return found

    def has(self, name: str) -> bool:
        return name in self._classes

    def model(self, name: str) -> Model:
        """The fields of a class and of those that it inherits from."""
        node = ast.parse(_without_methods(self._classes[name])).body[0]
        assert isinstance(node, ast.ClassDef)
        fields: dict[str, Field] = {}
        nested: dict[str, Model] = {}
        for base in node.bases:
            # `_serialization.Model` is the root of all, and not the class Model that some modules have too.
            if self.has(base_name := ast.unparse(base).removeprefix("_models.")):
                parent = self.model(base_name)
                fields |= parent.fields
                nested |= parent.nested
        _unflatten(name, {**fields, **dict(_fields(node))}, fields, nested)
        return Model(name, fields, nested)


@cache
def sdk(module: str) -> Sdk:
    return Sdk(module)


def _locate(module: str) -> Path:
    package, _, name = module.rpartition(".")
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / f"{name}.py"


def _enum_files(models: Path) -> Iterator[Path]:
    for folder in {models.parent, models.parent / "models"}:
        yield from folder.glob("*_enums.py")


def _constants(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant):
            yield str(item.value.value)


def _without_methods(source: str) -> str:
    return re.split(r"(?m)^    (?:@|def |__flattened)", source)[0]


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, Field]]:
    attributes = dict(_assigned(node))
    if "_attribute_map" in attributes:
        yield from _mapped(node, attributes)
        return
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield _annotated(item.target.id, item)


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, dict[str, dict[str, object]]]]:
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Dict):
            yield ast.unparse(item.targets[0]), ast.literal_eval(item.value)


def _annotated(name: str, item: ast.AnnAssign) -> tuple[str, Field]:
    annotation = ast.unparse(item.annotation)
    if not isinstance(item.value, ast.Call):
        return name, Field(annotation, required=annotation.startswith("Required["))
    plain = [keyword for keyword in item.value.keywords if isinstance(keyword.value, ast.Constant | ast.List)]
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in plain}
    read_only = options.get("visibility") == ["read"]
    required = not annotation.startswith("Optional[") and not read_only
    return options.get("name", name), Field(annotation, required, read_only)


def _mapped(
    node: ast.ClassDef, attributes: dict[str, dict[str, dict[str, object]]]
) -> Iterator[tuple[str, Field]]:
    described = ast.get_docstring(node) or ""
    rules = attributes.get("_validation", {})
    for name, item in attributes["_attribute_map"].items():
        enum = re.search(rf":vartype {name}: str or\s+~[\w.]+\.(\w+)", described)
        annotation = f'Union[str, "{enum.group(1)}"]' if enum else str(item["type"])
        rule = rules.get(name, {})
        yield str(item["key"]), Field(annotation, bool(rule.get("required")), bool(rule.get("readonly")))


def _unflatten(
    name: str, found: dict[str, Field], fields: dict[str, Field], nested: dict[str, Model]
) -> None:
    """Put `properties.x` where it is on the wire. A dot within a name is escaped in the source."""
    inner: dict[str, dict[str, Field]] = {}
    for key, value in found.items():
        head, _, rest = key.replace("\\\\.", "\0").partition(".")
        if rest:
            inner.setdefault(head, {})[rest.replace("\0", ".")] = value
        else:
            fields[head.replace("\0", ".")] = value
    for head, values in inner.items():
        deeper: dict[str, Field] = {}
        models: dict[str, Model] = {}
        _unflatten(f"{name}.{head}", values, deeper, models)
        nested[head] = Model(f"{name}.{head}", deeper, models)
        fields[head] = Field("object", required=any(value.required for value in values.values()))
