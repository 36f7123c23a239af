"""Checks the body of every resource against the wire names that `wire.py` reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from tree_sitter import Node

from tests.infra.bicep import Declaration, Template, entries, key_text, literal, members, text, unwrap
from tests.infra.wire import Model, Sdk, sdk


class _Type(NamedTuple):
    """Where the wire names of a resource type are, and its API versions that were looked up and exist."""

    module: str
    model: str
    versions: tuple[str, ...]


_STORAGE: Final = "azure.mgmt.storage.types"
_WEB: Final = "azure.mgmt.web.types"
_NETWORK: Final = "azure.mgmt.network.types"
_DNS: Final = "azure.mgmt.privatedns.types"
_COGNITIVE: Final = "azure.mgmt.cognitiveservices.models._models_py3"
_LOGS: Final = "azure.mgmt.loganalytics.models._models"
_INSIGHTS: Final = "azure.mgmt.applicationinsights.v2020_02_02.models._models_py3"
_IDENTITY: Final = "azure.mgmt.msi.v2024_11_30.models._models_py3"
_ROLES: Final = "azure.mgmt.authorization.v2022_04_01.models._models_py3"
_GROUPS: Final = "azure.mgmt.resource.resources.models._models"
_BUDGETS: Final = "azure.mgmt.consumption.types"

_ACCOUNTS: Final = "Microsoft.Storage/storageAccounts"
_MODELS: Final = {
    "Microsoft.Resources/resourceGroups": _Type(_GROUPS, "ResourceGroup", ("2024-11-01",)),
    "Microsoft.ManagedIdentity/userAssignedIdentities": _Type(_IDENTITY, "Identity", ("2023-01-31",)),
    "Microsoft.OperationalInsights/workspaces": _Type(_LOGS, "Workspace", ("2025-02-01",)),
    "Microsoft.Insights/components": _Type(_INSIGHTS, "ApplicationInsightsComponent", ("2020-02-02",)),
    _ACCOUNTS: _Type(_STORAGE, "StorageAccountCreateParameters", ("2025-01-01",)),
    f"{_ACCOUNTS}/blobServices": _Type(_STORAGE, "BlobServiceProperties", ("2025-01-01",)),
    f"{_ACCOUNTS}/blobServices/containers": _Type(_STORAGE, "BlobContainer", ("2025-01-01",)),
    f"{_ACCOUNTS}/tableServices": _Type(_STORAGE, "TableServiceProperties", ("2025-01-01",)),
    f"{_ACCOUNTS}/tableServices/tables": _Type(_STORAGE, "Table", ("2025-01-01",)),
    "Microsoft.CognitiveServices/accounts": _Type(_COGNITIVE, "Account", ("2025-06-01",)),
    "Microsoft.CognitiveServices/accounts/deployments": _Type(_COGNITIVE, "Deployment", ("2025-06-01",)),
    "Microsoft.Web/serverfarms": _Type(_WEB, "AppServicePlan", ("2024-11-01",)),
    "Microsoft.Web/sites": _Type(_WEB, "Site", ("2024-11-01",)),
    "Microsoft.Web/sites/config": _Type(_WEB, "StringDictionary", ("2024-11-01",)),
    "Microsoft.Authorization/roleAssignments": _Type(
        _ROLES, "RoleAssignmentCreateParameters", ("2022-04-01",)
    ),
    "Microsoft.Network/virtualNetworks": _Type(_NETWORK, "VirtualNetwork", ("2024-07-01",)),
    "Microsoft.Network/privateEndpoints": _Type(_NETWORK, "PrivateEndpoint", ("2024-07-01",)),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": _Type(
        _NETWORK, "PrivateDnsZoneGroup", ("2024-07-01",)
    ),
    "Microsoft.Network/privateDnsZones": _Type(_DNS, "PrivateZone", ("2024-06-01",)),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": _Type(
        _DNS, "VirtualNetworkLink", ("2024-06-01",)
    ),
    "Microsoft.Consumption/budgets": _Type(_BUDGETS, "Budget", ("2023-11-01",)),
}

# Bicep's own words beside those of the wire.
_BICEP_KEYS: Final = {"name", "parent", "scope", "dependsOn"}

_EXPRESSIONS: Final = {
    "parenthesized_expression",
    "ternary_expression",
    "binary_expression",
    "call_expression",
    "identifier",
}
_LITERALS: Final = {
    "string": "str",
    "number": "int float",
    "boolean": "bool",
    "object": "object",
    "array": "array",
    "null": "null str int bool float",
}
_NAMED_SCALARS: Final = {"str", "int", "bool", "float"}
_BICEP_TYPES: Final = {"string": "str", "int": "int", "bool": "bool"}

_Check = Callable[[Node], Iterator[str]]


def faults(template: Template) -> Iterator[str]:
    """Unknown, missing and read-only properties, values outside of an enumeration or of a wrong type."""
    for resource in template.resources.values():
        yield from _resource(template, resource)


def has_tags(resource: Declaration) -> bool | None:
    """Whether the resource sets `tags`; None when its type has none."""
    module, model, _ = _MODELS[resource.kind.partition("@")[0]]
    if resource.existing or "tags" not in sdk(module).model(model).fields:
        return None
    assert resource.body is not None
    return "tags" in members(resource.body)


def _resource(template: Template, resource: Declaration) -> Iterator[str]:
    kind, _, version = resource.kind.partition("@")
    if kind not in _MODELS:
        yield f"{template.at(resource.node)}: no wire names are known for {kind}"
        return
    module, model, versions = _MODELS[kind]
    if version not in versions:
        yield f"{template.at(resource.node)}: {kind} has no known API version {version}"
    assert resource.body is not None
    if not resource.existing:
        yield from _Walk(template, sdk(module)).model(resource.body, sdk(module).model(model), top=True)


@dataclass(frozen=True, slots=True)
class _Walk:
    template: Template
    sdk: Sdk

    def model(self, node: Node, model: Model, *, top: bool = False) -> Iterator[str]:
        """Compare an object, or each object that an expression may come to, with a model."""
        if node.type != "object":
            yield from self._each(node, lambda inner: self.model(inner, model))
            return
        given = set()
        for key, value in entries(node):
            name = key_text(key)
            given.add(name)
            if name is not None and not (top and name in _BICEP_KEYS):
                yield from self._property(key, name, value, model)
        for name, known in model.fields.items():
            if known.required and not known.read_only and name not in given:
                yield f"{self.template.at(node)}: {model.name} needs {name}"

    def _property(self, key: Node, name: str, value: Node, model: Model) -> Iterator[str]:
        known = model.fields.get(name)
        if known is None:
            yield f"{self.template.at(key)}: {model.name} has no property {name}"
        elif known.read_only:
            yield f"{self.template.at(key)}: {model.name}.{name} is read-only"
        elif name in model.nested:
            yield from self.model(value, model.nested[name])
        else:
            yield from self._value(value, known.annotation, f"{model.name}.{name}")

    def _value(self, node: Node, annotation: str, place: str) -> Iterator[str]:
        annotation = _bare(annotation)
        if node.type in _EXPRESSIONS:
            yield from self._parameter(node, annotation, place)
            yield from self._each(node, lambda inner: self._value(inner, annotation, place))
        elif element := re.fullmatch(r"(?:list\[(.*)\]|\[(.*)\])", annotation):
            yield from self._list(node, element.group(1) or element.group(2), place)
        elif element := re.fullmatch(r"(?:dict\[str, (.*)\]|\{(.*)\})", annotation):
            yield from self._map(node, element.group(1) or element.group(2), place)
        elif self.sdk.has(annotation):
            yield from self._object(node, annotation, place)
        else:
            yield from self._scalar(node, annotation, place)

    def _list(self, node: Node, element: str, place: str) -> Iterator[str]:
        if node.type == "array":
            for item in node.named_children:
                yield from self._value(item, element, place)
        elif node.type == "for_statement":
            yield from self._value(node.named_children[-1], element, place)
        elif node.type in _LITERALS:
            yield f"{self.template.at(node)}: {place} takes an array"

    def _map(self, node: Node, element: str, place: str) -> Iterator[str]:
        if node.type == "object":
            for _, value in entries(node):
                yield from self._value(value, element, place)
        elif node.type in _LITERALS:
            yield f"{self.template.at(node)}: {place} takes an object"

    def _object(self, node: Node, name: str, place: str) -> Iterator[str]:
        if node.type == "object":
            yield from self.model(node, self.sdk.model(name))
        elif node.type in _LITERALS and node.type != "null":
            yield f"{self.template.at(node)}: {place} takes an object"

    def _scalar(self, node: Node, annotation: str, place: str) -> Iterator[str]:
        values = self.sdk.enums.get(annotation)
        given = literal(node)
        if values is not None and given is not None and given not in values:
            yield f"{self.template.at(node)}: {place} must be one of {sorted(values)}, not {given!r}"
        expected = "str" if values is not None else annotation
        actual = _LITERALS.get(node.type)
        if actual and expected in _NAMED_SCALARS and expected not in actual.split():
            yield f"{self.template.at(node)}: {place} takes {expected}, not {actual.split()[0]}"

    def _parameter(self, node: Node, annotation: str, place: str) -> Iterator[str]:
        parameter = self.template.parameters.get(text(node))
        kind = _BICEP_TYPES.get(parameter.kind) if parameter is not None else None
        expected = "str" if annotation in self.sdk.enums else annotation
        if kind and expected in _NAMED_SCALARS and expected != kind and (kind, expected) != ("int", "float"):
            yield f"{self.template.at(node)}: {place} takes {expected}, and the parameter is {kind}"

    def _each(self, node: Node, check: _Check) -> Iterator[str]:
        """Every value that an expression may come to, as far as that can be told without evaluating it."""
        inner = unwrap(node)
        if inner.type == "ternary_expression":
            for arm in inner.named_children[1:]:
                yield from check(arm)
        elif inner.type == "binary_expression" and "??" in [child.type for child in inner.children]:
            yield from check(inner.named_children[1])
        elif inner.type == "call_expression" and text(inner.named_children[0]) == "union":
            for argument in inner.named_children[1].named_children:
                yield from check(argument)
        elif inner.type == "identifier":
            yield from self._symbol(text(inner), check)
        elif inner != node:
            yield from check(inner)

    def _symbol(self, name: str, check: _Check) -> Iterator[str]:
        variable = self.template.variables.get(name)
        if variable is not None and variable.value is not None:
            yield from check(variable.value)
        parameter = self.template.parameters.get(name)
        if parameter is not None and "allowed" in parameter.decorators:
            for value in parameter.decorators["allowed"].named_children[1].named_children[0].named_children:
                yield from check(value)


_WRAPPING: Final = re.compile(
    r"""(?:Required|Optional)\[(.*)\]|Union\[str, (.*)\]|["'](.*)["']|_models\.(.*)""",
)


def _bare(annotation: str) -> str:
    """The type itself, out of `Required[...]`, `Optional[...]`, `Union[str, ...]`, quotes and module."""
    while match := _WRAPPING.fullmatch(annotation):
        annotation = next(group for group in match.groups() if group is not None)
    return annotation
