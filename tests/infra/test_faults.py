"""Each check catches its fault: a copy of the project is broken in one place, and must not pass."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from pycep import BicepParser

from tests.infra.checks import CHECKS
from tests.infra.project import Project

ROOT = Path(__file__).parents[2]
_COPIED = ("azure.yaml", "docs/deploy.md", "docs/configuration.md", ".github/workflows/azure-dev.yml")


class Fault(NamedTuple):
    """In the file `path`, `old` becomes `new`; then the check must say something that matches `said`."""

    check: str
    path: str
    old: str
    new: str
    said: str


MAIN, API, STORAGE = "infra/main.bicep", "infra/app/api.bicep", "infra/app/storage.bicep"
OPENAI, ROLES, NETWORK = "infra/app/openai.bicep", "infra/app/roles.bicep", "infra/app/network.bicep"
LOGS, BUDGET, PARAMETERS = (
    "infra/app/monitoring.bicep",
    "infra/app/budget.bicep",
    "infra/main.parameters.json",
)
PIPELINE, AFTER_DEPLOY = ".github/workflows/azure-dev.yml", "infra/hooks/after_deploy.py"

FAULTS = {
    # Files that do not parse. Some of these one parser takes and only the other refuses.
    "a brace is missing": Fault(
        "files_parse", API, "properties: { reserved: true }\n}", "properties: {\n}", "api.bicep"
    ),
    "a quote is missing": Fault("files_parse", API, "kind: 'functionapp'", "kind: 'functionapp", "api.bicep"),
    "an interpolation does not end": Fault(
        "files_parse", MAIN, "'rg-${environmentName}'", "'rg-${environmentName'", "main"
    ),
    "a ternary has no second arm": Fault(
        "files_parse", MAIN, "'Disabled' : 'Enabled'", "'Disabled'", "main.bicep"
    ),
    "a file is no Bicep at all": Fault(
        "files_parse", BUDGET, "param name string", "name = string;", "budget.bicep"
    ),
    "an equals sign is missing": Fault("files_parse", MAIN, "var tags = {", "var tags {", "main.bicep"),
    # Names.
    "a symbol is misspelt": Fault("symbols_exist", MAIN, "tags: tags", "tags: tag", "tag is not declared"),
    "a function is misspelt": Fault("symbols_exist", MAIN, "toLower(", "toLowr(", "toLowr is not declared"),
    "a symbol is misspelt in an interpolation": Fault(
        "symbols_exist", MAIN, "'st${resourceToken}'", "'st${token}'", "token"
    ),
    "a parameter is not used": Fault(
        "everything_is_used", MAIN, "var tags", "param spare string = ''\nvar tags", "spare"
    ),
    "a variable is not used": Fault(
        "everything_is_used", API, "var olderPython", "var spare = 1\nvar olderPython", "spare"
    ),
    # Properties and values that Azure Resource Manager does not take: of each generation of the models.
    "a property is misspelt, deep down": Fault(
        "properties_are_known",
        API,
        "{ perInstanceConcurrency: per",
        "{ perInstanceConcurency: per",
        "no property perInst",
    ),
    "a property has a wrong case": Fault(
        "properties_are_known", API, "alwaysReady: alwaysReady", "alwaysready: alwaysReady", "alwaysready"
    ),
    "a property of the site is in the wrong place": Fault(
        "properties_are_known",
        API,
        "    httpsOnly: true\n    virt",
        "    ftpsState: 'Disabled'\n    virt",
        "ftpsState",
    ),
    "a property of an account is misspelt": Fault(
        "properties_are_known",
        OPENAI,
        "disableLocalAuth: true",
        "disableLocalAuths: true",
        "disableLocalAuths",
    ),
    "a flattened property is misspelt": Fault(
        "properties_are_known", LOGS, "WorkspaceResourceId:", "workspaceResourceID:", "workspaceResourceID"
    ),
    "a property of a workspace is misspelt": Fault(
        "properties_are_known", LOGS, "dailyQuotaGb:", "dailyQuotaGB:", "dailyQuotaGB"
    ),
    "a property in a variable is misspelt": Fault(
        "properties_are_known", API, "instanceCount: always", "instances: always", "no property instances"
    ),
    "a property in a loop of a variable is misspelt": Fault(
        "properties_are_known",
        STORAGE,
        "{ value: address, action",
        "{ val: address, action",
        "no property val",
    ),
    "a property of a subnet is misspelt": Fault(
        "properties_are_known",
        NETWORK,
        "addressPrefix: '10.0.2.0/24'",
        "adressPrefix: '10.0.2.0/24'",
        "adressPrefix",
    ),
    "a value is not in the enumeration": Fault(
        "properties_are_known", API, "'blobContainer'", "'blob'", "must be one of .'blobContainer'"
    ),
    "a value of the identity is not in the enumeration": Fault(
        "properties_are_known", API, "type: 'UserAssigned'\n", "type: 'User'\n", "not 'User'"
    ),
    "a value in one arm of a ternary is wrong": Fault(
        "properties_are_known", STORAGE, "(isClosed ? 'Disabled' :", "(isClosed ? 'Off' :", "not 'Off'"
    ),
    "an allowed value of a parameter is wrong": Fault(
        "properties_are_known",
        OPENAI,
        "@allowed(['Enabled', 'Disabled'])",
        "@allowed(['On', 'Off'])",
        "not 'On'",
    ),
    "a TLS version is wrong": Fault("properties_are_known", STORAGE, "'TLS1_2'", "'1.2'", "not '1.2'"),
    "a budget's grain is wrong": Fault("properties_are_known", BUDGET, "'Monthly'", "'Daily'", "not 'Daily'"),
    "a required property is missing": Fault(
        "properties_are_known", BUDGET, "    timeGrain: 'Monthly'\n", "", "BudgetProperties needs timeGrain"
    ),
    "a flattened required property is missing": Fault(
        "properties_are_known", ROLES, "    principalId: adminPrincipalId\n", "", "needs principalId"
    ),
    "a read-only property is set": Fault(
        "properties_are_known",
        LOGS,
        "    retentionInDays: 30",
        "    customerId: 'x'\n    retentionInDays: 30",
        "read-only",
    ),
    "a text stands where a number belongs": Fault(
        "properties_are_known", LOGS, "retentionInDays: 30", "retentionInDays: '30'", "takes int, not str"
    ),
    "a text stands where an object belongs": Fault(
        "properties_are_known",
        API,
        "runtime: { name: 'python', version: pythonVersion }",
        "runtime: 'python'",
        "takes an object",
    ),
    "a parameter has the wrong type": Fault(
        "properties_are_known",
        API,
        "param maximumInstanceCount int",
        "param maximumInstanceCount string",
        "takes int, and",
    ),
    "an API version does not exist": Fault(
        "properties_are_known",
        API,
        "Microsoft.Web/sites@2024-11-01",
        "Microsoft.Web/sites@2024-11-31",
        "no known API version",
    ),
    "a resource type does not exist": Fault(
        "properties_are_known",
        API,
        "Microsoft.Web/serverfarms@",
        "Microsoft.Web/serverFarm@",
        "no wire names",
    ),
    "a resource has no tags": Fault(
        "everything_is_tagged",
        API,
        "  tags: tags\n  kind: 'functionapp'\n",
        "  kind: 'functionapp'\n",
        "plan has no tags",
    ),
    # Parameters and their values.
    "a parameter has no value": Fault(
        "parameters_have_values",
        PARAMETERS,
        '    "logDailyGigabytes": { "value": "${LOG_DAILY_GB=1}" },\n',
        "",
        "has no value",
    ),
    "a parameter has a value but no default": Fault(
        "parameters_have_values",
        PARAMETERS,
        "${INSTANCE_MEMORY_MB=2048}",
        "${INSTANCE_MEMORY_MB}",
        "neither a default",
    ),
    "a value is for no parameter": Fault(
        "parameters_have_values", PARAMETERS, '"budgetAmount"', '"budgetLimit"', "no parameter budgetLimit"
    ),
    "a computed parameter is given": Fault(
        "parameters_have_values", PARAMETERS, '"budgetStart":', '"firstOfMonth":', "firstOfMonth is computed"
    ),
    "a variable is not explained": Fault(
        "variables_are_documented",
        "docs/deploy.md",
        "| `OPENAI_LOCATIONS` |",
        "| OPENAI_LOCATIONS |",
        "not explain OPENAI_LOC",
    ),
    "a variable of the hooks is not explained": Fault(
        "variables_are_documented",
        "docs/deploy.md",
        "| `EVENT_CODE` |",
        "| EVENT_CODE |",
        "not explain EVENT_CODE",
    ),
    "a variable is explained that nothing reads": Fault(
        "variables_are_documented",
        PARAMETERS,
        "${LOG_DAILY_GB=1}",
        "${LOG_GB=1}",
        "LOG_DAILY_GB, which nothing reads",
    ),
    "the pipeline drops a variable": Fault(
        "pipeline_passes_variables",
        PIPELINE,
        "      VNET_ENABLED: ${{ vars.VNET_ENABLED }}\n",
        "",
        "not pass VNET_ENABLED",
    ),
    "the pipeline passes an empty object": Fault(
        "pipeline_passes_variables", PIPELINE, " || '{}'", "", "must pass PROXY_SETTINGS"
    ),
    # Modules.
    "a module gets an unknown parameter": Fault(
        "modules_fit",
        MAIN,
        "dailyGigabytes: logDailyGigabytes",
        "dailyGB: logDailyGigabytes",
        "no parameter dailyGB",
    ),
    "a module does not get a parameter": Fault(
        "modules_fit", MAIN, "    pythonVersion: pythonVersion\n", "", "needs pythonVersion"
    ),
    "a module in a module does not get a parameter": Fault(
        "modules_fit", NETWORK, "    groupId: 'account'\n", "", "needs groupId"
    ),
    "a module has no file": Fault(
        "modules_fit", MAIN, "'app/budget.bicep'", "'app/budgets.bicep'", "there is no app/budgets"
    ),
    "an output of a module does not exist": Fault(
        "module_outputs_exist", MAIN, "identity.outputs.name", "identity.outputs.id", "no output id"
    ),
    "an output of a module in a loop does not exist": Fault(
        "module_outputs_exist", MAIN, "openAi[i].outputs.name", "openAi[i].outputs.title", "no output title"
    ),
    "an output of a conditional module does not exist": Fault(
        "module_outputs_exist",
        MAIN,
        "network!.outputs.appSubnetId",
        "network!.outputs.subnetId",
        "no output subnetId",
    ),
    # azd, hooks and settings.
    "an output that a hook reads is missing": Fault(
        "hook_outputs_exist",
        MAIN,
        "output SERVICE_API_URI ",
        "output SERVICE_API_URL ",
        "reads SERVICE_API_URI",
    ),
    "a hook reads what nobody gives": Fault(
        "hook_outputs_exist",
        AFTER_DEPLOY,
        '"AZURE_OPENAI_DEPLOYMENTS"',
        '"AZURE_OPENAI_MODELS"',
        "AZURE_OPENAI_MODELS",
    ),
    "a hook's script does not exist": Fault(
        "hooks_exist",
        "azure.yaml",
        "python3 infra/hooks/after_deploy.py",
        "python3 infra/hooks/deployed.py",
        "for posix",
    ),
    "a hook is not there for Windows": Fault(
        "hooks_exist", "azure.yaml", "    windows:\n", "    elsewhere:\n", "for windows"
    ),
    "the service is not tagged": Fault(
        "service_is_tagged", "azure.yaml", "\n  api:\n", "\n  web:\n", "azd-service-name: web"
    ),
    "a setting is neither set nor explained": Fault(
        "settings_are_set",
        "docs/configuration.md",
        "`PROXY_CACHE_SECONDS`",
        "`CACHE_SECONDS`",
        "PROXY_CACHE_SECONDS",
    ),
    "a setting that must be set is not": Fault(
        "settings_are_set", API, "PROXY_TABLES__tableServiceUri:", "PROXY_TABLES__uri:", "tableServiceUri"
    ),
    "a setting does not exist": Fault(
        "settings_suit_flex",
        API,
        "PROXY_TABLES__clientId:",
        "PROXY_TABLES__client:",
        "does not read PROXY_TABLES__client",
    ),
    "a setting is one that Flex refuses": Fault(
        "settings_suit_flex",
        API,
        "AZURE_CLIENT_ID:",
        "FUNCTIONS_WORKER_RUNTIME:",
        "does not take FUNCTIONS_WORKER",
    ),
    # Roles, keys, tables, concurrency.
    "a role's id is wrong": Fault(
        "roles_match", ROLES, "0a9a7e1f-b9d0", "0a9a7e1f-b9d1", "tableContributorRoleId"
    ),
    "two roles are swapped": Fault(
        "roles_match",
        ROLES,
        "// Storage Table Data Contributor",
        "// Monitoring Metrics Publisher",
        "tableContributor",
    ),
    "a role's name is not said": Fault(
        "roles_match",
        "infra/app/openai-role.bicep",
        "// Cognitive Services OpenAI User\n",
        "",
        "openAiUserRoleId",
    ),
    "the app does not wait for its roles": Fault(
        "roles_come_first",
        MAIN,
        "    openAiRoles\n    existing",
        "    existing",
        "does not wait for openAiRoles",
    ),
    "storage takes keys": Fault(
        "no_keys", STORAGE, "allowSharedKeyAccess: false", "allowSharedKeyAccess: true", "allowShared"
    ),
    "Azure OpenAI takes keys": Fault(
        "no_keys", OPENAI, "    disableLocalAuth: true\n", "", "disableLocalAuth: true"
    ),
    "logs take keys": Fault(
        "no_keys", LOGS, "DisableLocalAuth: true", "DisableLocalAuth: false", "DisableLocalAuth"
    ),
    "a key is put out": Fault(
        "no_keys",
        STORAGE,
        "= account.properties.primaryEndpoints.table",
        "= account.listKeys().keys[0].value",
        "listKeys",
    ),
    "a table is missing": Fault("tables_are_declared", STORAGE, ", 'usage']", "]", "usage is not declared"),
    "a table is misspelt": Fault("tables_are_declared", STORAGE, "'quotas'", "'quota'", "quota is none"),
    "concurrency is left to the platform": Fault(
        "concurrency_is_set",
        API,
        "triggers: { http: { perInstanceConcurrency: perInstanceConcurrency } }",
        "",
        "does not set",
    ),
    "concurrency is 1": Fault("concurrency_is_set", PARAMETERS, "CONCURRENCY=50", "CONCURRENCY=1", "not 50"),
    # What the host must know.
    "the host's body limit is not set": Fault(
        "host_settings_are_set",
        API,
        "  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: string(hostBodyBytes)\n",
        "",
        "must set FUNCTIONS_REQUEST_BODY",
    ),
    "Azure's home page is on": Fault(
        "host_settings_are_set", API, "Homepage: 'true'", "Homepage: 'false'", "must set AzureWebJobsDisable"
    ),
    "PROXY_SETTINGS replaces the host's settings": Fault(
        "host_settings_are_set",
        API,
        "moreSettings, hostSettings)",
        "hostSettings, moreSettings)",
        "must come after",
    ),
    "the defaults do not fit in an instance": Fault(
        "bodies_fit_in_memory", PARAMETERS, "CONCURRENCY=50", "CONCURRENCY=52", "52 bodies at once do not fit"
    ),
    "the app has another body limit": Fault(
        "bodies_fit_in_memory", MAIN, "'7500000'", "'4194304'", "than the app: 7500000"
    ),
    "what does not fit is accepted": Fault(
        "bodies_fit_in_memory",
        MAIN,
        "? fail('${memoryFault}. ${memoryRemedy}') :",
        "? maxBytesAtOnce :",
        "accepts values",
    ),
    "the limit is not the one that is checked": Fault(
        "bodies_fit_in_memory", MAIN, ": checkedHostBodyBytes", ": hostBodyBytes", "does not get the limit"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    broken = _copy(tmp_path)
    source = (broken / fault.path).read_text(encoding="utf-8")
    assert fault.old in source, "the fault cannot be planted any more: the file has changed"
    (broken / fault.path).write_text(source.replace(fault.old, fault.new), encoding="utf-8")

    said = list(CHECKS[fault.check](Project(broken)))

    assert any(re.search(fault.said, sentence) for sentence in said), said


def test_a_parser_alone_would_let_faults_pass(tmp_path: Path) -> None:
    """Why there are two: tree-sitter never raises, and pycep takes an interpolation that does not end."""
    path = tmp_path / "odd.bicep"
    path.write_text("var a = 'x${b'\n", encoding="utf-8")
    assert BicepParser().parse(text=path.read_text(encoding="utf-8"))["variables"]
    (tmp_path / "infra").mkdir()
    shutil.copy(path, tmp_path / "infra")
    assert list(CHECKS["files_parse"](Project(tmp_path)))


def test_every_check_has_a_fault() -> None:
    assert {fault.check for fault in FAULTS.values()} == set(CHECKS)


def _copy(target: Path) -> Path:
    shutil.copytree(ROOT / "infra", target / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _COPIED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target
