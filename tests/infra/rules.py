"""What a person checks before a deployment. Each rule reads a snapshot and yields its faults.

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
from tests.infra.conftest import ROOT

_GROUP: Final = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/Any"
_ACCOUNTS: Final = f"{_GROUP}/providers/Microsoft.CognitiveServices/accounts"
_FILE: Final = Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8")
TABLE: Final = yaml.safe_load(re.sub(r"ID\((.*?)\)", rf"{_ACCOUNTS}/\1", _FILE))
_UNTAGGED = re.compile(r".*/((blob|table)Services|containers|tables|config|privateDnsZoneGroups|budgets)")


class Snapshot:
    def __init__(self, evaluated: Any, case: Any) -> None:
        self.all: list[Any] = evaluated["predictedResources"]
        self.outputs, self.diagnostics = evaluated["outputs"], evaluated["diagnostics"]
        self.given = case["parameters"].get
        self.is_private = self.given("VNET_ENABLED", False)
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
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(snapshot)]


def difference(name: str, actual: object, expected: object) -> list[str]:
    return [] if actual == expected else [f"{name}: {actual} instead of {expected}"]


def ids_are_unique(snapshot: Snapshot) -> Iterator[str]:
    yield from difference("diagnostics", snapshot.diagnostics, [])
    times = Counter(one["id"].lower() for one in snapshot.all)
    yield from (name for name in times if times[name] > 1)


def nothing_has_a_key(snapshot: Snapshot) -> Iterator[str]:
    for kind, required in TABLE["keyless"].items():
        for one in snapshot.of(kind):
            yield from difference(one["name"], {**one["properties"], **required}, one["properties"])
    functions = r"\blist(?:Keys|AccountSas|ServiceSas|Secrets)\b"
    yield from re.findall(functions, json.dumps([snapshot.all, snapshot.outputs]))
    storage = snapshot.one("sites")["functionAppConfig"]["deployment"]["storage"]
    yield from difference("package", storage["authentication"]["type"], "UserAssignedIdentity")


def roles_are_those_of_the_document(snapshot: Snapshot) -> Iterator[str]:
    actual, documented = Counter(assigned_roles(snapshot)), Counter(documented_roles(snapshot))
    yield from (f"missing: {role}" for role in documented - actual)
    yield from (f"not in docs/security.md: {role}" for role in actual - documented)


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
        "Cognitive": accounts if snapshot.given("OPENAI_ASSIGN_ROLES", True) else [],
    }
    row = r"(?m)^\| ([^|]+) \| ((Storage|Monitoring|Cognitive) [^|]+) \| ([^|]+) \|"
    is_foundry = snapshot.given("OPENAI_KIND") == "AIServices"
    for holder, role, kind, place in re.findall(row, document):
        is_app = holder.startswith("the app")
        if kind == "Cognitive" and is_foundry != ("AIServices" in place):
            continue
        if is_app or snapshot.given("principalId"):
            principal = "ServicePrincipal" if is_app else snapshot.given("principalType", "User")
            yield from ((is_app, principal, role, scope) for scope in ids[kind])


def settings_are_those_that_the_app_reads(snapshot: Snapshot) -> Iterator[str]:
    own = snapshot.given("PROXY_SETTINGS", {})
    expected = {**TABLE["app settings"], **own}
    app_limit = next(number.default for number in NUMBERS if number.name == "PROXY_MAX_BODY_BYTES")
    host_limit = int(own.get("PROXY_MAX_BODY_BYTES", app_limit)) + 500_000
    expected["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] = str(host_limit)
    if snapshot.given("PROXY_PYTHON_VERSION", "3.13") != "3.13":
        expected["PYTHON_ENABLE_INIT_INDEXING"] = "1"
    actual = snapshot.one("config")
    yield from sorted(actual.keys() ^ expected.keys())
    for name in actual.keys() & expected.keys():
        if expected[name] not in actual[name]:
            yield f"{name} is {actual[name]}"


def everything_is_tagged(snapshot: Snapshot) -> Iterator[str]:
    tags = {"application": "azure-openai-event-proxy"} | snapshot.given("TAGS", {})
    tags |= {"azd-env-name": "test"}
    for one in snapshot.all:
        service_tag = {"azd-service-name": "api"} if one["type"] == "Microsoft.Web/sites" else {}
        if not _UNTAGGED.fullmatch(one["type"]) and "Microsoft.Authorization" not in one["type"]:
            own = {key: one["tags"][key] for key in one.get("tags", {}) if not key.startswith("hidden-link:")}
            yield from difference(one["name"], own, tags | service_tag)


def accounts_have_the_models(snapshot: Snapshot) -> Iterator[str]:
    regions = sorted(one["location"] for one in snapshot.of("accounts"))
    yield from difference("regions", regions, sorted(snapshot.regions))
    kinds = {one["kind"] for one in snapshot.of("accounts")}
    yield from difference("kinds", kinds, {snapshot.given("OPENAI_KIND", "OpenAI")} if regions else kinds)
    for name, accounts in (("ENDPOINTS", snapshot.regions), ("EXISTING_ENDPOINTS", snapshot.existing)):
        # The address of an AI Services account at cognitiveservices.azure.com does not serve /openai/v1.
        host = ".openai.azure.com" if snapshot.given("OPENAI_KIND") == "AIServices" else ").endpoint"
        found = str(snapshot.outputs[f"AZURE_OPENAI_{name}"]).count(host)
        yield from difference(name, found, len(accounts))
    models = [model["name"] for model in snapshot.given("MODEL_DEPLOYMENTS", [{"name": "gpt-5.4"}])]
    deployed = [one["name"].partition("/")[2] for one in snapshot.of("deployments")]
    yield from difference("models", deployed, models * len(snapshot.regions))


def app_is_as_the_parameters_say(snapshot: Snapshot) -> Iterator[str]:
    # Without `cors`: the app answers preflight requests itself.
    site = {"minTlsVersion": "1.2", "ftpsState": "Disabled"}
    yield from difference("siteConfig", snapshot.one("sites")["siteConfig"], site)
    config, warm = snapshot.one("sites")["functionAppConfig"], snapshot.given("ALWAYS_READY_INSTANCES", 0)
    scale = {
        "instanceMemoryMB": snapshot.given("INSTANCE_MEMORY_MB", 2048),
        "maximumInstanceCount": snapshot.given("MAXIMUM_INSTANCES", 40),
        "alwaysReady": [{"name": "http", "instanceCount": warm}] if warm else [],
        # Without it the platform uses 1 for Python, and an event costs thirty times as much.
        "triggers": {"http": {"perInstanceConcurrency": snapshot.given("PER_INSTANCE_CONCURRENCY", 50)}},
    }
    yield from difference("scale", config["scaleAndConcurrency"], scale)
    strategy = config.get("siteUpdateStrategy", {"type": "Recreate"})["type"]
    yield from difference("update", strategy, snapshot.given("UPDATE_STRATEGY", "Recreate"))
    zones = snapshot.given("ZONE_REDUNDANT", False)
    yield from difference("zones", snapshot.one("serverfarms")["zoneRedundant"], zones)
    copies = snapshot.of("storageAccounts")[0]["sku"]["name"]
    yield from difference("copies", copies, "Standard_ZRS" if zones else "Standard_LRS")
    yield from difference(
        "Python", config["runtime"]["version"], snapshot.given("PROXY_PYTHON_VERSION", "3.13")
    )
    tables = {name.rpartition("/")[2] for name in snapshot.ids("tables")}
    yield from difference("tables", tables, set(TABLES))


def alerts_and_budget_reach_the_mail_address(snapshot: Snapshot) -> Iterator[str]:
    address, is_tested = snapshot.given("ALERT_EMAIL", ""), snapshot.given("AVAILABILITY_TEST", False)
    queries, tests = snapshot.properties("scheduledQueryRules"), snapshot.properties("metricAlerts")
    yield from difference("log alerts", len(queries), 4 if address else 0)
    yield from difference("availability", [len(tests), len(snapshot.of("webtests"))], [int(is_tested)] * 2)
    groups = [group for one in queries for group in one["actions"]["actionGroups"]]
    groups += [action["actionGroupId"] for one in tests for action in one["actions"]]
    mails = [one["emailReceivers"][0]["emailAddress"] for one in snapshot.properties("actionGroups")]
    yield from difference("mails", mails, [address] if address else [])
    reached = snapshot.ids("actionGroups") * (len(queries) + len(tests))
    yield from difference("groups", [one.lower() for one in groups], reached)
    budgets = snapshot.properties("budgets")
    yield from difference("budgets", len(budgets), 1 if snapshot.given("BUDGET_AMOUNT") else 0)
    for notification in (one for budget in budgets for one in budget["notifications"].values()):
        yield from difference("budget", notification["contactEmails"], [address])
    workbook = json.loads(snapshot.one("workbooks")["serializedData"])
    components = [one["id"] for one in snapshot.of("components")]
    yield from difference("workbook", workbook["fallbackResourceIds"], components)


def public_access_is_as_the_parameters_say(snapshot: Snapshot) -> Iterator[str]:
    addresses = re.findall(r"[\d.]+", snapshot.given("ADMIN_IP_ADDRESSES", "")) if snapshot.is_private else []
    access = "Disabled" if snapshot.is_private else "Enabled"
    for one in snapshot.properties("accounts"):
        yield from difference("account, publicNetworkAccess", one["publicNetworkAccess"], access)
    storage = snapshot.one("storageAccounts")
    public = "Enabled" if addresses else access
    yield from difference("storage, publicNetworkAccess", storage["publicNetworkAccess"], public)
    action = "Deny" if snapshot.is_private else "Allow"
    yield from difference("storage, defaultAction", storage["networkAcls"]["defaultAction"], action)
    allowed = [rule["value"] for rule in storage["networkAcls"]["ipRules"]]
    yield from difference("storage, ipRules", allowed, addresses)


def private_endpoints_reach_everything(snapshot: Snapshot) -> Iterator[str]:
    targets = [(one, group) for one in snapshot.ids("storageAccounts") for group in ("blob", "table")]
    targets += [(one, "account") for one in [*snapshot.ids("accounts"), *snapshot.existing]]
    endpoints = snapshot.properties("privateEndpoints")
    links = [one["privateLinkServiceConnections"][0]["properties"] for one in endpoints]
    found = sorted((one["privateLinkServiceId"].lower(), one["groupIds"][0]) for one in links)
    yield from difference("endpoints", found, sorted(targets) if snapshot.is_private else [])
    names = [f"{one['name']}/default" for one in snapshot.of("privateEndpoints")]
    yield from difference("names", [one["name"] for one in snapshot.of("privateDnsZoneGroups")], names)
    links = [one["resolutionPolicy"] for one in snapshot.properties("virtualNetworkLinks")]
    yield from difference("links", links, ["NxDomainRedirect"] * len(snapshot.of("privateDnsZones")))
    subnet = snapshot.one("sites")["virtualNetworkSubnetId"]
    yield from difference("app in the network", bool(subnet), snapshot.is_private)


RULES: Final[tuple[Callable[[Snapshot], Iterable[str]], ...]] = (
    ids_are_unique,
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
