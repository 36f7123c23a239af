"""Checks of the Bicep files by themselves: some of what the compiler would find, without the compiler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tree_sitter import Node

from tests.infra import resources
from tests.infra.bicep import Declaration, Template, literal, members, parse, text, unwrap, walk
from tests.infra.project import Project

# The id of each role that is used, from Azure's list of built-in roles.
_ROLES: Final = {
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Cognitive Services OpenAI User": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
}

# What must stand in every resource of a type, for there to be no key that opens it.
_KEYLESS: Final = {
    "Microsoft.Storage/storageAccounts": {"allowSharedKeyAccess": "false", "allowBlobPublicAccess": "false"},
    "Microsoft.CognitiveServices/accounts": {"disableLocalAuth": "true"},
    "Microsoft.Insights/components": {"DisableLocalAuth": "true"},
}

# The functions and decorators that these files use. An unknown one is a fault, so that a misspelt one is too.
_FUNCTIONS: Final = {
    *("empty", "environment", "fail", "guid", "int", "last", "length", "min", "range", "replace"),
    *("resourceGroup", "resourceId", "string"),
    *(
        "split",
        "subscription",
        "subscriptionResourceId",
        "take",
        "tenant",
        "toLower",
        "union",
        "uniqueString",
    ),
    *(
        "utcNow",
        "allowed",
        "batchSize",
        "description",
        "maxLength",
        "maxValue",
        "metadata",
        "minLength",
        "minValue",
    ),
}


def files_parse(project: Project) -> Iterator[str]:
    """Both parsers accept every file, and read the same declarations."""
    for path in sorted((project.root / "infra").rglob("*.bicep")):
        try:
            parse(path)
        except Exception as error:  # whatever a parser raises is a file that does not parse
            yield str(error)


def symbols_exist(project: Project) -> Iterator[str]:
    """Every name that is used was declared, or is a function of Bicep."""
    for template in project.templates.values():
        known = template.loop_names | _FUNCTIONS | template.declared
        for node in _references(template.root):
            if text(node) not in known:
                yield f"{template.at(node)}: {text(node)} is not declared"


def everything_is_used(project: Project) -> Iterator[str]:
    """No parameter and no variable is left over."""
    for template in project.templates.values():
        used = {text(node) for node in _references(template.root)}
        for name in {**template.parameters, **template.variables}.keys() - used:
            yield f"{template.path.name}: {name} is not used"


def properties_are_known(project: Project) -> Iterator[str]:
    """Every property and every value of an enumeration is one that Azure Resource Manager takes."""
    for template in project.templates.values():
        yield from resources.faults(template)


def everything_is_tagged(project: Project) -> Iterator[str]:
    for template in project.templates.values():
        for resource in template.resources.values():
            if resources.has_tags(resource) is False:
                yield f"{template.at(resource.node)}: {resource.name} has no tags"


def modules_fit(project: Project) -> Iterator[str]:
    """Module files exist; every parameter passed exists, every one without a default is passed."""
    for template in project.templates.values():
        for module in template.modules.values():
            target = project.target(template, module)
            if target is None:
                yield f"{template.at(module.node)}: there is no {module.kind}"
                continue
            assert module.body is not None
            passed = members(members(module.body)["params"]).keys()
            for name in passed - target.parameters.keys():
                yield f"{template.at(module.node)}: {module.kind} has no parameter {name}"
            for name, parameter in target.parameters.items():
                if parameter.value is None and name not in passed:
                    yield f"{template.at(module.node)}: {module.kind} needs {name}"


def module_outputs_exist(project: Project) -> Iterator[str]:
    for template in project.templates.values():
        for node in walk(template.root):
            found = re.fullmatch(r"(\w+)(?:\[\w+\])?!?\.outputs\.(\w+)", text(node))
            module = (
                template.modules.get(found.group(1)) if found and node.type == "member_expression" else None
            )
            if found is None or module is None:
                continue
            target = project.target(template, module)
            if target is not None and found.group(2) not in target.outputs:
                yield f"{template.at(node)}: {module.kind} has no output {found.group(2)}"


def roles_match(project: Project) -> Iterator[str]:
    """Each variable ending in `RoleId` has its role's name in the comment above, and that role's id."""
    for template in project.templates.values():
        for variable in template.variables.values():
            if not variable.name.endswith("RoleId"):
                continue
            above = variable.node.prev_named_sibling
            role = text(above).removeprefix("// ") if above is not None else ""
            given = literal(variable.value) if variable.value is not None else None
            if given is None or _ROLES.get(role) != given:
                yield f"{template.at(variable.node)}: {variable.name} is not the id of the role {role!r}"


def roles_come_first(project: Project) -> Iterator[str]:
    """The app waits for every module that assigns a role to it."""
    body = project.main.modules["api"].body
    assert body is not None
    waits = {text(node) for node in members(body)["dependsOn"].named_children}
    for module in project.main.modules.values():
        target = project.target(project.main, module)
        kinds = [resource.kind for resource in target.resources.values()] if target is not None else []
        if any("roleAssignments" in kind for kind in kinds) and module.name not in waits:
            yield f"main.bicep: api does not wait for {module.name}"


def no_keys(project: Project) -> Iterator[str]:
    """Keys are switched off, and no expression asks for one."""
    for template in project.templates.values():
        for node in walk(template.root):
            if re.match(r"list(Keys|AccountSas|ServiceSas|Secrets)$", text(node)):
                yield f"{template.at(node)}: {text(node)} gives out a key"
        for resource in template.resources.values():
            yield from _keyless(template, resource)


def _references(root: Node) -> Iterator[Node]:
    """Identifiers that stand for what is declared elsewhere: not names of properties or declarations."""
    for node in walk(root):
        parent = node.parent
        if node.type != "identifier" or parent is None:
            continue
        is_naming = parent.type.endswith("_declaration") or parent.type in {
            "object_property",
            "for_statement",
        }
        if not (is_naming and _is_first(parent, node)):
            yield node


def _is_first(parent: Node, node: Node) -> bool:
    return parent.named_children[0] == node


def _keyless(template: Template, resource: Declaration) -> Iterator[str]:
    rules = _KEYLESS.get(resource.kind.partition("@")[0], {})
    if resource.existing or not rules or resource.body is None:
        return
    given = members(members(resource.body)["properties"])
    for name, value in rules.items():
        if name not in given or text(unwrap(given[name])) != value:
            yield f"{template.at(resource.node)}: {resource.name} must have {name}: {value}"
