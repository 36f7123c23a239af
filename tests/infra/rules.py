"""What a person checks before a deployment. Each rule reads a snapshot and yields what it finds and expects.

`test_bicep.py` applies the rules to every case of `cases.yaml`, and proves that they find planted faults.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from admin.tables import TABLES
from shared.core.settings import NUMBERS
from tools.processes import ROOT

_GROUP: Final = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/Any"
_ACCOUNTS: Final = f"{_GROUP}/providers/Microsoft.CognitiveServices/accounts"
_FILE: Final = Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8")
TABLE: Final = yaml.safe_load(re.sub(r"ID\((.*?)\)", rf"{_ACCOUNTS}/\1", _FILE))
_UNTAGGED = re.compile(r".*/((blob|table)Services|containers|tables|config|privateDnsZoneGroups|budgets)")

Checks = Iterable[tuple[str, object, object]]
"""What is checked, as a message names it; what the snapshot has; and what it must have."""


class Snapshot:
    def __init__(self, evaluated: Any, case: Any) -> None:
        self.all: list[Any] = evaluated["predictedResources"]
        self.outputs, self.diagnostics = evaluated["outputs"], evaluated["diagnostics"]
        self.given = TABLE["defaults"] | case["parameters"]
        self.regions = case.get("regions", ["swedencentral"])
        self.existing = [account.lower() for account in case.get("existing", [])]

    def of(self, kind: str) -> list[Any]:
        return [one for one in self.all if one["type"].endswith(f"/{kind}")]

    def ids(self, kind: str) -> list[str]:
        return [one["id"].lower() for one in self.of(kind)]

    def properties(self, kind: str) -> list[Any]:
        return [one["properties"] for one in self.of(kind)]

    def one(self, kind: str) -> Any:
        (found,) = self.properties(kind)
        return found


def faults(snapshot: Snapshot) -> list[str]:
    checks = [(rule.__name__, check) for rule in RULES for check in rule(snapshot)]
    return [f"{rule}: {fault}" for rule, check in checks for fault in difference(*check)]


def difference(name: str, actual: object, expected: object) -> list[str]:
    return [] if actual == expected else [f"{name}: {actual} instead of {expected}"]


def ids_are_unique(snapshot: Snapshot) -> Checks:
    yield "diagnostics", snapshot.diagnostics, []
    times = Counter(one["id"].lower() for one in snapshot.all)
    yield "repeated", [name for name in times if times[name] > 1], []


def resources_are_as_the_table_says(snapshot: Snapshot) -> Checks:
    for kind, required in TABLE["properties"].items():
        for one in snapshot.of(kind):
            yield one["name"], {name: one["properties"].get(name) for name in required}, required


def nothing_has_a_key(snapshot: Snapshot) -> Checks:
    functions = r"\blist(?:Keys|AccountSas|ServiceSas|Secrets)\b"
    yield "calls", re.findall(functions, json.dumps([snapshot.all, snapshot.outputs])), []
    storage = snapshot.one("sites")["functionAppConfig"]["deployment"]["storage"]
    yield "package", storage["authentication"]["type"], "UserAssignedIdentity"


def roles_are_those_of_the_document(snapshot: Snapshot) -> Checks:
    actual, documented = Counter(assigned_roles(snapshot)), Counter(documented_roles(snapshot))
    yield "missing", list(documented - actual), []
    yield "not in docs/security.md", list(actual - documented), []


def assigned_roles(snapshot: Snapshot) -> Iterator[tuple[bool, str, str, str]]:
    """Each role: whether the app has it, the type of the principal, the role, and the id of the resource."""
    for one in snapshot.of("roleAssignments"):
        properties = one["properties"]
        is_app = "userAssignedIdentities" in properties["principalId"]
        role = TABLE["roles"].get(properties["roleDefinitionId"].rpartition("/")[2], "unknown role")
        full_id = one["id"].removeprefix("[extensionResourceId('")
        scope = re.split(r"/providers/Microsoft.Authorization|'", full_id)[0]
        yield is_app, properties["principalType"], role, scope.lower()


def documented_roles(snapshot: Snapshot) -> Iterator[tuple[bool, str, str, str]]:
    document = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    accounts = [*snapshot.ids("accounts"), *snapshot.existing]
    ids = {
        "Storage": snapshot.ids("storageAccounts"),
        "Monitoring": snapshot.ids("components"),
        "Cognitive": accounts if snapshot.given["OPENAI_ASSIGN_ROLES"] else [],
    }
    row = r"(?m)^\| ([^|]+) \| ((Storage|Monitoring|Cognitive) [^|]+) \| ([^|]+) \|"
    is_foundry = snapshot.given["OPENAI_KIND"] == "AIServices"
    for holder, role, kind, place in re.findall(row, document):
        is_app = holder.startswith("the app")
        if kind == "Cognitive" and is_foundry != ("AIServices" in place):
            continue
        if is_app or snapshot.given["principalId"]:
            principal = "ServicePrincipal" if is_app else snapshot.given["principalType"]
            yield from ((is_app, principal, role, scope) for scope in ids[kind])


def settings_are_those_that_the_app_reads(snapshot: Snapshot) -> Checks:
    own = snapshot.given["PROXY_SETTINGS"]
    expected = {**TABLE["app settings"], **own}
    app_limit = next(number.default for number in NUMBERS if number.name == "PROXY_MAX_BODY_BYTES")
    host_limit = int(own.get("PROXY_MAX_BODY_BYTES", app_limit)) + 500_000
    expected["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] = str(host_limit)
    if snapshot.given["PROXY_PYTHON_VERSION"] != "3.13":
        expected["PYTHON_ENABLE_INIT_INDEXING"] = "1"
    actual = snapshot.one("config")
    yield "missing or unknown", sorted(actual.keys() ^ expected.keys()), []
    for name in actual.keys() & expected.keys():
        yield f"{name} is {actual[name]}", expected[name] in actual[name], True


def everything_is_tagged(snapshot: Snapshot) -> Checks:
    tags = {"application": "azure-openai-event-proxy"} | snapshot.given["TAGS"] | {"azd-env-name": "test"}
    for one in snapshot.all:
        service_tag = {"azd-service-name": "api"} if one["type"] == "Microsoft.Web/sites" else {}
        if not _UNTAGGED.fullmatch(one["type"]) and "Microsoft.Authorization" not in one["type"]:
            own = {key: one["tags"][key] for key in one.get("tags", {}) if not key.startswith("hidden-link:")}
            yield one["name"], own, tags | service_tag


def accounts_have_the_models(snapshot: Snapshot) -> Checks:
    kind = snapshot.given["OPENAI_KIND"]
    accounts = sorted((one["location"], one["kind"]) for one in snapshot.of("accounts"))
    yield "accounts", accounts, sorted((region, kind) for region in snapshot.regions)
    # The address of an AI Services account at cognitiveservices.azure.com does not serve /openai/v1.
    host = ".openai.azure.com" if kind == "AIServices" else ").endpoint"
    for name, expected in (("ENDPOINTS", snapshot.regions), ("EXISTING_ENDPOINTS", snapshot.existing)):
        yield name, str(snapshot.outputs[f"AZURE_OPENAI_{name}"]).count(host), len(expected)
    models = [model["name"] for model in snapshot.given["MODEL_DEPLOYMENTS"]]
    deployed = [one["name"].partition("/")[2] for one in snapshot.of("deployments")]
    yield "models", deployed, models * len(snapshot.regions)


def app_is_as_the_parameters_say(snapshot: Snapshot) -> Checks:
    given, config = snapshot.given, snapshot.one("sites")["functionAppConfig"]
    warm = given["ALWAYS_READY_INSTANCES"]
    scale = {
        "instanceMemoryMB": given["INSTANCE_MEMORY_MB"],
        "maximumInstanceCount": given["MAXIMUM_INSTANCES"],
        "alwaysReady": [{"name": "http", "instanceCount": warm}] if warm else [],
        # Without it the platform uses 1 for Python, and an event costs thirty times as much.
        "triggers": {"http": {"perInstanceConcurrency": given["PER_INSTANCE_CONCURRENCY"]}},
    }
    yield "scale", config["scaleAndConcurrency"], scale
    update = config.get("siteUpdateStrategy", {"type": "Recreate"})
    yield "update", update["type"], given["UPDATE_STRATEGY"]
    yield "Python", config["runtime"]["version"], given["PROXY_PYTHON_VERSION"]
    yield "zones", snapshot.one("serverfarms")["zoneRedundant"], given["ZONE_REDUNDANT"]
    copies = snapshot.of("storageAccounts")[0]["sku"]["name"]
    yield "copies", copies, "Standard_ZRS" if given["ZONE_REDUNDANT"] else "Standard_LRS"
    yield "tables", {name.rpartition("/")[2] for name in snapshot.ids("tables")}, set(TABLES)


def alerts_and_budget_reach_the_mail_address(snapshot: Snapshot) -> Checks:
    address, is_tested = snapshot.given["ALERT_EMAIL"], snapshot.given["AVAILABILITY_TEST"]
    queries, tests = snapshot.properties("scheduledQueryRules"), snapshot.properties("metricAlerts")
    yield "log alerts", len(queries), 4 if address else 0
    yield "availability", [len(tests), len(snapshot.of("webtests"))], [int(is_tested)] * 2
    groups = [group for one in queries for group in one["actions"]["actionGroups"]]
    groups += [action["actionGroupId"] for one in tests for action in one["actions"]]
    mails = [one["emailReceivers"][0]["emailAddress"] for one in snapshot.properties("actionGroups")]
    yield "mails", mails, [address] if address else []
    reached = snapshot.ids("actionGroups") * (len(queries) + len(tests))
    yield "groups", [one.lower() for one in groups], reached
    budgets = snapshot.properties("budgets")
    yield "budgets", len(budgets), 1 if snapshot.given["BUDGET_AMOUNT"] else 0
    for notification in (one for budget in budgets for one in budget["notifications"].values()):
        yield "budget", notification["contactEmails"], [address]
    workbook = json.loads(snapshot.one("workbooks")["serializedData"])
    yield "workbook", workbook["fallbackResourceIds"], [one["id"] for one in snapshot.of("components")]


def public_access_is_as_the_parameters_say(snapshot: Snapshot) -> Checks:
    is_private = snapshot.given["VNET_ENABLED"]
    addresses = re.findall(r"[\d.]+", snapshot.given["ADMIN_IP_ADDRESSES"]) if is_private else []
    access, action = ("Disabled", "Deny") if is_private else ("Enabled", "Allow")
    for one in snapshot.properties("accounts"):
        yield "account, publicNetworkAccess", one["publicNetworkAccess"], access
    storage = snapshot.one("storageAccounts")
    yield "storage, publicNetworkAccess", storage["publicNetworkAccess"], "Enabled" if addresses else access
    yield "storage, defaultAction", storage["networkAcls"]["defaultAction"], action
    yield "storage, ipRules", [rule["value"] for rule in storage["networkAcls"]["ipRules"]], addresses


def private_endpoints_reach_everything(snapshot: Snapshot) -> Checks:
    is_private, endpoints = snapshot.given["VNET_ENABLED"], snapshot.of("privateEndpoints")
    targets = [(one, group) for one in snapshot.ids("storageAccounts") for group in ("blob", "table")]
    targets += [(one, "account") for one in [*snapshot.ids("accounts"), *snapshot.existing]]
    links = [one["properties"]["privateLinkServiceConnections"][0]["properties"] for one in endpoints]
    found = sorted((one["privateLinkServiceId"].lower(), one["groupIds"][0]) for one in links)
    yield "endpoints", found, sorted(targets) if is_private else []
    names = [one["name"] for one in snapshot.of("privateDnsZoneGroups")]
    yield "names", names, [f"{one['name']}/default" for one in endpoints]
    zones = len(snapshot.of("privateDnsZones"))
    yield "links", len(snapshot.of("virtualNetworkLinks")), zones
    yield "app in the network", bool(snapshot.one("sites")["virtualNetworkSubnetId"]), is_private


RULES: Final[tuple[Callable[[Snapshot], Checks], ...]] = (
    ids_are_unique,
    resources_are_as_the_table_says,
    nothing_has_a_key,
    roles_are_those_of_the_document,
    settings_are_those_that_the_app_reads,
    everything_is_tagged,
    accounts_have_the_models,
    app_is_as_the_parameters_say,
    alerts_and_budget_reach_the_mail_address,
    public_access_is_as_the_parameters_say,
    private_endpoints_reach_everything,
)
