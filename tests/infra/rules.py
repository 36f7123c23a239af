"""What a person checks before a deployment. Each rule reads a snapshot and yields its faults.

`test_bicep.py` applies the rules to every case of `cases.yaml`, and proves that they find planted faults.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from shared.core import settings
from shared.tables import service
from tests.infra.conftest import ROOT

# From Azure's list of built-in roles.
_ROLES: Final = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
}
_KEYLESS: Final[dict[str, dict[str, bool]]] = {
    "storageAccounts": {"allowSharedKeyAccess": False, "allowBlobPublicAccess": False},
    "accounts": {"disableLocalAuth": True},
    "components": {"DisableLocalAuth": True},
}
_WITHOUT_TAGS: Final = re.compile(
    "blobServices|containers|tableServices|tables|roleAssignments|config|privateDnsZoneGroups|budgets"
)
# Exactly the settings that the app and Flex Consumption need, with a part of each value.
_APP_SETTINGS: Final = {
    "AzureWebJobsStorage__credential": "managedidentity",
    "AzureWebJobsStorage__clientId": ".clientId",
    "AzureWebJobsStorage__blobServiceUri": ".primaryEndpoints.blob",
    "AzureWebJobsDisableHomepage": "true",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "00000",
    settings.TELEMETRY: ".ConnectionString",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED": "true",
    settings.AZURE_CLIENT_ID: ".clientId",
    settings.TABLES_URI: ".primaryEndpoints.table",
    settings.TABLES_CLIENT_ID: ".clientId",
}
_TABLES: Final = {service.EVENTS, service.DEPLOYMENTS, service.QUOTAS, service.USAGE}


class Case(NamedTuple):
    parameters: dict[str, Any]
    regions: tuple[str, ...]
    """The regions that get a new account."""
    existing: tuple[str, ...]
    """The ids of the existing accounts, in lower case."""


class Snapshot(NamedTuple):
    evaluated: Any
    case: Case

    def of(self, kind: str) -> list[Any]:
        return [
            one
            for one in self.evaluated["predictedResources"]
            if not kind or one["type"].endswith(f"/{kind}")
        ]

    def ids(self, kind: str) -> list[str]:
        return [one["id"].lower() for one in self.of(kind)]

    def one(self, kind: str) -> Any:
        (found,) = self.of(kind)
        return found["properties"]

    def given(self, parameter: str, default: Any) -> Any:
        return self.case.parameters.get(parameter, default)

    @property
    def is_private(self) -> bool:
        return bool(self.given("vnetEnabled", False))


def faults(snapshot: Snapshot) -> list[str]:
    return [f"{rule.__name__}: {fault}" for rule in _RULES for fault in rule(snapshot)]


def _ids_are_unique(snapshot: Snapshot) -> Iterator[str]:
    yield from map(str, snapshot.evaluated["diagnostics"])
    yield from (one for one, times in Counter(snapshot.ids("")).items() if times > 1)


def _nothing_has_a_key(snapshot: Snapshot) -> Iterator[str]:
    for kind, required in _KEYLESS.items():
        for one in snapshot.of(kind):
            if not required.items() <= one["properties"].items():
                yield f"{one['name']} needs {required}"
    yield from re.findall(r"\blist(?:Keys|AccountSas|ServiceSas|Secrets)\b", json.dumps(snapshot.evaluated))
    package = snapshot.one("sites")["functionAppConfig"]["deployment"]["storage"]
    if package["authentication"]["type"] != "UserAssignedIdentity":
        yield "the app does not read its package with its identity"


def _roles_are_those_of_the_document(snapshot: Snapshot) -> Iterator[str]:
    actual, documented = Counter(_assigned(snapshot)), Counter(_documented(snapshot))
    yield from (f"missing: {role}" for role in documented - actual)
    yield from (f"not in docs/security.md: {role}" for role in actual - documented)


def _assigned(snapshot: Snapshot) -> Iterator[tuple[bool, str, str]]:
    """Each role: whether the app has it, its name, and the id of the resource."""
    for one in snapshot.of("roleAssignments"):
        properties = one["properties"]
        is_app = "userAssignedIdentities" in properties["principalId"]
        role = _ROLES.get(properties["roleDefinitionId"].rpartition("/")[2], "unknown role")
        if properties["principalType"] != (
            "ServicePrincipal" if is_app else snapshot.given("principalType", "User")
        ):
            role = f"{role} with principalType {properties['principalType']}"
        scope = re.findall(r"/subscriptions/[^']+?(?=/providers/Microsoft.Authorization|')", one["id"] + "'")[
            0
        ]
        yield is_app, role, scope.lower()


def _documented(snapshot: Snapshot) -> Iterator[tuple[bool, str, str]]:
    document = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    accounts = [*snapshot.ids("accounts"), *snapshot.case.existing]
    ids = {
        "Storage": snapshot.ids("storageAccounts"),
        "Monitoring": snapshot.ids("components"),
        "Cognitive": accounts if snapshot.given("assignOpenAiRoles", True) else [],
    }
    for holder, role, kind in re.findall(
        r"(?m)^\| ([^|]+) \| ((Storage|Monitoring|Cognitive) [^|]+) \|", document
    ):
        is_app = "identity" in holder
        if is_app or snapshot.given("principalId", ""):
            yield from ((is_app, role, scope) for scope in ids[kind])


def _settings_are_those_that_the_app_reads(snapshot: Snapshot) -> Iterator[str]:
    expected = {**_APP_SETTINGS, **snapshot.given("proxySettings", {})}
    if snapshot.given("pythonVersion", "3.13") != "3.13":
        expected["PYTHON_ENABLE_INIT_INDEXING"] = "1"
    actual = snapshot.one("config")
    yield from sorted(actual.keys() ^ expected.keys())
    for name in actual.keys() & expected.keys():
        if expected[name] not in actual[name]:
            yield f"{name} is {actual[name]}"


def _everything_is_tagged(snapshot: Snapshot) -> Iterator[str]:
    tags = {"azd-env-name": "test", "application": "azure-openai-event-proxy"}
    for one in snapshot.of(""):
        kind = one["type"].rpartition("/")[2]
        expected = tags | {"azd-service-name": "api"} if kind == "sites" else tags
        if not _WITHOUT_TAGS.fullmatch(kind) and one.get("tags") != expected:
            yield one["name"]


def _accounts_have_the_models(snapshot: Snapshot) -> Iterator[str]:
    regions, existing = snapshot.case.regions, snapshot.case.existing
    if sorted(one["location"] for one in snapshot.of("accounts")) != sorted(regions):
        yield f"regions are not {regions}"
    for name, accounts in (
        ("AZURE_OPENAI_ENDPOINTS", regions),
        ("AZURE_OPENAI_EXISTING_ENDPOINTS", existing),
    ):
        if str(snapshot.evaluated["outputs"][name]).count("reference(") != len(accounts):
            yield f"{name} is {snapshot.evaluated['outputs'][name]}"
    models = [model["name"] for model in snapshot.given("modelDeployments", [{"name": "gpt-5.4"}])]
    if [one["name"].partition("/")[2] for one in snapshot.of("deployments")] != models * len(regions):
        yield f"models are not {models}"


def _app_is_as_the_parameters_say(snapshot: Snapshot) -> Iterator[str]:
    config, warm = snapshot.one("sites")["functionAppConfig"], snapshot.given("alwaysReadyInstances", 0)
    expected = {
        "instanceMemoryMB": snapshot.given("instanceMemoryMB", 2048),
        "maximumInstanceCount": snapshot.given("maximumInstanceCount", 40),
        "alwaysReady": [{"name": "http", "instanceCount": warm}] if warm else [],
        # Without it the platform uses 1 for Python, and an event costs thirty times as much.
        "triggers": {"http": {"perInstanceConcurrency": snapshot.given("perInstanceConcurrency", 50)}},
    }
    if config["scaleAndConcurrency"] != expected:
        yield f"{config['scaleAndConcurrency']} instead of {expected}"
    if config["runtime"] != {"name": "python", "version": snapshot.given("pythonVersion", "3.13")}:
        yield f"the runtime is {config['runtime']}"
    if len(snapshot.of("budgets")) != bool(snapshot.given("budgetAmount", 0)):
        yield "budget"
    yield from (
        f"table {name}" for name in {one.rpartition("/")[2] for one in snapshot.ids("tables")} ^ _TABLES
    )


def _public_access_is_as_the_parameters_say(snapshot: Snapshot) -> Iterator[str]:
    addresses = re.findall(r"[\d.]+", snapshot.given("adminIpAddresses", ""))
    storage = snapshot.one("storageAccounts")
    access = "Disabled" if snapshot.is_private else "Enabled"
    for one in snapshot.of("accounts"):
        if one["properties"]["publicNetworkAccess"] != access:
            yield f"{one['name']}: publicNetworkAccess is not {access}"
    if storage["publicNetworkAccess"] != ("Enabled" if addresses else access):
        yield f"storage: publicNetworkAccess is {storage['publicNetworkAccess']}"
    allowed = [rule["value"] for rule in storage["networkAcls"]["ipRules"]]
    is_denied = storage["networkAcls"]["defaultAction"] == "Deny"
    if (is_denied, allowed) != (snapshot.is_private, addresses if snapshot.is_private else []):
        yield f"storage: {storage['networkAcls']}"


def _private_endpoints_reach_everything(snapshot: Snapshot) -> Iterator[str]:
    targets = [(one, group) for one in snapshot.ids("storageAccounts") for group in ("blob", "table")]
    targets += [(one, "account") for one in [*snapshot.ids("accounts"), *snapshot.case.existing]]
    found = [
        (one["properties"]["privateLinkServiceId"].lower(), *one["properties"]["groupIds"])
        for endpoint in snapshot.of("privateEndpoints")
        for one in endpoint["properties"]["privateLinkServiceConnections"]
    ]
    if sorted(found) != sorted(targets if snapshot.is_private else []):
        yield f"endpoints for {found}"
    names = [one["name"].removesuffix("/default") for one in snapshot.of("privateDnsZoneGroups")]
    if names != [one["name"] for one in snapshot.of("privateEndpoints")]:
        yield "an endpoint has no private name"
    links = [one["properties"]["resolutionPolicy"] for one in snapshot.of("virtualNetworkLinks")]
    if links != ["NxDomainRedirect"] * len(snapshot.of("privateDnsZones")):
        yield "names without a private endpoint cannot be resolved"
    if bool(snapshot.one("sites")["virtualNetworkSubnetId"]) != snapshot.is_private:
        yield "the app is in the wrong network"


_RULES: Final[tuple[Callable[[Snapshot], Iterator[str]], ...]] = (
    _ids_are_unique,
    _nothing_has_a_key,
    _roles_are_those_of_the_document,
    _settings_are_those_that_the_app_reads,
    _everything_is_tagged,
    _accounts_have_the_models,
    _app_is_as_the_parameters_say,
    _public_access_is_as_the_parameters_say,
    _private_endpoints_reach_everything,
)
