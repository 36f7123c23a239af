"""Microsoft's parser of KQL checks every query: of the alerts, the workbook and the documents."""

import json
import logging
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from shared.usage.call_log import CallLog
from tests.conftest import Stage, calls_in_log
from tools import node
from tools.processes import ROOT
from tools.simulator import Failure, RateLimited
from tools.tap import TableTap

TABLES: Final = {  # from the documents of Azure Monitor
    "traces": "timestamp: datetime, message: string, severityLevel: int, itemCount: int, customDimensions: dynamic,"
    " operation_Id: string, operation_Name: string, cloud_RoleInstance: string",
    "Usage": "TimeGenerated: datetime, DataType: string, Quantity: real, QuantityUnit: string, IsBillable: bool",
}
KQL: Final = Path(__file__).with_name("kql")
QUERIES: Final = ROOT / "infra" / "queries"
WORKBOOK: Final = json.loads((QUERIES / "workbook.json").read_text(encoding="utf-8"))


def all_queries() -> dict[str, str]:
    found = {path.name: path.read_text(encoding="utf-8") for path in QUERIES.glob("*.kql")}
    found |= {item["name"]: item["content"]["query"] for item in WORKBOOK["items"] if item["type"] == 3}
    for path in (ROOT / "docs").glob("*.md"):
        blocks = re.findall(r"(?s)```kusto\n(.*?)```", path.read_text(encoding="utf-8"))
        found |= {f"{path.name}, {number}": block for number, block in enumerate(blocks, 1)}
    return found


def check(queries: Sequence[str]) -> list[Any]:
    """What the parser says about each query, and the columns of its result. It is installed the first time."""
    node.install(KQL, "the parser of queries")
    content = json.dumps({"tables": TABLES, "queries": queries})
    command = ["node", str(KQL / "check.js")]
    done = subprocess.run(command, input=content, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


FAULTS: Final = {
    "itemCount": "items",
    "summarize": "summarise",
    "failures >= 5": "failures >=",
    "traces": "trace",
}


@pytest.fixture(scope="module")
def checked() -> tuple[dict[str, Any], list[Any]]:
    """The results of every query, and of queries with faults. The parser needs long to start."""
    queries = all_queries()
    faulty = [queries["failed-calls.kql"].replace(*fault) for fault in FAULTS.items()]
    results = check([*queries.values(), *faulty])
    return dict(zip(queries, results, strict=False)), results[len(queries) :]


def test_every_query_is_valid(checked: tuple[dict[str, Any], list[Any]]) -> None:
    results, _ = checked
    assert len(results) >= 13
    assert {name: result["problems"] for name, result in results.items() if result["problems"]} == {}
    assert results["log-volume.kql"]["columns"] == ["megabytes"], "the alert reads this column"


def test_the_parser_finds_faults(checked: tuple[dict[str, Any], list[Any]]) -> None:
    _, results = checked
    assert all(result["problems"] for result in results) and len(results) == len(FAULTS)


async def test_queries_read_what_the_app_writes(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The members of a call, its endings, and the texts of the messages, from a log that the app writes."""
    caplog.set_level(logging.INFO)
    for behaviour in (RateLimited(retry_after_ms=10), Failure(401)):
        model = await stage.add_deployment()
        stage.simulator.always(model, behaviour)
        event = await stage.add_event(models=(model,), default_model=model)
        for user in ("ann", "bob"):
            assert (await stage.chat(event, user)).status in {429, 502}
    async with TableTap().open() as tap, stage.instance(PROXY_TABLES=tap.connection_string) as cut_off:
        assert (await cut_off.chat()).status == 503

    log = CallLog()
    log.count_refusal("rate_limited")
    log.close()
    assert any(message.startswith("refused {") for message in caplog.messages)
    calls = calls_in_log(caplog, stage)
    text = "".join(all_queries().values())
    assert set(re.findall(r"\bcall\.(\w+)", text)) <= calls[0].keys()
    assert {"upstream_busy", "upstream_error"} <= {call["ending"] for call in calls}
    assert written(caplog, "refused-by-deployment.kql", logging.ERROR)
    assert written(caplog, "tables-unavailable.kql", logging.WARNING)
    (cooling,) = re.findall(r"parse message with ([^|]+)", text)
    pattern = ".+".join(map(re.escape, re.findall(r'"([^"]+)"', cooling)))
    assert any(re.fullmatch(pattern, message) for message in caplog.messages)


def written(caplog: pytest.LogCaptureFixture, query: str, level: int) -> list[str]:
    """The messages of this level that the conditions of the query find."""
    parts = re.findall(r'message (?:contains|startswith) "([^"]+)"', all_queries()[query])
    messages = [record.getMessage() for record in caplog.records if record.levelno == level]
    return [one for one in messages if any(part in one for part in parts)]
