"""Reads Bicep files without the Bicep compiler, which only comes as a download.

tree-sitter gives a tree with positions, and never raises: whoever reads it must ask for errors. pycep raises,
and knows other mistakes. A file counts as parsed only when both accept it and find the same declarations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from pycep import BicepParser
from tree_sitter import Language, Node, Parser

_LANGUAGE = Language(tree_sitter_bicep.language())


class UnparseableError(Exception):
    """A parser refuses the file, or the two parsers read different things."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A parameter, variable, resource, module or output: its symbol, and its parts as nodes."""

    name: str
    node: Node
    kind: str
    """What follows the symbol: the type of a parameter or output, `Type@version`, or a module's path."""
    value: Node | None
    decorators: Mapping[str, Node]
    existing: bool = False

    @property
    def body(self) -> Node | None:
        """The object of a resource or module, out of its `if` or `for`."""
        return unwrap(self.value) if self.value is not None else None


@dataclass(frozen=True)
class Template:
    """One Bicep file, parsed."""

    path: Path
    root: Node
    parameters: Mapping[str, Declaration]
    variables: Mapping[str, Declaration]
    resources: Mapping[str, Declaration]
    modules: Mapping[str, Declaration]
    outputs: Mapping[str, Declaration]

    @cached_property
    def loop_names(self) -> frozenset[str]:
        """The names that `for` gives to elements and indexes, anywhere in the file."""
        return frozenset(name for node in walk(self.root) for name in _loop_names(node))

    @cached_property
    def declared(self) -> frozenset[str]:
        """What an expression in this file may name; outputs are only for others."""
        return frozenset({**self.parameters, **self.variables, **self.resources, **self.modules})

    def at(self, node: Node) -> str:
        return f"{self.path.name}:{node.start_point[0] + 1}"


def parse(path: Path) -> Template:
    """Parse one file with both parsers.

    Raises:
        UnparseableError: one of them refuses it, or they disagree on what it declares.
    """
    source = path.read_text(encoding="utf-8")
    root = Parser(_LANGUAGE).parse(source.encode()).root_node
    if root.has_error:
        raise UnparseableError(f"{path.name}:{_first_error(root)}: tree-sitter-bicep cannot parse this")
    template = Template(path, root, *(dict(_declarations(root, kind)) for kind in _DECLARATIONS))
    try:
        _compare(template, _pycep(source))
    except ValueError as error:
        raise UnparseableError(f"{path.name}: {error}") from error
    return template


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def text(node: Node) -> str:
    return (node.text or b"").decode()


def unwrap(node: Node) -> Node:
    """What is inside of parentheses, an `if` or a `for`: its last named child."""
    while node.type in {"parenthesized_expression", "if_statement", "for_statement"}:
        node = node.named_children[-1]
    return node


def literal(node: Node) -> str | None:
    """The text of a string that has no interpolation."""
    if node.type != "string" or any(child.type == "interpolation" for child in node.children):
        return None
    return text(node)[1:-1]


def entries(node: Node) -> Iterator[tuple[Node, Node]]:
    """Key and value of each property of an object; nested resources are left out."""
    for child in node.named_children:
        if child.type == "object_property" and len(child.named_children) == 2:
            key, value = child.named_children
            yield key, value


def key_text(key: Node) -> str | None:
    """The name of a property; None when it is computed."""
    return text(key) if key.type == "identifier" else literal(key)


def members(node: Node) -> dict[str, Node]:
    return {name: value for key, value in entries(node) if (name := key_text(key)) is not None}


_DECLARATIONS = {
    "parameter_declaration": "parameters",
    "variable_declaration": "variables",
    "resource_declaration": "resources",
    "module_declaration": "modules",
    "output_declaration": "outputs",
}


def _declarations(root: Node, kind: str) -> Iterator[tuple[str, Declaration]]:
    decorators: dict[str, Node] = {}
    for node in root.named_children:
        if node.type == "decorators":
            decorators = {text(call.named_children[0]): call for call in _calls(node)}
            continue
        if node.type == kind:
            declaration = _declaration(node, decorators)
            yield declaration.name, declaration
        if node.type != "comment":
            decorators = {}


def _calls(decorators: Node) -> Iterator[Node]:
    for decorator in decorators.named_children:
        yield decorator.named_children[0]


def _declaration(node: Node, decorators: dict[str, Node]) -> Declaration:
    symbol, *rest = [child for child in node.named_children if child.type != "comment"]
    kind = ""
    if node.type != "variable_declaration":
        described = rest.pop(0)
        kind = literal(described) if described.type == "string" else text(described)  # type: ignore[assignment]
    existing = any(child.type == "existing" for child in node.children)
    return Declaration(text(symbol), node, kind, rest[-1] if rest else None, decorators, existing)


def _loop_names(node: Node) -> Iterator[str]:
    if node.type in {"loop_variable", "loop_enumerator"}:
        yield text(node)
    if node.type == "for_statement" and node.named_children[0].type == "identifier":
        yield text(node.named_children[0])


def _first_error(root: Node) -> int:
    return min(node.start_point[0] + 1 for node in walk(root) if node.is_error or node.is_missing)


@cache  # it takes most of the time, and most files are the same from one check to the next
def _pycep(source: str) -> Mapping[str, Any]:
    try:
        return BicepParser().parse(text=source)
    except Exception as error:  # the parser's exceptions have no common base
        raise ValueError(f"pycep-parser cannot parse this: {error}") from error


def _compare(template: Template, other: Mapping[str, Any]) -> None:
    for section in _DECLARATIONS.values():
        ours, theirs = set(getattr(template, section)), set(other.get(section, {}))
        if ours != theirs:
            raise ValueError(f"the parsers disagree on {section}: {ours ^ theirs}")
