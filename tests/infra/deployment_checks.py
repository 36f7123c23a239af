"""Checks of what azd, the hooks, the pipeline, the docs and the app need from one another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tree_sitter import Node

from shared.core import settings
from tests.infra.bicep import Declaration, literal, members, text, walk
from tests.infra.project import Project

# Settings that Flex Consumption refuses or ignores, by Microsoft's guide for moving to it.
_NOT_ON_FLEX: Final = {
    *("FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_WORKER_RUNTIME_VERSION", "FUNCTIONS_EXTENSION_VERSION"),
    *("FUNCTIONS_MAX_HTTP_CONCURRENCY", "FUNCTIONS_WORKER_PROCESS_COUNT", "SCM_DO_BUILD_DURING_DEPLOYMENT"),
    *("FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED", "ENABLE_ORYX_BUILD", "WEBSITE_RUN_FROM_PACKAGE"),
    *("WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", "WEBSITE_CONTENTSHARE", "WEBSITE_CONTENTOVERVNET"),
    *("WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT", "WEBSITE_VNET_ROUTE_ALL", "WEBSITE_TIME_ZONE", "TZ"),
}

# Without these the deployed app cannot start.
_IN_THE_CLOUD: Final = {settings.TABLES_URI, settings.TABLES_CLIENT_ID}

_TABLES: Final = {"events", "deployments", "quotas", "usage"}

_HOST_SETTINGS: Final = {
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "string(hostBodyBytes)",
    "AzureWebJobsDisableHomepage": "'true'",
}

# What azd asks for or finds out by itself.
_AZD_VARIABLES: Final = {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"}


def parameters_have_values(project: Project) -> Iterator[str]:
    """`main.parameters.json` and `main.bicep` name the same parameters; azd has to ask for two only."""
    declared, given = project.main.parameters, project.parameters
    computed = {name for name, item in declared.items() if "utcNow(" in text(item.node)}
    yield from (f"main.bicep has no parameter {name}" for name in given.keys() - declared.keys())
    yield from (f"{name} has no value" for name in declared.keys() - given.keys() - computed)
    yield from (f"{name} is computed and must not be given" for name in given.keys() & computed)
    for name in (given.keys() & declared.keys()) - {"environmentName", "location"}:
        if not re.fullmatch(r"\$\{\w+=[^{}]+\}", str(given[name])) and not _is_empty(declared[name]):
            yield f"{name} has neither a default in main.parameters.json nor an empty one in main.bicep"


def variables_are_documented(project: Project) -> Iterator[str]:
    """docs/deploy.md explains every `${VAR}` and every variable of the hooks, and no other."""
    used = _asked_for(project)
    explained = project.deploy_variables
    yield from (f"docs/deploy.md does not explain {name}" for name in used - explained - _AZD_VARIABLES)
    yield from (f"docs/deploy.md explains {name}, which nothing reads" for name in explained - used)


def pipeline_passes_variables(project: Project) -> Iterator[str]:
    """The workflow hands over every variable. One that is not set is empty there, which is no JSON object."""
    workflow = project.text(".github/workflows/azure-dev.yml")
    for name in _asked_for(project) - {"AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE", "HOOK_SECONDS"}:
        if not re.search(rf"\b{name}: \$\{{\{{ (vars|secrets)\.{name}\b", workflow):
            yield f"azure-dev.yml does not pass {name}"
    for name, parameter in project.main.parameters.items():
        variable = str(project.parameters.get(name, ""))[2:-1]
        if parameter.kind == "object" and f"vars.{variable} || '{{}}'" not in workflow:
            yield f"azure-dev.yml must pass {variable} as '{{}}' when it is not set"


def hook_outputs_exist(project: Project) -> Iterator[str]:
    """What a hook takes from azd is an output of main.bicep, or a variable that the administrator sets."""
    for name in _hook_variables(project) - project.main.outputs.keys() - project.deploy_variables:
        yield f"a hook reads {name}: no output of main.bicep, and not explained in docs/deploy.md"


def hooks_exist(project: Project) -> Iterator[str]:
    """azure.yaml starts scripts that exist, on both kinds of system."""
    for event, variants in project.azure_yaml["hooks"].items():
        for system in ("posix", "windows"):
            script = re.search(r"infra/hooks/\w+\.py", variants.get(system, {}).get("run", ""))
            if script is None or not (project.root / script.group()).is_file():
                yield f"azure.yaml: {event} has no script for {system}"


def service_is_tagged(project: Project) -> Iterator[str]:
    """`azd deploy` finds the app by a tag that names the service of azure.yaml."""
    for service in project.azure_yaml["services"]:
        if f"'azd-service-name': '{service}'" not in _sources(project):
            yield f"no resource is tagged azd-service-name: {service}"


def settings_are_set(project: Project) -> Iterator[str]:
    """Every setting of the proxy is set in Bicep or explained in docs/configuration.md."""
    documented = project.text("docs/configuration.md")
    yield from (f"{name} is not set in Bicep" for name in _IN_THE_CLOUD - _app_settings(project).keys())
    for name in _setting_names():
        if name not in _app_settings(project) and f"`{name}`" not in documented:
            yield f"{name} is neither set in Bicep nor explained in docs/configuration.md"


def settings_suit_flex(project: Project) -> Iterator[str]:
    """No setting that Flex Consumption refuses, and none of ours that the proxy does not read."""
    given = set(_app_settings(project))
    yield from (f"Flex Consumption does not take {name}" for name in given & _NOT_ON_FLEX)
    ours = {name for name in given if name.startswith("PROXY_")}
    yield from (f"the proxy does not read {name}" for name in ours - _setting_names())


def tables_are_declared(project: Project) -> Iterator[str]:
    found: set[str | None] = set()
    for template in project.templates.values():
        variable = template.variables.get("tableNames")
        if variable is not None and variable.value is not None:
            found |= {literal(node) for node in variable.value.named_children}
    yield from (f"the table {name} is not declared" for name in _TABLES - found)
    yield from (f"the table {name} is none of the proxy's" for name in found - _TABLES)


def concurrency_is_set(project: Project) -> Iterator[str]:
    """Left out, the platform takes 1 for Python, and an event day costs some thirty times as much."""
    if project.parameters.get("perInstanceConcurrency") != "${PER_INSTANCE_CONCURRENCY=50}":
        yield "perInstanceConcurrency is not 50 by default"
    if "http: { perInstanceConcurrency: perInstanceConcurrency }" not in _sources(project):
        yield "the function app does not set triggers.http.perInstanceConcurrency"


def host_settings_are_set(project: Project) -> Iterator[str]:
    """The host has its body limit and no home page, and PROXY_SETTINGS cannot change that."""
    given = {name: text(value) for name, value in _app_settings(project).items()}
    for name, value in _HOST_SETTINGS.items():
        if given.get(name) != value:
            yield f"api.bicep must set {name}: {value}"
    if "moreSettings, hostSettings)" not in _sources(project):
        yield "hostSettings must come after moreSettings, or PROXY_SETTINGS replaces them"


def bodies_fit_in_memory(project: Project) -> Iterator[str]:
    """By default, all request bodies at once fit in an instance. Values that do not fit fail at deployment."""
    body = next(number.default for number in settings.NUMBERS if number.name == "PROXY_MAX_BODY_BYTES")
    memory, concurrency = (_default(project, name) for name in ("instanceMemoryMB", "perInstanceConcurrency"))
    if 470 + (body / 1e6 + 0.5) * concurrency * 3.85 > memory:
        yield f"{concurrency} bodies at once do not fit in an instance of {memory} MB"
    variables = {name: text(variable.node) for name, variable in project.main.variables.items()}
    if f"'{body:.0f}'" not in variables["proxyMaxBodyBytes"]:
        yield f"main.bicep has another default for PROXY_MAX_BODY_BYTES than the app: {body:.0f}"
    if "fail(" not in variables["checkedHostBodyBytes"]:
        yield "main.bicep accepts values that do not fit"
    if "hostBodyBytes: checkedHostBodyBytes" not in _sources(project):
        yield "api.bicep does not get the limit that main.bicep checks"


def _sources(project: Project) -> str:
    return "".join(text(template.root) for template in project.templates.values())


def _setting_names() -> set[str]:
    """Every setting that the proxy reads: the names in settings.py, and its table of numbers."""
    texts = {value for value in vars(settings).values() if isinstance(value, str)}
    return {name for name in texts if name.startswith("PROXY_")} | {
        number.name for number in settings.NUMBERS
    }


def _default(project: Project, parameter: str) -> int:
    """The number in `${VAR=number}` of main.parameters.json."""
    return int(project.parameters[parameter].rstrip("}").partition("=")[2])


def _is_empty(parameter: Declaration) -> bool:
    return parameter.value is not None and text(parameter.value) in {"''", "[]", "{}"}


def _asked_for(project: Project) -> set[str]:
    """What an administrator may set: the variables of main.parameters.json, and those of the hooks."""
    parameters = set(re.findall(r"\$\{(\w+)", project.text("infra/main.parameters.json")))
    return parameters | (_hook_variables(project) - project.main.outputs.keys())


def _hook_variables(project: Project) -> set[str]:
    """Hooks write the names of variables as whole strings in capitals."""
    return set(re.findall(r'"([A-Z][A-Z0-9]+(?:_+[A-Za-z0-9]+)+)"', "".join(project.hooks.values())))


def _app_settings(project: Project) -> Mapping[str, Node]:
    """The settings of the function app, from every object of the expression that makes them."""
    found: dict[str, Node] = {}
    for template in project.templates.values():
        for resource in template.resources.values():
            if resource.kind.startswith("Microsoft.Web/sites/config@") and resource.body is not None:
                used = [members(resource.body)["properties"], *(v.node for v in template.variables.values())]
                for node in (inner for start in used for inner in walk(start)):
                    found |= members(node) if node.type == "object" else {}
    return found
